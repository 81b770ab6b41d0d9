package gcp

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
)

func TestEveryRefusalIsOneClearMessageWithGooglesCode(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fault   fakegcp.Fault
		code    string
		words   string
		refused bool
	}{
		"a permission is lacking": {
			fakegcp.Fault{Contains: ":setIamPolicy", Status: 403, Code: "PERMISSION_DENIED", Reason: "IAM_PERMISSION_DENIED"},
			"IAM_PERMISSION_DENIED", "lacks a permission", true,
		},
		"the API is off": {
			fakegcp.Fault{Service: "cloudresourcemanager", Status: 403, Code: "PERMISSION_DENIED", Reason: "SERVICE_DISABLED"},
			"SERVICE_DISABLED", "not enabled", true,
		},
		"no billing account": {
			fakegcp.Fault{Contains: ":setIamPolicy", Status: 403, Code: "PERMISSION_DENIED", Reason: "BILLING_DISABLED"},
			"BILLING_DISABLED", "billing", true,
		},
		"a perimeter": {
			fakegcp.Fault{Contains: ":setIamPolicy", Status: 403, Code: "PERMISSION_DENIED", Reason: "SECURITY_POLICY_VIOLATED"},
			"SECURITY_POLICY_VIOLATED", "perimeter", true,
		},
		"an organization policy": {
			fakegcp.Fault{Contains: ":setIamPolicy", Status: 400, Code: "FAILED_PRECONDITION"},
			"FAILED_PRECONDITION", "organization policy", true,
		},
		"a role that cannot be granted here": {
			fakegcp.Fault{Contains: ":setIamPolicy", Status: 400, Code: "INVALID_ARGUMENT"},
			"INVALID_ARGUMENT", "found the call invalid", true,
		},
		"a user that does not exist": {
			fakegcp.Fault{Contains: ":setIamPolicy", Status: 400, Code: "INVALID_ARGUMENT", Text: "User x does not exist."},
			"INVALID_ARGUMENT", "does not know a principal", true,
		},
		"a resource that does not exist": {
			fakegcp.Fault{Contains: ":getIamPolicy", Status: 404, Code: "NOT_FOUND"}, "NOT_FOUND", "has no such", true,
		},
		"a quota that stays used up": {
			fakegcp.Fault{Contains: ":setIamPolicy", Status: 429, Code: "RESOURCE_EXHAUSTED", Times: 99},
			"RESOURCE_EXHAUSTED", "quota", false,
		},
		"a wish for a long pause": {
			fakegcp.Fault{Contains: ":setIamPolicy", Status: 429, Code: "RESOURCE_EXHAUSTED", RetryAfter: 60},
			"RESOURCE_EXHAUSTED", "called less often", false,
		},
		"writers that never end": {
			fakegcp.Fault{Contains: ":setIamPolicy", Status: 409, Code: "ABORTED", Times: 99}, "ABORTED", "at the same time", false,
		},
		"a failure inside Google": {
			fakegcp.Fault{Contains: ":getIamPolicy", Status: 500, Code: "INTERNAL", Times: 99}, "INTERNAL", "could not do it now", false,
		},
		"an engine's key that was deleted": {
			fakegcp.Fault{Service: "oauth2", Status: 400, Code: "invalid_grant"}, "invalid_grant", "own credential", true,
		},
		"a token that is not accepted twice": {
			fakegcp.Fault{Contains: "v3/projects", Status: 401, Code: "UNAUTHENTICATED", Times: 2}, "UNAUTHENTICATED", "own credential", true,
		},
		"an answer that makes no sense": {
			fakegcp.Fault{Contains: ":getIamPolicy", Status: 418, Code: "TEAPOT"}, "TEAPOT", "refused the call", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			p := k.open(t, k.target(nil))
			k.cloud.Plan(row.fault)
			in := k.input(t, ownUser())
			_, h, err := k.issue(t, p, in, k.plan(t, p, in))
			wantError(t, err, row.code, row.words)
			own, _ := errors.AsType[*contract.Error](err)
			if own.Refused != row.refused || own.Throttled != (row.fault.Status == http.StatusTooManyRequests) {
				t.Errorf("%+v", own)
			}
			k.cloud.Forget()
			k.mustEnd(t, p, h)
		})
	}
}

func TestWhatGoogleWantsRepeatedIsRepeated(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fault  fakegcp.Fault
		waited time.Duration
	}{
		"throttled, with a time":    {fakegcp.Fault{Contains: ":setIamPolicy", Status: 429, Code: "RESOURCE_EXHAUSTED", RetryAfter: 7}, 7 * time.Second},
		"throttled, without a time": {fakegcp.Fault{Contains: ":getIamPolicy", Status: 429, Code: "RESOURCE_EXHAUSTED", Times: 2}, 3 * time.Second},
		"a failure of a read":       {fakegcp.Fault{Contains: ":getIamPolicy", Status: 503, Code: "UNAVAILABLE"}, time.Second},
		"a failure of a write":      {fakegcp.Fault{Contains: ":setIamPolicy", Status: 503, Code: "UNAVAILABLE"}, conflictPause},
		"a write that was done":     {fakegcp.Fault{Contains: ":setIamPolicy", Status: 503, Code: "UNAVAILABLE", After: true}, conflictPause},
		"a token that is too old":   {fakegcp.Fault{Contains: "v3/projects", Status: 401, Code: "UNAUTHENTICATED"}, 0},
		"somebody else's write":     {fakegcp.Fault{Contains: ":setIamPolicy", Status: 409, Code: "ABORTED"}, conflictPause},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			p := k.open(t, k.target(nil))
			k.cloud.Plan(row.fault)
			_, h := k.mustIssue(t, p, ownUser())
			if k.cloud.Pending() != 0 {
				t.Error("the fault never happened")
			}
			if got := time.Duration(k.waited.Load()); got != row.waited {
				t.Errorf("waited %s, not %s", got, row.waited)
			}
			if n := len(k.cloud.Bindings(projectPolicy)); n != 1 {
				t.Errorf("%d bindings", n)
			}
			k.mustEnd(t, p, h)
		})
	}
}

func TestAServiceAccountQuotaIsGooglesToRefuse(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	k.cloud.AddProject(homeProject, homeNumber, "folders/77").MaxAccounts = 1
	in := k.input(t, ownToken())
	_, h, err := k.issue(t, p, in, k.plan(t, p, in))
	wantError(t, err, "RESOURCE_EXHAUSTED", "quota")
	k.mustEnd(t, p, h)
}
