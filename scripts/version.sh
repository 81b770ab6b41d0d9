#!/usr/bin/env bash
# Prints the version of this tree as vX.Y.Z: $PIM_VERSION, else the newest release
# tag that git knows (with the commits since then as a pre-release part), else
# v0.1.0-dev. The host refuses a plugin whose version is not of this form.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${PIM_VERSION:-$(git describe --tags --match 'v[0-9]*.[0-9]*.[0-9]*' 2>/dev/null || echo v0.1.0-dev)}
if [[ ! $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]]; then
	echo "version: \"$version\" is not a semantic version with a leading v" >&2
	exit 1
fi
printf '%s\n' "$version"
