#!/usr/bin/env bash
# Prints a directory that holds the secrets engines of others that make bench sets
# beside pim: plugins in the versions that tests/engines pins, built once and kept in
# the cache. The directory goes to stdout, everything else to stderr.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
engines_dir=$root/tests/engines
host_dir=$root/tests/host
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pim

say() { printf '%s\n' "$*" >&2; }

command -v go >/dev/null || { say "engines: go is missing: https://go.dev/doc/install"; exit 1; }
export CGO_ENABLED=0 GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false"

# A change of what tests/engines or tests/host pins is another directory.
hash=$(cat "$engines_dir"/go.{mod,sum} "$host_dir"/go.{mod,sum} | sha256sum | cut -c1-12)
out=$cache/engines-$hash-$(go env GOOS)-$(go env GOARCH)
mkdir -p "$cache"
exec 9>"$out.lock"
flock 9 # the second of two builders waits for the first and then finds its result
if [[ ! -d $out ]]; then
	work=$(mktemp -d "$out.build.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	cd "$engines_dir"
	say "engines: building the official engines once, about a minute on two cores; kept in $out"
	# Every tool of tests/engines/go.mod is one engine.
	go list tool | xargs go build -trimpath -ldflags '-s -w' -o "$work/" 2> >(grep -v '^go: downloading ' >&2)
	# The host's own engine for AWS in a process of its own, as pim is.
	cd "$host_dir"
	go build -trimpath -ldflags '-s -w' -o "$work/vault-plugin-secrets-aws" github.com/hashicorp/vault/builtin/logical/aws/cmd/aws \
		2> >(grep -v '^go: downloading ' >&2)
	chmod 0755 "$work"
	mv -T "$work" "$out"
fi
printf '%s\n' "$out"
