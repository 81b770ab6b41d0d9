#!/usr/bin/env bash
# Builds the plugin. Usage: scripts/build.sh [plain|faults|race]... (plain if none is named)
#   plain   bin/plugins/        what is released: static, no C compiler needed
#   faults  bin/plugins-faults/ with the crash hooks that tests/ switch on; never released
#   race    bin/plugins-race/   with the race detector; needs a C compiler
#   bench   bin/plugins-bench/  with a target that costs nothing, and counters; never released
# Each directory holds nothing but the plugin, because a host in development mode
# takes every file in its plugin directory for one.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=vault-plugin-secrets-pim
module=github.com/vault-pim/$name
export GOWORK=off
from=$root main=./cmd/$name

build() {
	local dir=$root/bin/$1 cgo=$2 work
	shift 2
	mkdir -p "$dir"
	work=$(mktemp -d "$root/bin/.build.XXXXXX")
	(
		trap 'rm -rf "$work"' EXIT
		cd "$from"
		CGO_ENABLED=$cgo go build -trimpath -buildvcs=false \
			-ldflags "-s -w -X $module.Version=$("$root/scripts/version.sh")" "$@" -o "$work/$name" "$main"
		# A host may be running the old file, so it is replaced and not overwritten,
		# and left alone when nothing changed.
		cmp -s "$work/$name" "$dir/$name" || mv -f "$work/$name" "$dir/$name"
	)
	printf 'built %s\n' "${dir#"$root"/}/$name"
}

mkdir -p "$root/bin"
exec 9>"$root/bin/.lock"
flock 9
for variant in "${@:-plain}"; do
	case $variant in
	plain) build plugins 0 ;;
	faults) build plugins-faults 0 -tags faults ;;
	bench) from=$root/tests/bench main=./plugin build plugins-bench 0 -tags bench ;;
	race)
		command -v gcc >/dev/null || { echo "the race detector needs a C compiler: apt-get install gcc libc6-dev" >&2; exit 1; }
		build plugins-race 1 -race
		;;
	*) echo "usage: scripts/build.sh [plain|faults|race]..." >&2; exit 1 ;;
	esac
done
