package acceptance

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

const (
	mainJob = "repo:acme/shop:ref:refs/heads/main:environment:production"
	prJob   = "repo:acme/shop:ref:refs/pull/7/merge"
)

// pipeline is docs/ci.md as it stands: an issuer, the auth method with the page's
// role, the page's policy and the page's role of pim, which yields tokens here.
type pipeline struct {
	*vaultScene
	issuer *harness.Issuer
	auth   *harness.JWTAuth
	policy string
}

func newPipeline(t *testing.T) *pipeline {
	t.Helper()
	p := &pipeline{vaultScene: newVaultScene(t), issuer: harness.NewIssuer(t)}
	p.auth = host.JWTAuth(t, p.issuer)
	p.policy = host.Policy(t, "deploy-shop", replaced(t, docBlock(t, "ci.md", "## The policy"),
		map[string]string{"pim/creds/": p.path("creds/"), "pim/requests/": p.path("requests/")}))

	login := p.block(t, "## The role of the auth method")
	login["token_policies"] = p.policy
	p.auth.Role(t, "deploy-shop", login)
	// Somebody else's role of the same auth method lets every job in, with the same policy.
	login["bound_claims"] = map[string]string{}
	p.auth.Role(t, "any-job", login)

	p.role(t, "deploy-shop", nil)
	return p
}

func (p *pipeline) block(t *testing.T, heading string) map[string]any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(docBlock(t, "ci.md", heading)), &body); err != nil {
		t.Fatalf("%s: %v", heading, err)
	}
	return body
}

// role writes the page's role of pim with some fields changed.
func (p *pipeline) role(t *testing.T, name string, fields map[string]any) {
	t.Helper()
	body := p.block(t, "## The role of pim")
	delete(body, "path") // a token costs less to make than a database user
	body["token_policies"] = p.vaultScene.policy
	body["eligible_entities"] = []string{p.alias(mainJob)}
	maps.Copy(body, fields)
	host.Root().Write(t, p.path("roles/"+name), body).OK(t)
}

func (p *pipeline) alias(sub string) string { return "alias:" + p.auth.Accessor + "/" + sub }

// token is what the CI system signs for a job.
func (p *pipeline) token(t *testing.T, sub string, more map[string]any) string {
	t.Helper()
	claims := map[string]any{"sub": sub, "aud": "https://vault.example.com", "repository": "acme/shop"}
	maps.Copy(claims, more)
	return p.issuer.Sign(t, claims)
}

// job is a job that has logged in.
func (p *pipeline) job(t *testing.T, role, sub string) harness.Actor {
	t.Helper()
	return p.auth.LogIn(t, role, p.token(t, sub, nil))
}

// creds is what the job's one command reads.
func (p *pipeline) creds(t *testing.T, job harness.Actor, run string) harness.Answer {
	t.Helper()
	return job.Read(t, p.path("creds/deploy-shop?params="+url.QueryEscape("run="+run)))
}

func TestCI(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	for name, row := range map[string]func(*testing.T){
		"a job whose subject matches gets a credential without a person": p.matches,
		"a job whose subject differs cannot log in to the role":          p.cannotLogIn,
		"a job that was let in by another role is refused by pim":        p.notEligible,
		"a pull request gets nothing from a login of the main branch":    p.interleaved,
		"two runs have grants of their own":                              p.twoRuns,
		"many runs at once have grants of their own":                     p.manyRuns,
		"a run goes on under its grant while a whole lease is left":      p.sameRun,
		"the access ends with the job's login":                           p.endsWithLogin,
		"a run id that is missing or malformed is named, not repeated":   p.badRun,
		"no machine can approve":                                         p.machineApproves,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row(t)
		})
	}
}

