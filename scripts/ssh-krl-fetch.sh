#!/bin/sh
# Fetches the key revocation list of pim for sshd. Run it from a timer or cron on
# every host whose sshd_config has RevokedKeys FILE, as the owner of FILE.
#
#   ssh-krl-fetch.sh https://vault.example:8200/v1/pim/public/ssh/<target>/krl /etc/ssh/pim.krl
#
# sshd refuses everybody's key when it cannot read the list. So FILE is replaced
# as a whole or not at all, and on any error the present one stays: what was
# fetched must be a list that ssh-keygen reads, and not an older one. A host's
# first list is made with: ssh-keygen -k -f FILE
#
# Ends with 0 when FILE is the present list, 1 when it could not be fetched, 2
# when it could not be fetched PIM_MISSES times in a row (an alarm, in syslog
# too), 64 when it was called wrongly.
#
# Environment:
#   PIM_MISSES      misses in a row until the alarm (3)
#   PIM_CACERT      file with the certificates that may have signed the server's
#   PIM_TOKEN_FILE  file with a token, for the path that needs one (pim/ssh/<target>/krl)
#   PIM_TIMEOUT     seconds for the whole fetch (20)
set -u
umask 077
export LC_ALL=C

usage() { echo "usage: ${0##*/} URL FILE" >&2; exit 64; }

[ $# -eq 2 ] || usage
url=$1 file=$2
misses=${PIM_MISSES:-3}
case $url in
https://*) ;;
http://127.0.0.1[:/]* | http://localhost[:/]* | 'http://[::1]'[:/]*) ;;
*) echo "${0##*/}: the URL must begin with https://" >&2; exit 64 ;;
esac
case $file in /*) ;; *) echo "${0##*/}: FILE must be an absolute path" >&2; exit 64 ;; esac
case $misses in '' | *[!0-9]*) echo "${0##*/}: PIM_MISSES must be a number" >&2; exit 64 ;; esac

counter=$file.misses
new='' header=''
# The trap ends the script with the status it had.
trap 'rm -f "$new" "$header"' EXIT
trap 'exit 1' HUP INT TERM

say() {
	echo "${0##*/}: $2" >&2
	command -v logger >/dev/null 2>&1 && logger -t pim-krl -p "auth.$1" -- "$2"
}

# miss counts and ends: the present list stays as it is.
miss() {
	count=$(cat "$counter" 2>/dev/null)
	case $count in '' | *[!0-9]*) count=0 ;; esac
	count=$((count + 1))
	echo "$count" >"$counter" 2>/dev/null
	if [ "$count" -ge "$misses" ]; then
		say crit "ALARM: the key revocation list $file could not be fetched $count times in a row: $1"
		exit 2
	fi
	say warning "the key revocation list $file was not replaced ($count of $misses): $1"
	exit 1
}

# number is the list's own number, as 16 digits that sort like numbers.
number() { od -An -v -tx1 -j12 -N8 "$1" | tr -d ' \n'; }

# problem says why a file is no list; nothing when it is one.
problem() {
	[ "$(head -c 8 "$1" | od -An -v -tx1 | tr -d ' \n')" = 5353484b524c0a00 ] || { echo "it is no key revocation list"; return; }
	[ "$(wc -c <"$1")" -ge 44 ] || { echo "it is cut short"; return; }
	ssh-keygen -Q -l -f "$1" >/dev/null 2>&1 || echo "ssh-keygen cannot read it"
}

command -v curl >/dev/null 2>&1 || miss "curl is not installed"
command -v ssh-keygen >/dev/null 2>&1 || miss "ssh-keygen is not installed"
new=$(mktemp "$file.XXXXXX") || miss "no file can be made beside it"

set -- --fail --silent --show-error --proto =http,https --max-redirs 0 --max-time "${PIM_TIMEOUT:-20}" --max-filesize 16777216
[ -z "${PIM_CACERT:-}" ] || set -- "$@" --cacert "$PIM_CACERT"
if [ -n "${PIM_TOKEN_FILE:-}" ]; then
	# In a file, so that the token is in no list of processes.
	header=$(mktemp "$file.XXXXXX") || miss "no file can be made beside it"
	printf 'X-Vault-Token: %s\n' "$(cat "$PIM_TOKEN_FILE")" >"$header" || miss "the token cannot be read"
	set -- "$@" --header "@$header"
fi
why=$(curl "$@" --output "$new" -- "$url" 2>&1) || miss "$(printf %s "$why" | head -n 1)"
why=$(problem "$new")
[ -z "$why" ] || miss "what was fetched is not used: $why"
if [ -s "$file" ] && [ -z "$(problem "$file")" ]; then
	[ "$(printf '%s\n' "$(number "$file")" "$(number "$new")" | sort | head -n 1)" = "$(number "$file")" ] ||
		miss "what was fetched is not used: it is older than the present one"
fi
if ! cmp -s "$new" "$file"; then
	chmod 0644 "$new" || miss "its mode cannot be set"
	command -v restorecon >/dev/null 2>&1 && restorecon "$new"
	mv -f "$new" "$file" || miss "it cannot be replaced"
fi
rm -f "$counter"
