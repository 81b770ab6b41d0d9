#!/usr/bin/env bash
# Tests the aws provider: against AWS in memory, against moto (a server that knows
# the calls and the state of AWS), with the stored policies given to an independent
# judge, and through a real host with the plugin as a process. Nothing leaves this
# machine. Arguments go to go test, such as -run 'TestConformance'.
#
# scripts/test-aws.sh --tools only installs moto, boto3 and the judge, once, into
# the cache, and prints where.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export GOWORK=off
pins=$root/tests/aws/tools

say() { printf '%s\n' "$*" >&2; }

# need PACKAGE... installs Debian packages, or says how.
need() {
	local run=(env DEBIAN_FRONTEND=noninteractive)
	if ((EUID)); then
		command -v sudo >/dev/null || { say "as root: apt-get install $*"; exit 1; }
		run=(sudo -n "${run[@]}")
	fi
	command -v apt-get >/dev/null || { say "install these first: $*"; exit 1; }
	"${run[@]}" apt-get update -q >&2
	"${run[@]}" apt-get install -q -y --no-install-recommends "$@" >&2
}

prerequisites() {
	local missing=()
	command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
	command -v node >/dev/null || missing+=(nodejs)
	command -v npm >/dev/null || missing+=(npm)
	((${#missing[@]} == 0)) || need "${missing[@]}"
}

# install DIR fills the directory; the file "ready" appears last.
install() {
	local dir=$1
	prerequisites
	say "aws: installing moto and the judge of policies once, about a minute; they are kept in $dir"
	rm -rf "$dir/python" "$dir/node"
	python3 -m venv "$dir/python" >&2
	"$dir/python/bin/pip" install -q --disable-pip-version-check -r "$pins/requirements.txt" >&2
	mkdir "$dir/node"
	cp "$pins/package.json" "$pins/package-lock.json" "$dir/node/"
	(cd "$dir/node" && npm ci --silent --no-audit --no-fund --ignore-scripts) >&2
	: >"$dir/ready"
}

# A change of any pin is another directory. The second of two waits for the first.
tools() {
	local hash dir
	hash=$(cat "$pins/requirements.txt" "$pins/package-lock.json" | sha256sum | cut -c1-12)
	dir=${XDG_CACHE_HOME:-$HOME/.cache}/pim/aws-$hash
	mkdir -p "$dir"
	exec 9>"$dir/lock"
	flock 9
	[[ -e $dir/ready ]] || install "$dir"
	exec 9>&-
	printf '%s\n' "$dir"
}

if [[ ${1:-} == --tools ]]; then
	tools
	exit
fi
PIM_AWS_TOOLS=$(tools)
export PIM_AWS_TOOLS
scripts/build.sh race plain
scripts/host.sh >/dev/null
go test -race -shuffle=on ./internal/provider/aws/
cd tests
go test -race -shuffle=on -count=1 -timeout 30m "$@" ./aws/
