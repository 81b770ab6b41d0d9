# shellcheck shell=bash
# What demo.sh and dev.sh share: a host in development mode with the plugin, three
# people, two groups and one role. Every command that a person would type is printed
# before it runs. To be sourced, from the top of the repository.

set -euo pipefail

host_bin=$(scripts/host.sh)
cli=vault env_prefix=VAULT_
if [[ $("$host_bin" version) == OpenBao* ]]; then
	cli=bao env_prefix=BAO_
fi
# Nothing of the caller's own host may leak into this one.
unset "${!VAULT_@}" "${!BAO_@}"

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
	bold='' dim='' green='' red='' plain=''
fi

host_pid=''
declare -A token # person → token of their login

# --- printing and checking -------------------------------------------------------

heading() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }

fail() {
	printf '\n%sFAILED: %s%s\n' "$red" "$*" "$plain" >&2
	if [[ -s ${work:-}/host.log ]]; then
		printf 'last lines of the host:\n' >&2
		tail -n 25 "$work/host.log" >&2
	fi
	exit 1
}

# typed COMMAND... prints a command the way it is typed in a shell.
typed() {
	local word line=''
	[[ $1 != vault ]] || set -- "$cli" "${@:2}"
	for word in "$@"; do
		if [[ $word == *[!A-Za-z0-9_./:=@,+-]* ]]; then
			case $word in
			*=*) word=${word%%=*}="\"${word#*=}\"" ;;
			*) word="\"$word\"" ;;
			esac
		fi
		line+=" $word"
	done
	printf '%s' "${line# }"
}

# as PERSON COMMAND... runs one command with that person's login, prints both the
# command and the answer, and keeps them in $out and $code for the checks below.
as() {
	local who=$1
	shift
	printf '\n%s%s$%s %s\n' "$bold" "$who" "$plain" "$(typed "$@")"
	answer "${token[$who]}" "$@"
	[[ -z $out ]] || printf '%s\n' "$out"
}

# with TOKEN PERSON COMMAND... is the same under a token that the person holds.
with() {
	local held=$1 who=$2
	shift 2
	printf '\n%s%s$%s %sTOKEN=%s… %s\n' "$bold" "$who" "$plain" "$env_prefix" "${held:0:12}" "$(typed "$@")"
	answer "$held" "$@"
	[[ -z $out ]] || printf '%s\n' "$out"
}

answer() {
	local held=$1
	shift
	code=0
	out=$(VAULT_TOKEN=$held BAO_TOKEN=$held "$@" 2>&1) || code=$?
}

vault() { "$host_bin" "$@"; }

# succeeded [TEXT...] and refused [TEXT...] judge the last command: how it ended, and
# whether the answer contains each text.
succeeded() {
	((code == 0)) || fail "that should have worked (exit code $code)"
	contains "$@"
}

refused() {
	((code != 0)) || fail "that should have been refused"
	contains "$@"
	printf '%s(refused, as it must be)%s\n' "$green" "$plain"
}

contains() {
	local text
	for text in "$@"; do
		[[ $out == *"$text"* ]] || fail "the answer should contain: $text"
	done
}

# field NAME prints one value of the last answer's table.
field() {
	local value
	value=$(awk -v name="$1" '$1 == name { $1 = ""; sub(/^ +/, ""); print; exit }' <<<"$out")
	[[ -n $value ]] || fail "the answer should have a field $1"
	printf '%s\n' "$value"
}

# configure COMMAND... is one step of the operator's set-up: the command is printed,
# the answer only if it is an error.
configure() {
	printf '%soperator$%s %s\n' "$dim" "$plain" "$(typed "$@")"
	answer root "$@"
	((code == 0)) || { printf '%s\n' "$out"; fail "the set-up stopped here"; }
}

# --- the host --------------------------------------------------------------------

