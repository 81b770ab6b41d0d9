#!/usr/bin/env bash
# Prints a directory that holds the secrets engines of others that make bench sets
# beside pim: plugins in the versions that tests/engines pins, built once and kept in
# the cache. The directory goes to stdout, everything else to stderr.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
engines_dir=$root/tests/engines
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pim

say() { printf '%s\n' "$*" >&2; }

command -v go >/dev/null || { say "engines: go is missing: https://go.dev/doc/install"; exit 1; }
export CGO_ENABLED=0 GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false"

# A change of what tests/engines pins is another directory.
hash=$(cd "$engines_dir" && cat go.mod go.sum | sha256sum | cut -c1-12)
out=$cache/engines-$hash-$(go env GOOS)-$(go env GOARCH)
mkdir -p "$cache"
exec 9>"$out.lock"
flock 9 # the second of two builders waits for the first and then finds its result
if [[ ! -d $out ]]; then
	work=$(mktemp -d "$out.build.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	cd "$engines_dir"
	say "engines: building the official Kubernetes engine once, about a minute on two cores; kept in $out"
	# Every tool of tests/engines/go.mod is one engine.
	go list tool | xargs go build -trimpath -ldflags '-s -w' -o "$work/" 2> >(grep -v '^go: downloading ' >&2)
	chmod 0755 "$work"
	mv -T "$work" "$out"
fi
printf '%s\n' "$out"
