#!/usr/bin/env bash
# Tests the azure provider: in memory, and through a real host with the plugin as a
# process. Azure is a fake of our own, whose calls go through the vendor's own fake
# servers or are held to the vendor's description; that this is still what the
# vendor's package says; and Microsoft's own libraries for Python have their say.
# Nothing leaves this machine. Arguments go to go test, such as -run 'TestKilled'.
#
# scripts/test-azure.sh --tools only installs the Python tools, once, into the cache,
# and prints where.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export GOWORK=off
pins=$root/tests/azure/tools/requirements.txt
graph=1.65.0

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
# the file "ready" appears last. The Graph package is only unpacked and read.
tools() {
	local dir
	dir=${XDG_CACHE_HOME:-$HOME/.cache}/pim/azure-$(cat "$pins" <(echo "$graph") | sha256sum | cut -c1-12)
	mkdir -p "$dir"
	exec 9>"$dir/lock"
	flock 9
	if [[ ! -e $dir/ready ]]; then
		prerequisites
		say "azure: installing Microsoft's libraries for Python once, about a minute; they are kept in $dir"
		rm -rf "$dir/python" "$dir/graph" "$dir/wheel"
		python3 -m venv "$dir/python" >&2
		"$dir/python/bin/pip" install -q --disable-pip-version-check -r "$pins" >&2
		"$dir/python/bin/pip" download -q --disable-pip-version-check --no-deps --dest "$dir/wheel" "msgraph-sdk==$graph" >&2
		python3 -m zipfile -e "$dir"/wheel/msgraph_sdk-*.whl "$dir/graph"
		rm -r "$dir/wheel"
		: >"$dir/ready"
	fi
	exec 9>&-
	printf '%s\n' "$dir/python"
}

if [[ ${1:-} == --tools ]]; then
	tools
	exit
fi
PIM_AZURE_TOOLS=$(tools)
export PIM_AZURE_TOOLS
python3 tests/azure/graph_facts.py "${PIM_AZURE_TOOLS%/python}/graph" | diff -u internal/provider/azure/fakeazure/graph.json -
say "Graph: the facts that calls are held to are those of msgraph-sdk $graph"
scripts/build.sh race plain
scripts/host.sh >/dev/null
go test -race -shuffle=on ./internal/provider/azure/...
cd tests
go test -race -shuffle=on -count=1 -timeout 30m "$@" ./azure/
