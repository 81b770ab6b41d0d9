# The privileged access of the demo. Nobody has it; a role of pim hands it out.
path "secret/data/prod/*" {
  capabilities = ["read"]
}
