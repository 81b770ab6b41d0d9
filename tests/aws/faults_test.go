package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// A fault at each call of an issue: one clear message with AWS's code, nothing
// of its words or of a secret in it, and nothing left once it was undone.
func TestFaultsLeaveNothing(t *testing.T) {
	t.Parallel()
	faults := map[string]fault{
		"Throttling":              {status: http.StatusBadRequest, code: "Throttling"},
		"ServiceFailure":          {status: http.StatusInternalServerError, code: "ServiceFailure"},
		"AccessDenied":            {status: http.StatusForbidden, code: "AccessDenied"},
		"MalformedPolicyDocument": {status: http.StatusBadRequest, code: "MalformedPolicyDocument"},
		"RegionDisabledException": {status: http.StatusForbidden, code: "RegionDisabledException"},
		"timeout":                 {hang: true},
	}
	kinds := map[string]struct {
		fields  func(c *cloud) contract.Values
		actions []string
	}{
		"a role session": {
			func(c *cloud) contract.Values { return contract.Values{"role_arns": []string{c.role(prodRole)}} },
			[]string{"GetCallerIdentity", "ListAttachedRolePolicies", "AssumeRole"},
		},
		"a user": {
			func(*cloud) contract.Values {
				return contract.Values{"user_path": "/pim/", "policy_document": allowAll, "iam_groups": []string{"admins"}}
			},
			[]string{"CreateUser", "PutUserPolicy", "AddUserToGroup", "CreateAccessKey"},
		},
	}
	for kind, what := range kinds {
		for _, action := range what.actions {
			for name, f := range faults {
				t.Run(fmt.Sprintf("%s, %s at %s", kind, name, action), func(t *testing.T) {
					t.Parallel()
					clk := &hurryClock{}
					c := newCloud(t, clk.Now)
					oneFault(t, c, clk, what.fields(c), action, name, f)
				})
			}
		}
	}
}

func oneFault(t *testing.T, c *cloud, clk *hurryClock, fields contract.Values, action, code string, f fault) {
	t.Helper()
	p := c.open(t, clk)
	g := plan(t, p, clk, time.Hour, fields)
	c.gate.fail(action, f)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	if f.hang {
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	}
	defer cancel()
	err := g.issue(ctx, p)
	var e *contract.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v", err)
	}
	if text := fmt.Sprintf("%+v %v", err, e.Cause); strings.Contains(text, upstreamWords) || strings.Contains(text, c.sec) {
		t.Errorf("it says too much: %s", text)
	}
	if e.Throttled != (code == "Throttling") || (code == "Throttling" && e.Refused) {
		t.Errorf("throttled: %v, refused: %v", e.Throttled, e.Refused)
	}
	h := g.h
	for range 5 {
		ended, err := p.Revoke(t.Context(), h)
		if err != nil || !ended.AccessGone {
			t.Fatalf("undo: %+v, %v", ended, err)
		}
		if ended.Done() {
			break
		}
		h = ended.Rest
		clk.advance(ended.Again.Sub(clk.Now()))
	}
	for _, o := range c.exists(t, g.h, clk.Now()) {
		t.Errorf("left: %s", o.What)
	}
}
