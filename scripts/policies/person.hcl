# What everybody gets: to ask, to see their own requests, and to decide. Whether
# somebody may ask for or decide on anything is the role's business, not this file's.
path "pim/eligible/*" {
  capabilities = ["read", "list"]
}
path "pim/request/*" {
  capabilities = ["update"]
}
path "pim/requests/mine/" {
  capabilities = ["list"]
}
path "pim/requests/*" {
  capabilities = ["read", "delete"]
}
path "pim/approvals/*" {
  capabilities = ["read", "update", "list"]
}
path "pim/creds/*" {
  capabilities = ["read", "update"]
}
path "pim/grants/*" {
  capabilities = ["read", "list"]
}
path "pim/grants/+/revoke" {
  capabilities = ["update"]
}
