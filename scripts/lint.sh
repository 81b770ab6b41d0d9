#!/usr/bin/env bash
# golangci-lint, at the version that tools/go.mod pins, over all modules that hold
# our code. The configuration itself is checked first: a setting in the wrong place
# is otherwise ignored without a word.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
export GOWORK=off

lint() { go tool -modfile="$root/tools/go.mod" golangci-lint "$@"; }

lint config verify --config "$root/.golangci.yml"
for module in . tests tests/bench; do
	(cd "$module" && lint run --config "$root/.golangci.yml" "$@" ./...)
done
echo "lint: ok"
