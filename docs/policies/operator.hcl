# Runs the engine: settings, targets with their root credentials, roles, upkeep, and
# the start afresh after a restore. Sees no requests, and cannot decide on any.
path "pim/config" {
  capabilities = ["read", "update"]
}
# An edit of somebody else, where edit_sod makes it wait; pim refuses one's own.
path "pim/config/confirm" {
  capabilities = ["read", "update", "delete"]
}
path "pim/targets/*" {
  capabilities = ["read", "update", "delete", "list"]
}
path "pim/roles/*" {
  capabilities = ["read", "update", "delete", "list"]
}
path "pim/tidy" {
  capabilities = ["update"]
}
path "pim/tidy-status" {
  capabilities = ["read"]
}
path "pim/rotate-epoch" {
  capabilities = ["update"]
}
path "pim/holds/*" {
  capabilities = ["read", "list"]
}
path "pim/orphans/*" {
  capabilities = ["read", "list"]
}
path "pim/orphans/sweep" {
  capabilities = ["read", "update"]
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
