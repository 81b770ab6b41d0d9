package aws

import (
	"net/http"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// A key that IAM's servers take longer to know than a call may take: the reader
// is told to ask again, and then gets the key that was made at first.
func TestAKeyThatTakesLongerThanACall(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Race)
	o.entitle(t, "user", args{"credential_type": "iam_user", "policy_document": allowAll})
	o.Granted(t, "user", nil)
	// Once a credential was issued the engine's own identity is known; what is
	// asked for after it is asked with the new key, once a second.
	o.auto(t, "session", args{"role_arns": o.role(prodRole)})
	o.Alice.Read(t, o.Path("creds/session")).OK(t)
	const unknown = 28
	o.gate.fail("GetCallerIdentity", fault{status: http.StatusForbidden, code: "InvalidClientTokenId", times: unknown})
	first := o.Alice.Read(t, o.Path("creds/user"))
	if first.Status != http.StatusBadRequest || first.Data["code"] != "credential_preparing" {
		t.Fatalf("%d %s", first.Status, first.Body)
	}
	creds := o.ready(t, "user")
	var keys struct {
		AccessKeyMetadata []struct{ AccessKeyID string }
	}
	call(t, o.account, "iam", "list_access_keys", args{"UserName": creds.String(t, "username")}, &keys)
	if len(keys.AccessKeyMetadata) != 1 || keys.AccessKeyMetadata[0].AccessKeyID != creds.Data["access_key"] {
		t.Errorf("keys %v, answered %v", keys.AccessKeyMetadata, creds.Data["access_key"])
	}
	if len(o.ourUsers(t)) != 1 || !o.usable(t, creds) {
		t.Errorf("users %v", o.ourUsers(t))
	}
}
