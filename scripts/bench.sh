#!/usr/bin/env bash
# Measures the plugin beside a floor, a probe and the host's own engines on real
# hosts, and writes raw data, tables and plots to dist/bench/<time>/. A whole run,
# about a quarter of an hour on two idle cores, also renews docs/performance.md and
# its plots. Nothing else should run on the machine: numbers are quoted as ratios of
# rounds that were measured one after the other, but a busy machine still widens
# their spread.
#
#   ROUNDS=5       rounds of each case, interleaved
#   SLICE_MS=1000  length of each measurement
#   CLIENTS=1,8,64 clients of the closed loops
#   LARGE=100000   stored requests of the large cases;  FULL=1 adds 1000000
#   DUE=10000      credentials that are due at once
#   ONLY=regexp    parts: memory-creds memory-roles raft-creds raft-start scale-stored
#                  scale-ends peers-aws peers-kubernetes
#   INTO=dir       adds to the results of an earlier run
#   PIM_BENCH_PROFILES=dir  processor profiles of the plugin while credentials are read
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export GOWORK=off PIM_BENCH=full
PIM_BENCH_DIR=${INTO:-$root/dist/bench/$(date -u +%Y%m%dT%H%M%SZ)}
mkdir -p "$PIM_BENCH_DIR"
PIM_BENCH_DIR=$(cd "$PIM_BENCH_DIR" && pwd)
export PIM_BENCH_DIR

scripts/build.sh bench plain
for tool in host.sh cluster.sh engines.sh "test-aws.sh --tools"; do
	# shellcheck disable=SC2086 # a tool and its argument
	scripts/$tool >/dev/null
done
(cd tests/bench && go test -count=1 -timeout 3h -v -run '^TestBench$' .) | tee "$PIM_BENCH_DIR/log.txt"

if [[ -n ${ONLY:-} && -z ${INTO:-} ]]; then
	echo "bench: a part was measured; docs/performance.md stays as it is"
	exit
fi
page=docs/performance.md
mkdir -p docs/img
rm -f docs/img/bench-*.svg
cp "$PIM_BENCH_DIR"/bench-*.svg docs/img/
awk -v tables="$PIM_BENCH_DIR/tables.md" '
	/<!-- bench:begin -->/ { print; print ""; while ((getline line < tables) > 0) print line; skip = 1 }
	/<!-- bench:end -->/   { skip = 0 }
	!skip
' "$page" >"$PIM_BENCH_DIR/page.md"
cp "$PIM_BENCH_DIR/page.md" "$page"
echo "bench: $page and docs/img are renewed; raw data is in ${PIM_BENCH_DIR#"$root"/}"
