#!/usr/bin/env bash
# make dev: the set-up of the demo, left running until Ctrl-C, to try things out by hand.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

set_up

heading "Running until Ctrl-C. In another terminal:"
# (command -v would find the function of that name)
type -P "$cli" >/dev/null || printf '  alias %s=%s\n' "$cli" "$host_bin"
cat <<TEXT
  export ${env_prefix}ADDR=$VAULT_ADDR

  # alice, who may ask:
  export ${env_prefix}TOKEN=${token[alice]}
  $cli read  pim/creds/prod-read        # says what to do
  $cli write pim/request/prod-read justification="order 4711 is stuck"

  # bob, who approves:
  export ${env_prefix}TOKEN=${token[bob]}
  $cli list  pim/approvals/
  $cli read  pim/approvals/ID           # ends with the command to approve

  # the operator:
  export ${env_prefix}TOKEN=root
  $cli path-help pim/
  $cli read  pim/roles/prod-read
  $cli lease revoke -prefix pim/creds/prod-read

  host log:   $work/host.log
  audit file: $work/audit.log
TEXT
trap 'exit 0' INT TERM
wait "$host_pid"
