# The engine's own login at the host, for a target with token_role=pim-token and
# role_name=pim whose roles read database/creds/reader or hand out tokens. It has no
# path of pim, and cannot read what it brokers: the tokens of the token role do.
# targets/:name/check prints exactly this for the target and the roles at hand.
path "auth/token/create/pim-token" {
  capabilities = ["update"]
}
path "auth/token/lookup-accessor" {
  capabilities = ["update"]
}
path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}
path "sys/leases/revoke/database/creds/reader/*" {
  capabilities = ["update"]
}
# Without these, check and role writes say less, and the secret_id cannot be rotated.
path "auth/token/roles/pim-token" {
  capabilities = ["read"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
path "database/creds/reader" {
  capabilities = ["list"]
}
path "auth/approle/role/pim/secret-id" {
  capabilities = ["update", "list"]
}
path "auth/approle/role/pim/secret-id/lookup" {
  capabilities = ["update"]
}
path "auth/approle/role/pim/secret-id/destroy" {
  capabilities = ["update"]
}
path "auth/approle/role/pim/secret-id-accessor/lookup" {
  capabilities = ["update"]
}
path "auth/approle/role/pim/secret-id-accessor/destroy" {
  capabilities = ["update"]
}
