package gcp

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
)

func ownToken() contract.Values {
	return contract.Values{"iam_roles": []string{"roles/compute.viewer"}}
}

func ownKey() contract.Values {
	return contract.Values{"credential_type": kindKey, "iam_roles": []string{"roles/compute.viewer"}}
}

func existingKey() contract.Values {
	return contract.Values{"credential_type": kindKey, "service_account_email": robot}
}

func ownUser() contract.Values {
	return contract.Values{"principal_source": "metadata:m", "iam_roles": []string{"roles/compute.viewer"}}
}

func TestRevokingAnOwnAccountDisablesItAtOnceAndDeletesItWhenItsTokensHaveEnded(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	issued, h := k.mustIssue(t, p, ownToken())
	revoked := k.clk.Now()
	ended, err := p.Revoke(t.Context(), h)
	if err != nil || !ended.AccessGone || ended.Done() {
		t.Fatalf("%+v, %v", ended, err)
	}
	if k.works(t, issued) {
		t.Error("the token is still accepted")
	}
	email := k.cloud.Accounts("pim-0")[0]
	if a, _ := k.cloud.Find(email); !a.Disabled {
		t.Error("the account is not disabled")
	}
	if n := len(k.cloud.Bindings(projectPolicy)); n != 0 {
		t.Errorf("%d bindings are left", n)
	}
	if wait := ended.Again.Sub(revoked); wait < tokenLife || wait > tokenLife+time.Minute {
		t.Errorf("it would be deleted after %s", wait)
	}
	k.mustEnd(t, p, ended.Rest)
	if left := k.cloud.Accounts("pim-0"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAnAccountThatNobodyGotATokenOfIsNotKept(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	k.cloud.Deny("iam.serviceAccounts.getAccessToken")
	in := k.input(t, ownToken())
	_, h, err := k.issue(t, p, in, k.plan(t, p, in))
	wantError(t, err, "IAM_PERMISSION_DENIED", "lacks the permission iam.serviceAccounts.getAccessToken")
	ended, err := p.Revoke(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if wait := ended.Again.Sub(k.clk.Now()); wait > slowTimeout+visible+time.Minute {
		t.Errorf("kept for %s although no token was ever given", wait)
	}
	k.mustEnd(t, p, h)
	if left := k.cloud.Accounts("pim-0"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestANewAccountThatGoogleDoesNotShowIsNotTakenForGone(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	_, h := k.mustIssue(t, p, ownToken())
	k.cloud.SetLag(fakegcp.Lag{Reads: 90 * time.Second})
	ended, err := p.Revoke(t.Context(), h)
	if err == nil || ended.AccessGone {
		t.Fatalf("an account that Google does not show was taken for gone: %+v", ended)
	}
	wantError(t, err, "not_visible", "does not show the new account")
	k.clk.Advance(2 * time.Minute)
	k.mustEnd(t, p, h)
	if left := k.cloud.Accounts("pim-0"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestAnAnswerThatGotLostLeavesNothing loses the answer to each call that
// changes something, after it was done. No retry helps, and revoking with the
// last handle that was noted finds everything.
func TestAnAnswerThatGotLostLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fields contract.Values
		fault  fakegcp.Fault
	}{
		"account of a token":      {ownToken(), fakegcp.Fault{Service: "iam", Method: "POST", Contains: "/serviceAccounts"}},
		"binding of a token":      {ownToken(), fakegcp.Fault{Contains: ":setIamPolicy"}},
		"token":                   {ownToken(), fakegcp.Fault{Contains: ":generateAccessToken"}},
		"account of a key":        {ownKey(), fakegcp.Fault{Service: "iam", Method: "POST", Contains: "/serviceAccounts"}},
		"key of an own account":   {ownKey(), fakegcp.Fault{Contains: "/keys:upload"}},
		"key of another account":  {existingKey(), fakegcp.Fault{Contains: "/keys:upload"}},
		"binding of one's own":    {ownUser(), fakegcp.Fault{Contains: ":setIamPolicy"}},
		"token of another's name": {contract.Values{"service_account_email": robot}, fakegcp.Fault{Contains: ":generateAccessToken"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			k.cloud.SetLag(usualLag())
			p := k.open(t, k.target(nil))
			f := row.fault
			f.After, f.Status, f.Code, f.Times = true, http.StatusServiceUnavailable, "UNAVAILABLE", 50
			k.cloud.Plan(f)
			in := k.input(t, row.fields)
			_, h, err := k.issue(t, p, in, k.plan(t, p, in))
			if k.cloud.Pending() == 50 {
				t.Fatal("the fault never happened")
			}
			if err != nil {
				wantError(t, err, "UNAVAILABLE", "could not do it now")
			}
			k.cloud.Forget()
			k.mustEnd(t, k.open(t, k.target(nil)), h)
			for _, o := range k.exists(t, h) {
				t.Errorf("left: %s", o.What)
			}
		})
	}
}

func TestRevokingFailsWhenAnyPartOfItDoes(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fields contract.Values
		fault  fakegcp.Fault
	}{
		"disabling the account": {ownToken(), fakegcp.Fault{Contains: ":disable"}},
		"reading the policy":    {ownToken(), fakegcp.Fault{Contains: ":getIamPolicy"}},
		"writing the policy":    {ownToken(), fakegcp.Fault{Contains: ":setIamPolicy"}},
		"one's own binding":     {ownUser(), fakegcp.Fault{Contains: ":setIamPolicy"}},
		"deleting a key":        {existingKey(), fakegcp.Fault{Method: "DELETE"}},
		"asking which project":  {ownUser(), fakegcp.Fault{Service: "cloudresourcemanager", Method: "GET"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			p := k.open(t, k.target(nil))
			_, h := k.mustIssue(t, p, row.fields)
			f := row.fault
			f.Status, f.Code, f.Reason = http.StatusForbidden, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED"
			k.cloud.Plan(f)
			ended, err := p.Revoke(t.Context(), h)
			if err == nil || ended.AccessGone || k.cloud.Pending() != 0 {
				t.Fatalf("a revocation that failed in part was taken for done: %+v", ended)
			}
			wantError(t, err, "IAM_PERMISSION_DENIED", "lacks a permission")
			k.mustEnd(t, p, h)
			if left := k.exists(t, h); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestAnotherResourcesFailureDoesNotKeepABindingAlive(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	fields := ownUser()
	fields["resources"] = []string{bucket, "projects/prod-access"}
	_, h := k.mustIssue(t, p, fields)
	k.cloud.Plan(fakegcp.Fault{Service: "storage", Status: http.StatusForbidden, Code: "PERMISSION_DENIED"})
	if _, err := p.Revoke(t.Context(), h); err == nil {
		t.Fatal("the bucket's failure was not told")
	}
	if len(k.cloud.Bindings(projectPolicy)) != 0 {
		t.Error("the project's binding is still there")
	}
	k.mustEnd(t, p, h)
}

func TestAKeyEndsByItselfAndItsEndIsDeletion(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	alive, _ := k.mustIssue(t, p, existingKey())
	ended, h := k.mustIssue(t, p, existingKey())
	k.mustEnd(t, p, h)
	if k.works(t, ended) || !k.works(t, alive) {
		t.Error("the wrong key was deleted, or none")
	}
	k.clk.Advance(11 * time.Minute)
	if k.works(t, alive) {
		t.Error("a key outlives its certificate")
	}
}

func TestTheTenthKeyIsTheLast(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	for i := range 10 {
		if i%2 == 0 {
			k.keyOf(t, robot, "somebody else's")
			continue
		}
		k.mustIssue(t, p, existingKey())
	}
	in := k.input(t, existingKey())
	_, _, err := k.issue(t, p, in, k.plan(t, p, in))
	wantError(t, err, "limit_keys", "allows 10 keys of one service account, and there are 10")
}

func TestTheListTellsWhatIsLeftAndNothingElse(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	k.cloud.SetPolicy(projectPolicy, nil, strangers()[0],
		`{"role":"roles/browser","members":["user:bob@example.com"],"condition":{"title":"pim-","description":"pim target prod","expression":"true"}}`)
	k.cloud.AddAccount(homeProject, "pim-lookalike@prod-access.iam.gserviceaccount.com")
	_, account := k.mustIssue(t, p, ownToken())
	fields := ownUser()
	fields["resources"] = []string{"projects/prod-access", bucket}
	_, binding := k.mustIssue(t, p, fields)
	other := k.target(nil)
	other.Name = "other"
	_, foreign := k.mustIssue(t, k.open(t, other), ownUser())

	var found []contract.Found
	if err := p.List(t.Context(), func(f contract.Found) error {
		found = append(found, f)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 {
		t.Fatalf("found: %+v", found)
	}
	for _, f := range found {
		if f.Credential == foreign.Credential || f.Request == "" {
			t.Errorf("found %+v", f)
		}
		k.mustEnd(t, p, f.Handle)
	}
	if !slices.ContainsFunc(found, func(f contract.Found) bool {
		return f.Credential == binding.Credential && strings.Contains(f.What, "roles/compute.viewer on "+bucket)
	}) {
		t.Error("what was found of the binding does not say where")
	}
	if len(k.exists(t, account)) != 0 || len(k.exists(t, binding)) != 0 || len(k.exists(t, foreign)) != 1 {
		t.Error("the list's handles did not end what they name")
	}
}

func TestAnAccountThatIsNotOursIsNeitherUsedNorDeleted(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	in := k.input(t, ownToken())
	h := k.plan(t, p, in)
	k.cloud.AddAccount(homeProject, "pim-"+string(in.Credential)+"@prod-access.iam.gserviceaccount.com")
	_, _, err := k.issue(t, p, in, h)
	wantError(t, err, "foreign", "not ours has this name")
}
