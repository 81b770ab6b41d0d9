#!/usr/bin/env bash
# Writes docs/api.md from the OpenAPI document of the running plugin, mounted at pim/
# on a host in development mode. A test compares the page with the plugin, and fails
# when this has been forgotten.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

# shellcheck source=scripts/lib.sh
. scripts/lib.sh

scripts/build.sh plain >/dev/null
(cd tests && go build -o ../bin/apidocs ./cmd/apidocs)
start_host
set_up_plugin >/dev/null
VAULT_TOKEN=root BAO_TOKEN=root vault path-help -format=json pim | bin/apidocs >"$work/api.md"
if [[ $cli == bao ]]; then
	# The page is written for Vault's command line; it says so.
	sed -i 's/\bbao \(read\|write\|list\|delete\|path-help\)\b/vault \1/g' "$work/api.md"
fi
mv "$work/api.md" docs/api.md
echo "docs: docs/api.md is what the plugin says"
