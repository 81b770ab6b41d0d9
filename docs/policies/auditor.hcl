# Reads everything, changes nothing, and gets no credential.
path "pim/audit/*" {
  capabilities = ["read", "list"]
}
path "pim/config" {
  capabilities = ["read"]
}
path "pim/config/confirm" {
  capabilities = ["read"]
}
path "pim/targets/*" {
  capabilities = ["read", "list"]
}
path "pim/roles/*" {
  capabilities = ["read", "list"]
}
path "pim/holds/*" {
  capabilities = ["read", "list"]
}
path "pim/revoke/*" {
  capabilities = ["read"]
}
path "pim/tidy-status" {
  capabilities = ["read"]
}
path "pim/orphans/*" {
  capabilities = ["read", "list"]
}
path "pim/campaigns/*" {
  capabilities = ["read", "list"]
}
path "pim/events/*" {
  capabilities = ["read", "list"]
}
path "pim/reports/*" {
  capabilities = ["read", "list"]
}
path "pim/ssh/*" {
  capabilities = ["read"]
}
