#!/usr/bin/env bash
# Runs every fuzz target for $FUZZTIME (10s by default), one after the other. What a
# target finds is kept under testdata/fuzz beside it: commit it with the fix, and every
# go test runs it from then on. Arguments are regular expressions: only targets that
# match one of them run.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off
time=${FUZZTIME:-10s}

targets=$(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' . | sed -E 's|^(.*)/[^/]+:func (.*)$|\1 \2|' | sort -u)
[[ -n $targets ]] || { echo "fuzz: no targets" >&2; exit 1; }
ran=0
while read -r dir name; do
	if (($#)) && ! grep -qE "$(IFS='|'; echo "$*")" <<<"$dir $name"; then
		continue
	fi
	# What a run finds interesting without being wrong stays in Go's own cache.
	if ! out=$(go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 5s "$dir" 2>&1); then
		printf '%s\nfuzz: %s of %s failed\n' "$out" "$name" "$dir" >&2
		exit 1
	fi
	printf '%-28s %-28s %s\n' "$dir" "$name" "$(grep -oE 'execs: [0-9]+' <<<"$out" | tail -n 1)"
	ran=$((ran + 1))
done <<<"$targets"
((ran)) || { echo "fuzz: no target matches" >&2; exit 1; }
echo "fuzz: ok, $ran targets for $time each"
