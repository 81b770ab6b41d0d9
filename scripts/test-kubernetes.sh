#!/usr/bin/env bash
# Tests the Kubernetes provider: in memory, on a real kube-apiserver and etcd
# (scripts/cluster.sh), and through a real host with the plugin as a process.
# Prints what was measured at the end. PIM_TEST_LONG=1 adds the windows of tokens,
# which the cluster makes no shorter than ten minutes. Arguments go to go test, such
# as -run 'TestConformance'.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off
KUBE_BIN_DIR=$(scripts/cluster.sh)
export KUBE_BIN_DIR

go test -race -shuffle=on ./internal/provider/kubernetes/

out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
(cd tests && go test -race -shuffle=on -count=1 -timeout 30m -v "$@" ./kubernetes/) >"$out" 2>&1 || status=$?
if ((status)); then
	cat "$out"
	exit "$status"
fi
grep -E '^ *--- (PASS|FAIL): Test[A-Za-z]+ ' "$out"
printf '\nMeasured:\n'
sed -nE 's/^ *[a-z_]+\.go:[0-9]+: MEASURED /  /p' "$out"
tail -n 1 "$out"
