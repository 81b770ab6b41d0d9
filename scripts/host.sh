#!/usr/bin/env bash
# Prints the path of a host binary (Vault or OpenBao; the same file is server and
# CLI). First match wins:
#   1. $BAO_BIN or $VAULT_BIN
#   2. bao or vault on PATH, unless PIM_HOST=pinned
#   3. the Vault that tests/host pins, built once and kept in the cache
# The path goes to stdout, everything else to stderr.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
host_dir=$root/tests/host

say() { printf '%s\n' "$*" >&2; }

chosen() {
	local bin=${BAO_BIN:-${VAULT_BIN:-}}
	if [[ -n $bin ]]; then
		[[ -x $bin ]] || { say "host: $bin is not an executable file"; exit 1; }
		printf '%s\n' "$bin"
		return 0
	fi
	[[ ${PIM_HOST:-} == pinned ]] && return 1
	command -v bao || command -v vault
}

# A change of any file below tests/host is another host.
cache_file() {
	local hash
	hash=$(cd "$host_dir" && cat go.mod go.sum ./*.go | sha256sum | cut -c1-12)
	printf '%s/pim/host-%s-%s-%s/vault\n' \
		"${XDG_CACHE_HOME:-$HOME/.cache}" "$(pinned_version)" "$hash" "$(go env GOOS)-$(go env GOARCH)"
}

pinned_version() { sed -nE 's/.*github.com\/hashicorp\/vault (v[^ ]+).*/\1/p' "$host_dir/go.mod"; }

# Counts the package names that go build -v prints; passes on every other line.
progress() {
	local total=$1 done=0 line
	while IFS= read -r line; do
		if [[ $line == *[[:space:]]* || $line != */* && $line != [a-z]* ]]; then
			[[ $line == 'go: downloading '* ]] || say "$line"
			continue
		fi
		done=$((done + 1))
		if [[ -t 2 ]]; then
			printf '\r  %d of at most %d packages compiled ' "$done" "$total" >&2
		elif ((done % 100 == 0)); then
			say "  $done of at most $total packages compiled"
		fi
	done
	[[ ! -t 2 ]] || printf '\n' >&2
}

build() {
	local out=$1 dir work total
	dir=$(dirname "$out")
	work=$(mktemp -d "$dir/build.XXXXXX")
	# shellcheck disable=SC2064 # the directory of this build, not of a later one
	trap "rm -rf '$work'" EXIT
	cd "$host_dir"
	say "host: building $(basename "$dir") once, about five minutes on two cores; it is kept in $dir"
	local flags=(-trimpath -buildvcs=false -tags minimal)
	total=$(go list "${flags[@]}" -deps . | wc -l)
	go build -v "${flags[@]}" -ldflags '-s -w' -o "$work/vault" . 2> >(progress "$total")
	mv "$work/vault" "$out"
}

# The second of two builders waits for the first and then finds its result.
build_once() {
	local out=$1
	mkdir -p "$(dirname "$out")"
	exec 9>"$(dirname "$out")/lock"
	if ! flock --nonblock 9; then
		say "host: another build of the host is running, waiting for it"
		flock 9
	fi
	[[ -x $out ]] || (build "$out")
}

if chosen; then exit 0; fi
export CGO_ENABLED=0 GOWORK=off GOFLAGS="-mod=readonly"
out=$(cache_file)
[[ -x $out ]] || build_once "$out"
printf '%s\n' "$out"
