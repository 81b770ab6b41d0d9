#!/usr/bin/env bash
# Attacks on a real host, with real tokens: Vault, or OpenBao when $BAO_BIN names it.
# The table goes to dist/attacks.md and to standard output. Arguments go to go test,
# such as -run 'TestSpellings'. ATTACKS_FLOOD is how many requests fill a mount.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off ATTACKS_FLOOD=${ATTACKS_FLOOD:-10000}

scripts/build.sh plain race faults
scripts/host.sh >/dev/null
rm -f dist/attacks.md
code=0
(cd tests && go test -race -shuffle=on -count=1 -timeout 20m "$@" ./attacks/) || code=$?
[[ ! -f dist/attacks.md ]] || cat dist/attacks.md
exit "$code"
