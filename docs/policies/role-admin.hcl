# Keeps the roles of one team, team-a, on the targets of that team and on no others.
# A role of another name, or one that would move to another target, is refused by the
# host itself. The target's allowed_roles=team-a-* is the same fence from its side.
path "pim/roles/" {
  capabilities = ["list"]
}
path "pim/roles/team-a-*" {
  capabilities = ["read", "update", "delete"]
  allowed_parameters = {
    "target" = ["team-a-*"]
    "*"      = []
  }
}
path "pim/audit/simulate/team-a-*" {
  capabilities = ["update"]
}
path "pim/targets/" {
  capabilities = ["list"]
}
path "pim/targets/team-a-*" {
  capabilities = ["read"]
}
path "pim/ssh/*" {
  capabilities = ["read"]
}