free_port() {
	local port
	for _ in {1..50}; do
		port=$((20000 + RANDOM % 20000))
		# The host takes the next port too, for its cluster listener.
		if ! (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null && ! (: >"/dev/tcp/127.0.0.1/$((port + 1))") 2>/dev/null; then
			printf '%s\n' "$port"
			return
		fi
	done
	fail "no free port on 127.0.0.1"
}

stop_host() {
	if [[ -n $host_pid ]]; then
		kill "$host_pid" 2>/dev/null || true
		wait "$host_pid" 2>/dev/null || true
	fi
	rm -rf "$work"
}

start_host() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/pim.XXXXXX")
	trap stop_host EXIT
	trap 'exit 130' INT TERM
	mkdir "$work/home"

	local address args=(-dev -dev-no-store-token -dev-root-token-id=root "-dev-plugin-dir=$PWD/bin/plugins")
	address=127.0.0.1:$(free_port)
	if [[ $cli == bao ]]; then
		# OpenBao takes audit devices from its configuration only.
		printf 'audit "file" "file" {\n  options = { file_path = "%s/audit.log" }\n}\n' "$work" >"$work/audit.hcl"
		args+=("-config=$work/audit.hcl")
	fi
	export HOME=$work/home VAULT_ADDR=http://$address BAO_ADDR=http://$address
	"$host_bin" server "${args[@]}" "-dev-listen-address=$address" >"$work/host.log" 2>&1 </dev/null &
	host_pid=$!
	local tries=0
	until vault status >/dev/null 2>&1; do
		kill -0 "$host_pid" 2>/dev/null || fail "the host ended while starting"
		((++tries < 300)) || fail "the host did not answer within 30 seconds"
		sleep 0.1
	done
	token[operator]=root
}

# --- the set-up ------------------------------------------------------------------

set_up_plugin() {
	local sum version
	heading "The operator registers the plugin and mounts it"
	sum=$(sha256sum bin/plugins/vault-plugin-secrets-pim | cut -d' ' -f1)
	version=$(scripts/version.sh)
	# PIM_ALLOW_LOCAL lets the engine talk to a host on the loopback address. (The
	# command "plugin register" does the same, but not OpenBao's takes an environment.)
	configure vault write sys/plugins/catalog/secret/vault-plugin-secrets-pim "sha256=$sum" "version=$version" \
		command=vault-plugin-secrets-pim env=PIM_ALLOW_LOCAL=true
	configure vault secrets enable "-plugin-version=$version" -path=pim vault-plugin-secrets-pim
	if [[ $cli == vault ]]; then
		configure vault audit enable file "file_path=$work/audit.log"
	fi
}

set_up_people() {
	local accessor person
	heading "People: alice is in the group eng, bob in the group leads, carol in neither"
	configure vault auth enable userpass
	accessor=$(VAULT_TOKEN=root BAO_TOKEN=root vault auth list | awk '$1 == "userpass/" { print $3 }')
	configure vault policy write person scripts/policies/person.hcl
	declare -gA entity
	for person in alice bob carol; do
		configure vault write "auth/userpass/users/$person" "password=$person-pw" token_policies=person
		configure vault write -field=id identity/entity "name=$person"
		entity[$person]=$out
		configure vault write identity/entity-alias "name=$person" "canonical_id=$out" "mount_accessor=$accessor"
	done
	configure vault write identity/group name=eng "member_entity_ids=${entity[alice]}"
	configure vault write identity/group name=leads "member_entity_ids=${entity[bob]}"
}

set_up_role() {
	local role_id secret_id
	heading "A secret of production, and the policy that can read it; no person has that policy"
	configure vault kv put -mount=secret prod/db username=orders password=tr0ub4dor-and-3
	configure vault policy write prod-read scripts/policies/prod-read.hcl

	heading "The engine's own login, and the token role it makes credentials with"
	configure vault policy write pim-engine scripts/policies/pim-engine.hcl
	configure vault auth enable approle
	configure vault write auth/approle/role/pim token_policies=pim-engine token_ttl=20m token_no_default_policy=true
	configure vault read -field=role_id auth/approle/role/pim/role-id
	role_id=$out
	configure vault write -field=secret_id -f auth/approle/role/pim/secret-id
	secret_id=$out
	configure vault write auth/token/roles/pim-token orphan=true renewable=false \
		token_no_default_policy=true allowed_policies=prod-read token_type=service

	heading "The target, and the role: eng may ask, leads approve, for an hour at most"
	configure vault write pim/targets/local type=host "address=$VAULT_ADDR" token_role=pim-token \
		"role_id=$role_id" "secret_id=$secret_id"
	configure vault write pim/roles/prod-read target=local token_policies=prod-read token_role=pim-token \
		max_ttl=1h eligible_groups=eng approver_groups=leads
}

log_in() {
	local person
	for person in "$@"; do
		token[$person]=$(vault login -method=userpass -no-store -token-only "username=$person" "password=$person-pw") ||
			fail "$person cannot log in"
	done
}

set_up() {
	scripts/build.sh plain
	start_host
	printf 'host: %s at %s\n' "$(vault version)" "$VAULT_ADDR"
	set_up_plugin
	set_up_people
	set_up_role
	log_in alice bob carol
}
