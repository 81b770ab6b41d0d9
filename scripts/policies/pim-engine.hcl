# The login of the engine itself: it makes tokens through one token role, looks at
# what came back, and ends it. It cannot read any secret.
path "auth/token/create/pim-token" {
  capabilities = ["update"]
}
path "auth/token/lookup-accessor" {
  capabilities = ["update"]
}
path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}
# These two only make pim/targets/local/check say more.
path "auth/token/roles/pim-token" {
  capabilities = ["read"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
