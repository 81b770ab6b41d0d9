# People who ask, and workloads that fetch what they are eligible for. What somebody
# may have is the business of roles; this only opens the door to asking.
# pim/request/* ends with a slash on purpose: see docs/policies.md.
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
path "pim/requests/+/extend" {
  capabilities = ["update"]
}
path "pim/creds/*" {
  capabilities = ["read", "update"]
}
path "pim/grants/mine/" {
  capabilities = ["list"]
}
path "pim/grants/*" {
  capabilities = ["read"]
}
path "pim/grants/+/revoke" {
  capabilities = ["update"]
}
# Emergencies: for whom, the roles say. See docs/break-glass.md.
path "pim/break-glass/*" {
  capabilities = ["update"]
}
# The revocation lists that SSH servers fetch are no secret.
path "pim/ssh/*" {
  capabilities = ["read"]
}
