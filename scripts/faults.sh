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

bound=1200 histories=5 tags=faults # seconds, test runs, build tags
if [[ ${FULL:-} == 1 ]]; then
	bound=86400 histories=200 tags=faults,soak
fi

failed=0 SECONDS=0 # builds do not count
cd tests
# suite PACKAGE FLAGS... runs one package within what is left of the time.
suite() {
	local left=$((bound - SECONDS)) package=$1
	shift
	((left > 0)) && go test -race -tags "$tags" -timeout "${left}s" "$@" "$package" || failed=1
}
suite ./faults/cases -count=1
suite ./faults -count=1
# R19 is a test of the acceptance suite: concurrent histories of one request against a
# sequential model.
before=$failed failed=0
suite ./acceptance -count="$histories" -run TestConcurrentCallsHaveAnOrder
printf '{"case":"R19","what":"concurrent approve, deny, cancel, revoke, look and creds on one request","host":"%s","runs":%d,"failed":%s,"note":"runs are histories of 22 calls, all with a sequential order"}\n' \
	"$name" "$((histories * 12))" "$( ((failed)) && echo true || echo false)" >>"$PIM_FAULTS_REPORT"
((before)) && failed=1

go run ./faults/table "$PIM_FAULTS_REPORT" | tee "$out.md" || failed=1
if ((failed)); then
	echo "faults: FAILED, see above" >&2
	exit 1
fi
echo "faults: ok, the table is in ${out#"$root"/}.md"