func (p *pipeline) matches(t *testing.T) {
	t.Helper()
	signed := p.token(t, mainJob, nil)
	job := p.auth.LogIn(t, "deploy-shop", signed)
	printed := job.CLI(t, "read", "-format=json", p.path("creds/deploy-shop"), "params=run=1001")
	var answer struct {
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal([]byte(printed.Stdout), &answer); err != nil || printed.Code != 0 {
		t.Fatalf("exit code %d, %v\n%s%s", printed.Code, err, printed.Stdout, printed.Stderr)
	}
	token, id := fmt.Sprint(answer.Data["token"]), fmt.Sprint(answer.Data["pim_request_id"])
	if !p.reads(t, token) || p.reads(t, job.Token) {
		t.Error("the credential should read the secret, and the job's own login should not")
	}
	request := host.Root().Read(t, p.path("audit/requests/"+id)).OK(t)
	if who := request.String(t, "who"); who != mainJob {
		t.Errorf("the request is by %q", who)
	}
	if params, ok := request.Data["params"].(map[string]any); !ok || params["run"] != "1001" {
		t.Errorf("the request does not name its run: %v", request.Data["params"])
	}
	if decisions, ok := request.Data["decisions"].([]any); !ok || len(decisions) != 0 || request.Data["state"] != "active" {
		t.Errorf("nobody should have decided: %s", request.Body)
	}
	host.NoTrace(t, token)
	host.NoTrace(t, signed)
}

func (p *pipeline) cannotLogIn(t *testing.T) {
	t.Helper()
	for name, jwt := range map[string]string{
		"another ref":         p.token(t, prJob, nil),
		"another repository":  p.token(t, strings.Replace(mainJob, "acme/shop", "acme/shop2", 1), nil),
		"another environment": p.token(t, strings.Replace(mainJob, "production", "staging", 1), nil),
		"no environment":      p.token(t, "repo:acme/shop:ref:refs/heads/main", nil),
		"longer subject":      p.token(t, mainJob+":x", nil),
		"another audience":    p.token(t, mainJob, map[string]any{"aud": "https://elsewhere.example.com"}),
		"an old token":        p.token(t, mainJob, map[string]any{"exp": time.Now().Add(-10 * time.Minute).Unix()}),
		"another signer": harness.NewIssuer(t).Sign(t, map[string]any{
			"sub": mainJob, "aud": "https://vault.example.com", "iss": p.issuer.URL,
		}),
	} {
		if answer := p.auth.TryLogIn(t, "deploy-shop", jwt); answer.Status != http.StatusBadRequest {
			t.Errorf("%s: want 400 at the login, got %d %s", name, answer.Status, answer.Body)
		}
	}
}

func (p *pipeline) notEligible(t *testing.T) {
	t.Helper()
	for _, sub := range []string{prJob, mainJob + ":x", mainJob + " ", "repo:acme/shop:ref:refs/heads/main"} {
		job := p.job(t, "any-job", sub)
		refused := p.creds(t, job, "1").Refused(t, http.StatusForbidden, "access denied: no such role, or you are not eligible")
		if code := refused.String(t, "code"); code != "not_eligible" {
			t.Errorf("%q: code %q", sub, code)
		}
		refused.NoTrace(t, "deploy-shop\"")
	}
	// The host compares names of logins without case, so this is the same entity: only
	// the bound claims of the auth method's role keep it out, as the page says.
	shouting := p.token(t, strings.ToUpper(mainJob), nil)
	if answer := p.auth.TryLogIn(t, "deploy-shop", shouting); answer.Status != http.StatusBadRequest {
		t.Errorf("a subject in capitals logs in to the role: %d %s", answer.Status, answer.Body)
	}
	// A person of the same name in another auth method is somebody else.
	p.creds(t, host.Person(t, "alice", p.scene.policy).Actor, "1").Refused(t, http.StatusForbidden, "access denied: no such role")
}

func (p *pipeline) interleaved(t *testing.T) {
	t.Helper()
	const none = "access denied: no such role"
	pull := p.job(t, "any-job", prJob)
	p.creds(t, pull, "2001").Refused(t, http.StatusForbidden, none)
	branch := p.job(t, "any-job", mainJob)
	p.creds(t, pull, "2001").Refused(t, http.StatusForbidden, none)
	granted := p.creds(t, branch, "2002").OK(t)
	p.creds(t, pull, "2001").Refused(t, http.StatusForbidden, none)
	p.creds(t, pull, "2002").Refused(t, http.StatusForbidden, none)
	pull.Read(t, p.path("creds/deploy-shop?request_id="+granted.String(t, "pim_request_id"))).Refused(t, http.StatusForbidden, none)
	// It can neither look at the grant of the other nor give it back.
	if answer := pull.Delete(t, p.path("requests/"+granted.String(t, "pim_request_id"))); answer.Status/100 == 2 {
		t.Errorf("a pull request gave the grant of the main branch back: %d %s", answer.Status, answer.Body)
	}
	// The other way round: a pull request that logs in last takes nothing away.
	p.job(t, "any-job", prJob)
	p.creds(t, branch, "2003").OK(t)
	if !p.reads(t, granted.String(t, "token")) {
		t.Error("the credential of the main branch should still work")
	}
}

func (p *pipeline) twoRuns(t *testing.T) {
	t.Helper()
	one, two := p.job(t, "deploy-shop", mainJob), p.job(t, "deploy-shop", mainJob)
	first, second := p.creds(t, one, "3001").OK(t), p.creds(t, two, "3002").OK(t)
	if first.String(t, "pim_request_id") == second.String(t, "pim_request_id") || first.String(t, "token") == second.String(t, "token") {
		t.Fatal("two runs share a grant or a credential")
	}
	one.Delete(t, p.path("requests/"+first.String(t, "pim_request_id"))).OK(t)
	p.dies(t, first.String(t, "token"))
	if !p.reads(t, second.String(t, "token")) {
		t.Error("the end of one run ended the other")
	}
	again := p.creds(t, one, "3001").OK(t)
	if id := again.String(t, "pim_request_id"); id == first.String(t, "pim_request_id") || id == second.String(t, "pim_request_id") {
		t.Error("a run that gave its access back should start afresh")
	}
}

func (p *pipeline) manyRuns(t *testing.T) {
	t.Helper()
	job := p.job(t, "deploy-shop", mainJob)
	path := p.path("creds/deploy-shop?params=run%3D40")
	ids, tokens := make([]string, 8), make([]string, 8)
	var runs sync.WaitGroup
	for i := range ids {
		runs.Go(func() {
			answer, err := job.Do(t.Context(), http.MethodGet, path+fmt.Sprint(i), nil, nil)
			if err != nil || answer.Status != http.StatusOK {
				t.Errorf("run %d: %v, %d %s", i, err, answer.Status, answer.Body)
				return
			}
			ids[i], tokens[i] = fmt.Sprint(answer.Data["pim_request_id"]), fmt.Sprint(answer.Data["token"])
		})
	}
	runs.Wait()
	seen := map[string]bool{}
	for i := range ids {
		if seen[ids[i]] || seen[tokens[i]] {
			t.Errorf("run %d shares a grant or a credential with another", i)
		}
		seen[ids[i]], seen[tokens[i]] = true, true
	}
}

func (p *pipeline) sameRun(t *testing.T) {
	t.Helper()
	job := p.job(t, "deploy-shop", mainJob)
	first, second := p.creds(t, job, "5001").OK(t), p.creds(t, job, "5001").OK(t)
	if first.String(t, "pim_request_id") != second.String(t, "pim_request_id") {
		t.Error("a second read of the same run should go on under its grant")
	}
	// Here no grant ever has a whole lease left after its first read.
	p.role(t, "whole", map[string]any{"lease_ttl": 0, "params": map[string]any{}})
	other := p.policyFor(t, "whole")
	login := p.block(t, "## The role of the auth method")
	login["token_policies"] = other
	p.auth.Role(t, "whole", login)
	job = p.job(t, "whole", mainJob)
	one, two := job.Read(t, p.path("creds/whole")).OK(t), job.Read(t, p.path("creds/whole")).OK(t)
	if one.String(t, "pim_request_id") == two.String(t, "pim_request_id") {
		t.Error("a job should not inherit what is left of another's grant")
	}
	for _, answer := range []harness.Answer{one, two} {
		if answer.LeaseDuration < 29*60 {
			t.Errorf("a fresh grant gives a whole lease, not one of %d s", answer.LeaseDuration)
		}
	}
}

func (p *pipeline) policyFor(t *testing.T, role string) string {
	t.Helper()
	return host.Policy(t, role, fmt.Sprintf("path %q { capabilities = [\"read\"] }", p.path("creds/"+role)))
}

func (p *pipeline) endsWithLogin(t *testing.T) {
	t.Helper()
	job := p.job(t, "deploy-shop", mainJob)
	token := p.creds(t, job, "6001").OK(t).String(t, "token")
	job.Write(t, "auth/token/revoke-self", nil).OK(t)
	p.dies(t, token)
}

func (p *pipeline) badRun(t *testing.T) {
	t.Helper()
	job := p.job(t, "deploy-shop", mainJob)
	job.Read(t, p.path("creds/deploy-shop")).Refused(t, http.StatusBadRequest, "invalid input: params.run: is required by the role")
	for _, run := range []string{"canary-run", "1 or 1=1", "123456789012345678901"} {
		p.creds(t, job, run).Refused(t, http.StatusBadRequest, "invalid input: params.run: does not match the role's pattern").NoTrace(t, run)
	}
	p.creds(t, job, "7001").OK(t)
	job.Read(t, p.path("creds/deploy-shop")).Refused(t, http.StatusBadRequest, "invalid input: params.run: is required by the role")
	job.Read(t, p.path("creds/deploy-shop?params="+url.QueryEscape("run=1,canary=2"))).
		Refused(t, http.StatusBadRequest, "invalid input: ").NoTrace(t, "canary")
}

// machineApproves has everything that could make a machine an approver but a
// person's login.
func (p *pipeline) machineApproves(t *testing.T) {
	t.Helper()
	c := p.cast(t)
	everything := p.scene.policy
	approle := host.AppRole(t, "robot", "20m", everything)
	login := p.block(t, "## The role of the auth method")
	login["token_policies"] = everything
	p.auth.Role(t, "robot", login)
	job, robot := p.job(t, "robot", mainJob), approle.LogIn(t)
	// bob has a machine's login too: whoever holds that decides unattended.
	both := host.Entity(t, "both-"+approle.RoleID, map[string]string{
		p.auth.Accessor: "bob@example.com", accessorOf(t, "userpass/"): c.bob.Login + "-2",
	}, nil)
	host.Root().Write(t, "auth/userpass/users/"+c.bob.Login+"-2", map[string]any{"password": "pw", "token_policies": everything}).OK(t)
	second := host.Anonymous().Write(t, "auth/userpass/login/"+c.bob.Login+"-2", map[string]any{"password": "pw"}).OK(t)
	half := host.Anonymous().With("bob with a robot", fmt.Sprint(second.Auth["client_token"]))

	c.role(t, "by-machines", p.tokens(map[string]any{
		"approver_groups":   "",
		"approver_entities": []string{p.alias(mainJob), "alias:" + accessorOf(t, "approle/") + "/" + approle.RoleID, both},
	})).OK(t)
	id, digest := c.ask(t, "by-machines")
	for _, machine := range []harness.Actor{job, robot, half} {
		if inbox := machine.List(t, p.path("approvals/")).Keys(t); len(inbox) != 0 {
			t.Errorf("%s has an inbox: %v", machine.Name, inbox)
		}
		machine.Write(t, p.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).
			Refused(t, http.StatusForbidden, "access denied: machines may request, but never decide")
	}
	if request := host.Root().Read(t, p.path("audit/requests/"+id)).OK(t); request.Data["state"] != "pending" || request.Data["have"] != 0.0 {
		t.Errorf("a machine has decided: %s", request.Body)
	}
}
