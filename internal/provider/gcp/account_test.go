package gcp

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
)

func TestACredentialIsHandedOutWhenItWorks(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.cloud.SetLag(fakegcp.Lag{Members: 20 * time.Second, Tokens: 30 * time.Second, Grants: 60 * time.Second})
	p := k.open(t, k.target(nil))
	fields := ownToken()
	fields["wait_for_permissions"] = []string{"compute.instances.list"}
	issued, h := k.mustIssue(t, p, fields)
	if waited := k.clk.Now().Sub(start); waited < 80*time.Second || !k.works(t, issued) {
		t.Errorf("handed out after %s, works: %v", waited, k.works(t, issued))
	}
	k.mustEnd(t, p, h)

	k.cloud.SetLag(fakegcp.Lag{Members: 10 * time.Second, Reads: 40 * time.Second, Keys: 20 * time.Second})
	began := k.clk.Now()
	issued, h = k.mustIssue(t, p, ownKey())
	if waited := k.clk.Now().Sub(began); waited < 60*time.Second || !k.works(t, issued) {
		t.Errorf("a key was handed out after %s, works: %v", waited, k.works(t, issued))
	}
	k.mustEnd(t, p, h)
}

func TestWaitingForACredentialHasAnEndWithAReason(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fields contract.Values
		lag    fakegcp.Lag
		code   string
		words  string
	}{
		"an account that policies never know": {ownToken(), fakegcp.Lag{Members: time.Hour}, "INVALID_ARGUMENT", "does not know a principal"},
		"an account that never gets a token":  {ownToken(), fakegcp.Lag{Tokens: time.Hour}, "NOT_FOUND", "has no such"},
		"a key that is never taken":           {existingKey(), fakegcp.Lag{Keys: time.Hour}, "invalid_grant", "own credential"},
		"permissions that never come": {
			contract.Values{"iam_roles": []string{"roles/compute.viewer"}, "wait_for_permissions": []string{"storage.buckets.get"}},
			fakegcp.Lag{},
			"not_effective", "wait_for_permissions",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			k.cloud.SetLag(row.lag)
			p := k.open(t, k.target(nil))
			in := k.input(t, row.fields)
			_, h, err := k.issue(t, p, in, k.plan(t, p, in))
			wantError(t, err, row.code, row.words)
			if waited := k.clk.Now().Sub(start); waited < visible || waited > slowTimeout {
				t.Errorf("gave up after %s", waited)
			}
			k.mustEnd(t, k.open(t, k.target(nil)), h)
			if left := k.exists(t, h); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestWhatGoogleGrantsIsComparedWithWhatWasApproved(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	in := k.input(t, ownUser())
	h := k.plan(t, p, in)
	others := strangers()[:2]
	k.cloud.SetPolicy(projectPolicy, nil, others...)
	k.cloud.DropConditions()
	k.cloud.Invade(projectPolicy, 1)
	_, _, err := k.issue(t, p, in, h)
	wantError(t, err, "differs", "not what was asked for")
	if k.cloud.Gives(projectPolicy, in.Principal) {
		t.Error("a binding without end is left")
	}
	if n := len(k.cloud.Bindings(projectPolicy)); n != len(others)+1 {
		t.Errorf("%d bindings of others are left", n)
	}
}

func TestHandlesFromElsewhere(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	in := k.input(t, ownToken())
	good := k.plan(t, p, in)
	for name, change := range map[string]func(string) string{
		"another account":           func(s string) string { return strings.Replace(s, "pim-"+string(in.Credential), "pim-engine", 1) },
		"a path in the account":     func(s string) string { return strings.Replace(s, "@prod", "/../@prod", 1) },
		"a resource that is none":   func(s string) string { return strings.Replace(s, "projects/prod-access", "projects/../x", 1) },
		"an unknown field":          func(s string) string { return strings.Replace(s, "{", `{"zz":1,`, 1) },
		"an unknown kind":           func(s string) string { return strings.Replace(s, kindToken, "token", 1) },
		"a key's id that is a path": func(s string) string { return strings.Replace(s, "{", `{"y":"../../x",`, 1) },
		"no end":                    func(s string) string { return strings.Replace(s, `"e":`, `"d":`, 1) },
	} {
		h := good
		h.Data = []byte(change(string(good.Data)))
		if string(h.Data) == string(good.Data) {
			t.Fatalf("%s: nothing was changed", name)
		}
		_, err := p.Revoke(t.Context(), h)
		wantError(t, err, "bad_handle", "the handle")
	}
	in.Fields = normalize(ownKey())
	_, err := p.Issue(t.Context(), in, good, nil)
	wantError(t, err, "bad_handle", "planned for other fields")
}
