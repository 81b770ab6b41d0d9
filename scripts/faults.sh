#!/usr/bin/env bash
# The whole list of faults (docs/faults.md) on real host processes: single nodes and
# three with Raft, the plugin as processes, a journaling target as the witness. At most
# 20 minutes; FULL=1 is the long soak. BAO_BIN or VAULT_BIN names another host.
# The rows are left in dist/faults/<host>.md and printed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
export GOWORK=off

if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && ! command -v initdb >/dev/null; then
	echo "faults: PostgreSQL is missing, install it with: apt-get install postgresql" >&2
	exit 1
fi
scripts/build.sh race faults
host=$("$root/scripts/host.sh")
name=$("$host" version | awk '{ sub(/,$/, "", $2); print $1 " " $2 }')
out=$root/dist/faults/${name// /-}
mkdir -p "${out%/*}"
rm -f "$out.jsonl"
export PIM_FAULTS_REPORT=$out.jsonl

bound=20m histories=10
if [[ ${FULL:-} == 1 ]]; then
	bound=24h histories=1000
fi

failed=0
cd tests
# One package after the other: each starts hosts of its own.
go test -race -tags faults -count=1 -p 1 -timeout "$bound" ./faults/... || failed=1
# R19 is a test of the acceptance suite: concurrent histories of one request against a
# sequential model.
verdict=false
go test -race -count="$histories" -timeout "$bound" -run 'TestConcurrentCallsHaveAnOrder' ./acceptance || { failed=1 verdict=true; }
printf '{"case":"R19","what":"concurrent approve, deny, cancel, revoke, look and creds on one request","host":"%s","runs":%d,"failed":%s,"note":"runs are test runs of 12 histories each; linearizable"}\n' \
	"$name" "$histories" "$verdict" >>"$PIM_FAULTS_REPORT"

go run ./faults/table "$PIM_FAULTS_REPORT" | tee "$out.md" || failed=1
if ((failed)); then
	echo "faults: FAILED, see above" >&2
	exit 1
fi
echo "faults: ok, the table is in ${out#"$root"/}.md"
