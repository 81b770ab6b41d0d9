#!/usr/bin/env bash
# make dev: the set-up of the demo, left running until Ctrl-C, to try things out by hand.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

set_up

heading "Running until Ctrl-C. In other terminals:"
cat <<TEXT
  export ${env_prefix}ADDR=$VAULT_ADDR
  alias $cli=$host_bin          # if it is not on your PATH

  export ${env_prefix}TOKEN=${token[alice]}   # alice, an engineer
  $cli read  pim/creds/prod-read                  # tells what to do
  $cli write pim/request/prod-read justification="order 4711 is stuck"

  export ${env_prefix}TOKEN=${token[bob]}   # bob, a lead
  $cli list  pim/approvals/
  $cli read  pim/approvals/ID
  $cli write pim/approvals/ID decision=approve digest=DIGEST

  export ${env_prefix}TOKEN=root   # the operator
  $cli path-help pim/
  $cli read  pim/roles/prod-read
  $cli lease revoke -prefix pim/creds/prod-read

  host log:   $work/host.log
  audit file: $work/audit.log
TEXT
wait "$host_pid"
