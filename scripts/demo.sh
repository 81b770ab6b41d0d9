#!/usr/bin/env bash
# make demo: privileged access from the request to its real end, on a real host, with
# the logins of real people. Exits 0 only if every step behaved, the refusals too.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

set_up

heading "Nobody has standing access: alice cannot read the secret, nor get a credential"
as alice vault kv get -mount=secret prod/db
refused 'Code: 403'
as alice vault read pim/creds/prod-read
refused 'Code: 400' '* no active grant: ' 'write pim/request/prod-read justification='

heading "She is eligible, so she asks"
as alice vault list pim/eligible/
succeeded prod-read
as alice vault write pim/request/prod-read "justification=order 4711 is stuck"
succeeded pending
request=$(field request_id)
digest=$(field digest)

heading "Until somebody approves there is nothing to have, and it cannot be alice"
as alice vault read pim/creds/prod-read
refused 'Code: 400' '* approval pending: ' "$request"
as alice vault write "pim/approvals/$request" decision=approve "digest=$digest"
refused 'Code: 403'

heading "Carol is not eligible, whatever others have asked for"
as carol vault read pim/creds/prod-read
refused 'Code: 403' '* access denied: '
as carol vault write pim/request/prod-read "justification=me too"
refused 'Code: 403' '* access denied: '

heading "Bob sees what is asked of him, and approves exactly that"
as bob vault list pim/approvals/
succeeded "$request"
as bob vault read "pim/approvals/$request"
succeeded alice prod-read "order 4711 is stuck"
as bob vault write "pim/approvals/$request" decision=approve "digest=$(field digest)" "comment=go ahead"
succeeded

heading "Alice gets a credential, and it works; her own login still cannot"
as alice vault read pim/creds/prod-read
succeeded "$request"
first=$(field token)
lease=$(field lease_id)
with "$first" alice vault kv get -mount=secret prod/db
succeeded tr0ub4dor-and-3
as alice vault kv get -mount=secret prod/db
refused 'Code: 403'

heading "The operator revokes the lease: the credential is dead"
as operator vault lease revoke -sync "$lease"
succeeded
with "$first" alice vault kv get -mount=secret prod/db
refused 'Code: 403'

heading "The grant still stands, so alice may have another credential"
as alice vault read pim/creds/prod-read
succeeded "$request"
second=$(field token)
[[ $second != "$first" ]] || fail "the second credential should be another one"
with "$second" alice vault kv get -mount=secret prod/db
succeeded tr0ub4dor-and-3

heading "Bob ends the grant: everything under it is dead, and there is no more to have"
as bob vault write "pim/grants/$request/revoke" "reason=order 4711 is through"
succeeded
with "$second" alice vault kv get -mount=secret prod/db
refused 'Code: 403'
as alice vault read pim/creds/prod-read
refused 'Code: 403' '* access denied: '

heading "The audit file names the request, and holds neither credential nor secret"
audit=$work/audit.log
as operator grep -c "$request" "$audit"
succeeded
for secret in "$first" "$second" tr0ub4dor-and-3; do
	if grep -qF "$secret" "$audit"; then
		fail "the audit file contains a secret"
	fi
done

printf '\n%sEvery step behaved as it should, the refused ones too.%s\n' "$green" "$plain"
