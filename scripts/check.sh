#!/usr/bin/env bash
# The quick checks, meant for every commit: formatting, go vet, staticcheck and the
# import arrows, over all modules that hold our code.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
export GOWORK=off

tool() { go tool -modfile="$root/tools/go.mod" "$@"; }

unformatted=$(tool gofumpt -l .)
if [[ -n $unformatted ]]; then
	printf 'not formatted as gofumpt does it (go tool -modfile=tools/go.mod gofumpt -w FILE):\n%s\n' "$unformatted" >&2
	exit 1
fi

# tests/host is left out: analysing it means compiling all of Vault once more.
for module in . tests; do
	(
		cd "$module"
		go vet ./...
		tool staticcheck ./...
	)
done
# The crash hooks are compiled only under their tag.
go vet -tags faults ./...

# The test asks go list, which the test cache does not see.
(cd tests && go test -count=1 ./arch)
echo "check: ok"
