#!/usr/bin/env bash
# Tests the gcp provider: in memory, and through a real host with the plugin as a
# process. Google is a fake of our own whose every call is judged by the discovery
# documents inside google.golang.org/api; Google's own libraries for Python and an
# emulator by others (drongo) have their say too. Nothing leaves this machine.
# Arguments go to go test, such as -run 'TestKilled'.
#
# scripts/test-gcp.sh --tools only installs the Python tools, once, into the cache,
# and prints where.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export GOWORK=off
pins=$root/tests/gcp/tools/requirements.txt

say() { printf '%s\n' "$*" >&2; }

prerequisites() {
	python3 -c 'import ensurepip, venv' 2>/dev/null && return
	local run=(env DEBIAN_FRONTEND=noninteractive)
	if ((EUID)); then
		command -v sudo >/dev/null || { say "as root: apt-get install python3 python3-venv"; exit 1; }
		run=(sudo -n "${run[@]}")
	fi
	command -v apt-get >/dev/null || { say "install these first: python3 python3-venv"; exit 1; }
	"${run[@]}" apt-get update -q >&2
	"${run[@]}" apt-get install -q -y --no-install-recommends python3 python3-venv >&2
}

# A change of any pin is another directory. The second of two waits for the first;
# the file "ready" appears last.
tools() {
	local dir
	dir=${XDG_CACHE_HOME:-$HOME/.cache}/pim/gcp-$(sha256sum <"$pins" | cut -c1-12)
	mkdir -p "$dir"
	exec 9>"$dir/lock"
	flock 9
	if [[ ! -e $dir/ready ]]; then
		prerequisites
		say "gcp: installing drongo and Google's libraries for Python once, about a minute; they are kept in $dir"
		rm -rf "$dir/python"
		python3 -m venv "$dir/python" >&2
		"$dir/python/bin/pip" install -q --disable-pip-version-check -r "$pins" >&2
		: >"$dir/ready"
	fi
	exec 9>&-
	printf '%s\n' "$dir/python"
}

if [[ ${1:-} == --tools ]]; then
	tools
	exit
fi
PIM_GCP_TOOLS=$(tools)
export PIM_GCP_TOOLS
scripts/build.sh race
scripts/host.sh >/dev/null
go test -race -shuffle=on ./internal/provider/gcp/...
cd tests
go test -race -shuffle=on -count=1 -timeout 30m "$@" ./gcp/
