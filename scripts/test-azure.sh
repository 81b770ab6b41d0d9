#!/usr/bin/env bash
# Tests the Azure provider: the conformance suite and the tests of outcomes on
# the cloud in memory, whose calls are held to Microsoft's own descriptions; and
# that those descriptions are still what Microsoft's packages say. Needs python3
# with pip for the second part. Arguments go to go test.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off
version=1.65.0

go test -race -shuffle=on -count=1 "$@" ./internal/provider/azure/...

if ! python3 -m pip --version >/dev/null 2>&1; then
	echo "python3 with pip is missing: apt-get install python3-pip" >&2
	exit 1
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m pip download --quiet --no-deps --dest "$dir" "msgraph-sdk==$version"
python3 -m zipfile -e "$dir"/msgraph_sdk-*.whl "$dir/client"
python3 tests/azure/graph_facts.py "$dir/client" | diff -u internal/provider/azure/testdata/graph.json -
echo "Graph: the facts that calls are held to are those of msgraph-sdk $version"
