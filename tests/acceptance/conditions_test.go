package acceptance

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for name, row := range map[string]func(*testing.T){
		"the page's role approves who is on call, for an hour at most":          d.onCall,
		"two jobs of one repository are judged by their own tokens":             d.twoJobs,
		"all that is wrong with a role's conditions is said at once, by column": d.wrongConditions,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row(t)
		})
	}
}

func (d *door) onCall(t *testing.T) {
	t.Helper()
	c := d.cast(t)
	onCall := host.Group(t, "on-call", c.alice)
	var page map[string]any
	block := replaced(t, docBlock(t, "conditions.md", "## A role with conditions"), map[string]string{
		`\"on-call\"`: `\"` + onCall.Name + `\"`, "[1, 2, 3, 4, 5]": "[0, 1, 2, 3, 4, 5, 6]", // tests run on Sundays too
	})
	if err := json.Unmarshal([]byte(block), &page); err != nil {
		t.Fatal(err)
	}
	page["max_active"] = 5
	c.role(t, "prod-read", d.tokens(page)).OK(t)
	ask := func(ttl string) harness.Answer {
		return c.alice.Write(t, c.path("request/prod-read"), map[string]any{"justification": "order 4711 is stuck", "ttl": ttl})
	}
	if asked := ask("10m").OK(t); asked.Data["state"] != "active" {
		t.Errorf("on call, for ten minutes: %s", asked.Body)
	}
	token := c.alice.Read(t, c.path("creds/prod-read")).OK(t).String(t, "token")
	if !d.reads(t, token) {
		t.Error("the credential does not work")
	}
	if asked := ask("2h").OK(t); asked.Data["state"] != "pending" {
		t.Errorf("on call, for two hours: %s", asked.Body)
	}
	host.SetMembers(t, onCall, c.bob)
	if asked := ask("11m").OK(t); asked.Data["state"] != "pending" {
		t.Errorf("not on call: %s", asked.Body)
	}
	// The first grant stands no more either: what approved it holds no more.
	c.alice.Read(t, c.path("creds/prod-read")).Refused(t, http.StatusForbidden, "access denied: the approvals of request ")
}

// The jobs of one repository are one entity with one login name, whose alias
// metadata is that of the last one that logged in. Their tokens tell them apart.
func (d *door) twoJobs(t *testing.T) {
	t.Helper()
	issuer := harness.NewIssuer(t)
	auth := host.JWTAuth(t, issuer)
	auth.Role(t, "shop", map[string]any{
		"user_claim": "repository", "bound_audiences": "pim", "claim_mappings": map[string]string{"ref": "ref"},
		"token_policies": host.Policy(t, "job", fmt.Sprintf("path %q { capabilities = [\"read\", \"update\"] }", d.path("creds/*"))),
	})
	repository := "acme/" + strings.ToLower(auth.Path)
	logIn := func(claims map[string]any) harness.Actor {
		body := map[string]any{"sub": "job", "aud": "pim", "repository": repository}
		maps.Copy(body, claims)
		return auth.LogIn(t, "shop", issuer.Sign(t, body))
	}
	host.Root().Write(t, d.path("roles/deploy"), d.tokens(map[string]any{
		"target": d.target.Name, "token_target": d.target.Name, "eligible_entities": []string{"alias:" + auth.Accessor + "/" + repository},
		"auto_approve": true, "require_justification": false,
		"require": []map[string]any{{"name": "protected-branch", "when": `token.meta.ref == "refs/heads/main"`, "message": "the main branch deploys"}},
	})).OK(t)
	creds := func(job harness.Actor) harness.Answer { return job.Read(t, d.path("creds/deploy")) }
	refused := func(job harness.Actor, when string) {
		answer := creds(job)
		answer.Refused(t, http.StatusForbidden, "access denied: ")
		if answer.Data["code"] != "policy_refused" {
			t.Errorf("%s: %s", when, answer.Body)
		}
	}

	pull := logIn(map[string]any{"ref": "refs/pull/7/merge"})
	refused(pull, "alone")
	branch := logIn(map[string]any{"ref": "refs/heads/main"})
	refused(pull, "after the other logged in")
	granted := creds(branch).OK(t)
	refused(pull, "after the other got its grant")
	pull.Read(t, d.path("creds/deploy?request_id="+granted.String(t, "pim_request_id"))).Refused(t, http.StatusForbidden, "access denied: ")
	refused(logIn(nil), "without a ref")
	creds(branch).OK(t)
}

func (d *door) wrongConditions(t *testing.T) {
	t.Helper()
	c := d.cast(t)
	answer := c.role(t, "wrong", d.tokens(map[string]any{
		"auto_approve_when": "request.secret == 'canary' ||\n nobody",
		"deny_when":         `token.meta.ref == "canary"`,
		"require":           []map[string]any{{"name": "a", "when": "request.id"}, {"name": "b", "when": `request.ticket.matches("(canary")`}},
	}))
	answer.Refused(t, http.StatusBadRequest, "invalid input: ")
	for _, want := range []string{
		"auto_approve_when: line 1, column 8: no such field", "auto_approve_when: line 2, column 2: no such variable or function",
		"deny_when: line 1, column 1: token is known to roles with a token_target alone",
		"require.1.when: the whole must be true or false", "require.2.when: line 1, column 24: not a valid RE2 pattern",
	} {
		if !strings.Contains(string(answer.Body), want) {
			t.Errorf("%q is not in %s", want, answer.Body)
		}
	}
	if strings.Contains(string(answer.Body), "canary") {
		t.Errorf("the answer quotes a condition: %s", answer.Body)
	}
}
