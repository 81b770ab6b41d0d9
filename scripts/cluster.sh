#!/usr/bin/env bash
# Prints a directory that holds kube-apiserver and etcd, for the tests of the
# Kubernetes provider. Each of the two is the first of:
#   1. $KUBE_APISERVER, $ETCD
#   2. the one on PATH, unless PIM_CLUSTER=pinned
#   3. the version that tests/cluster pins, built once and kept in the cache
# The directory goes to stdout, everything else to stderr.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cluster_dir=$root/tests/cluster
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pim

say() { printf '%s\n' "$*" >&2; }

# chosen <env value> <name>: the path of a binary that is there already, or nothing.
chosen() {
	if [[ -n $1 ]]; then
		[[ -x $1 ]] || { say "cluster: $1 is not an executable file"; return 1; }
		realpath "$1"
	elif [[ ${PIM_CLUSTER:-} != pinned ]]; then
		command -v "$2" || true
	fi
}

pinned_version() { sed -nE 's/^\s*k8s.io\/kubernetes (v[^ ]+).*/\1/p' "$cluster_dir/go.mod"; }

# A change of any file below tests/cluster is another cluster.
pinned_dir() {
	local hash
	hash=$(cd "$cluster_dir" && cat go.mod go.sum ./*/*.go | sha256sum | cut -c1-12)
	printf '%s/cluster-%s-%s-%s\n' "$cache" "$(pinned_version)" "$hash" "$(go env GOOS)-$(go env GOARCH)"
}

# Counts the package names that go build -v prints; passes on every other line.
progress() {
	local total=$1 done=0 line
	while IFS= read -r line; do
		if [[ $line == *[[:space:]]* ]]; then
			[[ $line == 'go: downloading '* ]] || say "$line"
			continue
		fi
		done=$((done + 1))
		if ((done % 100 == 0)); then say "  $done of at most $total packages compiled"; fi
	done
}

build() {
	local out=$1 work total version
	version=$(pinned_version)
	work=$(mktemp -d "$out.build.XXXXXX")
	# shellcheck disable=SC2064 # the directory of this build, not of a later one
	trap "rm -rf '$work'" EXIT
	cd "$cluster_dir"
	say "cluster: building kube-apiserver $version and etcd once, about six minutes on two cores; kept in $out"
	total=$(go list -deps ./... | wc -l)
	go build -v -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" \
		-o "$work/" ./kube-apiserver ./etcd 2> >(progress "$total")
	chmod 0755 "$work"
	mv -T "$work" "$out"
}

# The second of two builders waits for the first and then finds its result.
build_once() {
	local out=$1
	[[ -d $out ]] && return 0
	command -v go >/dev/null || { say "cluster: go is missing: https://go.dev/doc/install"; exit 1; }
	mkdir -p "$cache"
	exec 9>"$out.lock"
	if ! flock --nonblock 9; then
		say "cluster: another build is running, waiting for it"
		flock 9
	fi
	[[ -d $out ]] || (build "$out")
}

# One directory with links to binaries from several places.
link_dir() {
	local out
	out=$cache/cluster-chosen-$(printf '%s\n' "$@" | sha256sum | cut -c1-12)
	mkdir -p "$out"
	ln -sfn "$1" "$out/kube-apiserver"
	ln -sfn "$2" "$out/etcd"
	printf '%s\n' "$out"
}

export CGO_ENABLED=0 GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false"
apiserver=$(chosen "${KUBE_APISERVER:-}" kube-apiserver)
etcd=$(chosen "${ETCD:-}" etcd)
if [[ -n $apiserver && -n $etcd ]]; then
	link_dir "$apiserver" "$etcd"
	exit 0
fi
out=$(pinned_dir)
build_once "$out"
if [[ -n $apiserver || -n $etcd ]]; then
	link_dir "${apiserver:-$out/kube-apiserver}" "${etcd:-$out/etcd}"
else
	printf '%s\n' "$out"
fi
