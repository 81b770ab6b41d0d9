#!/usr/bin/env bash
# Tests the credential types of the host provider that are certificates: SSH on a
# real sshd with its key revocation list, X.509 with openssl and the CRL of a real
# PKI engine. Installs what they need. Arguments go to go test, such as
# -run 'TestLogin'.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

missing=()
[[ -x /usr/sbin/sshd ]] || command -v sshd >/dev/null || missing+=(openssh-server)
{ command -v ssh && command -v ssh-keygen; } >/dev/null || missing+=(openssh-client)
command -v curl >/dev/null || missing+=(curl)
command -v openssl >/dev/null || missing+=(openssl)
if ((${#missing[@]})); then
	run=(env DEBIAN_FRONTEND=noninteractive)
	if ((EUID)); then
		command -v sudo >/dev/null || { echo "as root: apt-get install ${missing[*]}" >&2; exit 1; }
		run=(sudo -n "${run[@]}")
	fi
	"${run[@]}" apt-get update -q
	"${run[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

scripts/build.sh race faults
scripts/host.sh >/dev/null
go test -race -shuffle=on ./internal/krl/... ./internal/provider/host/
cd tests
go test -race -shuffle=on -count=1 -timeout 20m "$@" ./ssh/ ./pki/
