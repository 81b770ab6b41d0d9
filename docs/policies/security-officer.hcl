# Stops things: pulls the kill switch, sets and lifts holds, and sees everything that
# helps to decide about that. Configures nothing and gets no credential.
path "pim/revoke" {
  capabilities = ["update"]
}
path "pim/revoke/*" {
  capabilities = ["read"]
}
# The host looks for pim/holds/ under pim/holds first, so list stands here too.
path "pim/holds" {
  capabilities = ["update", "list"]
}
path "pim/holds/*" {
  capabilities = ["read", "update", "delete", "list"]
}
path "pim/audit/*" {
  capabilities = ["read", "list"]
}
path "pim/audit/simulate/*" {
  capabilities = ["update"]
}
path "pim/config" {
  capabilities = ["read"]
}
path "pim/targets/" {
  capabilities = ["list"]
}
path "pim/targets/+" {
  capabilities = ["read"]
}
path "pim/roles/*" {
  capabilities = ["read", "list"]
}
# Edits of others, where edit_sod makes them wait, and the end of everything of one
# role or target.
path "pim/config/confirm" {
  capabilities = ["read", "update", "delete"]
}
path "pim/roles/+/confirm" {
  capabilities = ["read", "update", "delete"]
}
path "pim/targets/+/confirm" {
  capabilities = ["read", "update", "delete"]
}
path "pim/roles/+/revoke" {
  capabilities = ["update"]
}
path "pim/targets/+/revoke" {
  capabilities = ["update"]
}
path "pim/orphans/*" {
  capabilities = ["read", "list"]
}
# What happened, who has heard of it, and what has to be looked back at.
path "pim/events/*" {
  capabilities = ["read", "update", "delete", "list"]
}
path "pim/reviews/*" {
  capabilities = ["read", "update", "list"]
}
# Reviews of who may have a role. The host looks for pim/campaigns/ under
# pim/campaigns first, so list stands here too.
path "pim/campaigns" {
  capabilities = ["update", "list"]
}
path "pim/campaigns/*" {
  capabilities = ["read", "update", "delete", "list"]
}
path "pim/reports/*" {
  capabilities = ["read", "list"]
}
path "pim/ssh/*" {
  capabilities = ["read"]
}
