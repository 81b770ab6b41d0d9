# People who decide. On what, the roles say; nobody decides on their own request.
path "pim/approvals/*" {
  capabilities = ["read", "update", "list"]
}
path "pim/requests/+" {
  capabilities = ["read"]
}
path "pim/requests/+/wait" {
  capabilities = ["read"]
}
path "pim/grants/+" {
  capabilities = ["read"]
}
path "pim/grants/+/revoke" {
  capabilities = ["update"]
}
# What they look back at: emergencies, and who may still have a role.
path "pim/reviews/*" {
  capabilities = ["read", "update", "list"]
}
path "pim/ssh/*" {
  capabilities = ["read"]
}
