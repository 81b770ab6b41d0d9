package acceptance

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// cook plays the stories of docs/cookbook.md: its roles as they stand there, with
// the groups of this test.
type cook struct {
	*cast
	carol, dave *harness.Person
	groups      map[string]*harness.Group
	yields      string // policy of the tokens
}

func TestCookbook(t *testing.T) {
	t.Parallel()
	policy := host.Policy(t, "cook", `path "secret/data/cook/*" { capabilities = ["read"] }`)
	scene := newScene(t, nil, policy)
	recipes := map[string]func(*cook, *testing.T){
		"## 1. Production admin with two leads":                   (*cook).twoLeads,
		"## 2. CI deploys from the protected branch":              (*cook).protectedBranch,
		"## 3. On-call engineers approve themselves, for an hour": (*cook).onCall,
		"## 4. A vendor in office hours, until the contract ends": (*cook).officeHours,
		"## 5. Break-glass":                       (*cook).breakGlass,
		"## 6. A change freeze":                   (*cook).freeze,
		"## 7. Separation of duties":              (*cook).separation,
		"## 8. A quarterly review of who may ask": (*cook).quarterly,
		"## 9. Scheduled maintenance":             (*cook).maintenance,
		"## 10. Repeated remediation":             (*cook).remediation,
	}
	for _, heading := range headings(t, "cookbook.md") {
		play, ok := recipes[heading]
		if !ok {
			t.Errorf("%s is not played", heading)
			continue
		}
		t.Run(heading[3:], func(t *testing.T) {
			t.Parallel()
			c := &cook{cast: scene.cast(t), carol: host.Person(t, "carol", scene.policy), dave: host.Person(t, "dave", scene.policy), yields: policy}
			c.groups = map[string]*harness.Group{"engineers": c.eligible, "leads": c.approver}
			play(c, t)
		})
	}
}

// headings are the second headings of a page.
func headings(t *testing.T, page string) []string {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "## ") {
			out = append(out, line)
		}
	}
	return out
}

func (c *cook) group(t *testing.T, name string, members ...*harness.Person) {
	t.Helper()
	c.groups[name] = host.Group(t, name, members...)
}

// serve writes the role below a heading and returns its name. more overrides what
// the test cannot wait for.
func (c *cook) serve(t *testing.T, heading string, more map[string]any, names ...string) string {
	t.Helper()
	block := docBlock(t, "cookbook.md", heading)
	for name, g := range c.groups {
		for _, quoted := range []string{`"` + name + `"`, `\"` + name + `\"`} {
			block = strings.ReplaceAll(block, quoted, strings.ReplaceAll(quoted, name, g.Name))
		}
	}
	for i := 0; i+1 < len(names); i += 2 {
		block = replaced(t, block, map[string]string{names[i]: names[i+1]})
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(block), &fields); err != nil {
		t.Fatal(err)
	}
	maps.Copy(fields, map[string]any{"target": c.target.Name, "credential_type": "token", "token_policies": c.yields})
	maps.Copy(fields, more)
	name := fmt.Sprintf("cook-%d", time.Now().UnixNano())
	host.Root().Write(t, c.path("roles/"+name), fields).OK(t)
	return name
}

func (c *cook) file(t *testing.T, who *harness.Person, role string, more map[string]any) harness.Answer {
	t.Helper()
	body := map[string]any{"justification": "order 4711 is stuck", "ticket": "OPS-1"}
	maps.Copy(body, more)
	return who.Write(t, c.path("request/"+role), body)
}

func (c *cook) says(t *testing.T, who *harness.Person, asked harness.Answer, decision, comment string) harness.Answer {
	t.Helper()
	return who.Write(t, c.path("approvals/"+asked.String(t, "request_id")), map[string]any{
		"decision": decision, "digest": asked.String(t, "digest"), "comment": comment,
	})
}

func (c *cook) state(t *testing.T, asked harness.Answer, want string) {
	t.Helper()
	if got := c.alice.Read(t, c.path("requests/"+asked.String(t, "request_id"))).OK(t).String(t, "state"); got != want {
		t.Fatalf("the request is %s, want %s", got, want)
	}
}

func (c *cook) reads(t *testing.T, who *harness.Person, role string) harness.Answer {
	t.Helper()
	return who.Read(t, c.path("creds/"+role))
}

func (c *cook) simulate(t *testing.T, role string, body map[string]any) harness.Answer {
	t.Helper()
	all := map[string]any{"justification": "what if", "ticket": "OPS-1"}
	maps.Copy(all, body)
	return host.Root().Write(t, c.path("audit/simulate/"+role), all).OK(t)
}

func (c *cook) twoLeads(t *testing.T) {
	host.SetMembers(t, c.approver, c.bob, c.carol)
	role := c.serve(t, "## 1. Production admin with two leads", nil)
	c.file(t, c.alice, role, map[string]any{"ticket": "X-1"}).Refused(t, http.StatusBadRequest, "invalid input: ")
	asked := c.file(t, c.alice, role, nil).OK(t)
	c.says(t, c.bob, asked, "approve", "").OK(t)
	c.says(t, c.bob, asked, "approve", "").Refused(t, http.StatusBadRequest, "you have already decided")
	c.reads(t, c.alice, role).Refused(t, http.StatusBadRequest, "approval pending: ")
	c.says(t, c.carol, asked, "approve", "").OK(t)
	c.reads(t, c.alice, role).OK(t)
}

func (c *cook) protectedBranch(t *testing.T) {
	issuer := harness.NewIssuer(t)
	auth := host.JWTAuth(t, issuer)
	auth.Role(t, "shop", map[string]any{"user_claim": "sub", "bound_audiences": "pim", "token_policies": c.policy})
	logIn := func(ref string) harness.Actor {
		return auth.LogIn(t, "shop", issuer.Sign(t, map[string]any{"sub": "repo:acme/shop:ref:" + ref, "aud": "pim"}))
	}
	role := c.serve(t, "## 2. CI deploys from the protected branch", nil, "ACCESSOR", auth.Accessor)
	run := func(a harness.Actor, n string) harness.Answer {
		return a.Read(t, c.path("creds/"+role+"?params=run="+n))
	}
	first := run(logIn("refs/heads/main"), "1").OK(t)
	second := run(logIn("refs/heads/main"), "2").OK(t)
	if first.Data["pim_request_id"] == second.Data["pim_request_id"] {
		t.Error("two runs share a grant")
	}
	run(logIn("refs/heads/feature"), "3").Refused(t, http.StatusForbidden, "access denied: ")
}

func (c *cook) onCall(t *testing.T) {
	c.group(t, "on-call", c.alice)
	role := c.serve(t, "## 3. On-call engineers approve themselves, for an hour", map[string]any{"max_active": 3})
	c.reads(t, c.alice, role).Refused(t, http.StatusBadRequest, "no active grant: ") // the role wants a reason
	c.alice.Read(t, c.path("creds/"+role+"?justification=pager")).OK(t)
	if got := c.file(t, c.alice, role, map[string]any{"ttl": "2h"}).OK(t).String(t, "state"); got != "pending" {
		t.Errorf("for two hours: %s", got)
	}
	host.SetMembers(t, c.groups["on-call"])
	c.reads(t, c.alice, role).Refused(t, http.StatusForbidden, "access denied: ")
}

func (c *cook) officeHours(t *testing.T) {
	c.group(t, "vendor", c.alice)
	role := c.serve(t, "## 4. A vendor in office hours, until the contract ends", nil)
	for at, want := range map[string]bool{"2098-07-02T14:59:59Z": true, "2098-07-02T15:00:00Z": false, "2098-01-04T09:00:00Z": true, "2098-01-05T09:00:00Z": false} {
		s := c.simulate(t, role, map[string]any{"entity_id": c.alice.EntityID, "at": at})
		day, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		weekend := day.Weekday() == time.Saturday || day.Weekday() == time.Sunday
		if s.Data["open_now"] != (want && !weekend) && !weekend {
			t.Errorf("%s (%s): open %v", at, day.Weekday(), s.Data["open_now"])
		}
		if weekend && s.Data["open_now"] == true {
			t.Errorf("%s: open on a %s", at, day.Weekday())
		}
	}
	if s := c.simulate(t, role, map[string]any{"entity_id": c.alice.EntityID, "at": "2100-01-01T09:00:00Z"}); s.Data["eligible"] != false {
		t.Error("eligible after the contract")
	}
	// Closed now, whenever the test runs: the only window is a day away.
	away := strings.ToLower(time.Now().UTC().Add(48 * time.Hour).Weekday().String()[:3])
	host.Root().Write(t, c.path("roles/"+role), map[string]any{"allowed_windows": []map[string]any{{"days": []string{away}, "from": "00:00", "to": "24:00"}}}).OK(t)
	c.file(t, c.alice, role, map[string]any{"ttl": "1h"}).Refused(t, http.StatusForbidden, "access denied: role "+role+" is closed now")
	asked := c.file(t, c.alice, role, nil)
	asked.Refused(t, http.StatusForbidden, "access denied: role "+role+" is closed now")
}

func (c *cook) breakGlass(t *testing.T) {
	c.group(t, "on-call", c.dave)
	c.group(t, "security", c.carol)
	role := c.serve(t, "## 5. Break-glass", nil)
	emergency := map[string]any{"justification": "the orders are stuck", "ticket": "INC-1"}
	c.alice.Write(t, c.path("break-glass/"+role), emergency).Refused(t, http.StatusForbidden, "access denied: ")
	c.dave.Write(t, c.path("break-glass/"+role), emergency).OK(t)
	if ans := c.reads(t, c.dave, role).OK(t); ans.Data["pim_break_glass"] != true {
		t.Error("the credential is not marked")
	}
	if keys := c.carol.List(t, c.path("reviews/")).Keys(t); len(keys) != 1 {
		t.Errorf("the reviewer sees %v", keys)
	}
}

func (c *cook) freeze(t *testing.T) {
	role := c.serve(t, "## 6. A change freeze", nil)
	id := c.alice.EntityID
	if s := c.simulate(t, role, map[string]any{"entity_id": id, "at": "2099-12-31T12:00:00Z"}); s.Data["open_now"] != false || !strings.Contains(s.String(t, "hours"), "frozen: year-end freeze") {
		t.Errorf("in the freeze: %s", s.Body)
	}
	if s := c.simulate(t, role, map[string]any{"entity_id": id, "at": "2100-01-04T06:00:00Z"}); s.Data["open_now"] != true {
		t.Errorf("after it: %s", s.Body)
	}
	now := time.Now().UTC()
	c.grantRole(t, role)
	c.reads(t, c.alice, role).OK(t)
	host.Root().Write(t, c.path("roles/"+role), map[string]any{"live": "revoke", "freeze_windows": []map[string]any{{
		"from": now.Add(-time.Hour).Format(time.RFC3339), "until": now.Add(100 * time.Hour).Format(time.RFC3339), "reason": "release",
	}}}).OK(t)
	c.file(t, c.alice, role, nil).Refused(t, http.StatusForbidden, "access denied: role "+role+" is closed now: frozen: release")
}

func (c *cook) grantRole(t *testing.T, role string) harness.Answer {
	t.Helper()
	asked := c.file(t, c.alice, role, nil).OK(t)
	c.says(t, c.bob, asked, "approve", "").OK(t)
	return asked
}

func (c *cook) separation(t *testing.T) {
	c.group(t, "security", c.carol)
	c.group(t, "directors", c.dave)
	c.group(t, "auditors")
	role := c.serve(t, "## 7. Separation of duties", map[string]any{"max_active": 2})
	asked := c.file(t, c.alice, role, nil).OK(t)
	if early := c.carol.Read(t, c.path("approvals/"+asked.String(t, "request_id"))); early.Status != http.StatusNotFound {
		t.Errorf("the second stage sees the request before the first has decided: %s", early.Body)
	}
	c.says(t, c.bob, asked, "approve", "").OK(t)
	c.says(t, c.carol, asked, "approve", "").Refused(t, http.StatusBadRequest, "invalid input: comment: ")
	c.says(t, c.carol, asked, "approve", "seen").OK(t)
	c.state(t, asked, "active")

	long := c.file(t, c.alice, role, map[string]any{"ttl": "5h"}).OK(t)
	c.says(t, c.bob, long, "approve", "").OK(t)
	view := c.dave.Read(t, c.path("approvals/"+long.String(t, "request_id"))).OK(t)
	if rules := fmt.Sprint(view.Data["rules"]); !strings.Contains(rules, "unmet: stage 1 (lead): 1 of 2") {
		t.Errorf("a director sees %s", rules)
	}
	c.says(t, c.dave, long, "approve", "").OK(t)
	c.says(t, c.carol, long, "deny", "too long").OK(t)
	c.state(t, long, "denied")

	// An auditor who is an engineer too.
	host.SetMembers(t, c.groups["auditors"], c.alice)
	c.reads(t, c.alice, role).Refused(t, http.StatusForbidden, "access denied: no such role")
}

func (c *cook) quarterly(t *testing.T) {
	c.group(t, "contractors", c.dave)
	c.group(t, "security", c.carol)
	role := c.serve(t, "## 8. A quarterly review of who may ask", nil)
	c.dave.Read(t, c.path("eligible/"+role)).OK(t)
	campaign := host.Root().Write(t, c.path("campaigns"), map[string]any{
		"role": role, "reviewer_groups": c.groups["security"].Name, "due": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "undecided": "remove",
	}).OK(t).String(t, "campaign_id")
	c.carol.Write(t, c.path("reviews/"+campaign), map[string]any{"principal": "group:" + c.eligible.Name, "verdict": "keep", "comment": "still here"}).OK(t)
	host.Root().Write(t, c.path("campaigns/"+campaign+"/close"), nil).OK(t)
	c.alice.Read(t, c.path("eligible/"+role)).OK(t)
	c.dave.Read(t, c.path("eligible/"+role)).Refused(t, http.StatusForbidden, "access denied: ")
}

func (c *cook) maintenance(t *testing.T) {
	role := c.serve(t, "## 9. Scheduled maintenance", nil)
	start := time.Now().Add(3 * time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
	c.file(t, c.alice, role, map[string]any{"start_time": start}).Refused(t, http.StatusForbidden,
		"access denied: the rules of the role refuse this: require change-ticket: maintenance needs a change ticket")
	asked := c.file(t, c.alice, role, map[string]any{"start_time": start, "ticket": "CHG-7"}).OK(t)
	c.says(t, c.bob, asked, "approve", "").OK(t)
	c.state(t, asked, "scheduled")
	c.reads(t, c.alice, role).Refused(t, http.StatusBadRequest, "no active grant: request "+asked.String(t, "request_id")+" is approved and starts at "+start)
}

func (c *cook) remediation(t *testing.T) {
	role := c.serve(t, "## 10. Repeated remediation", nil)
	c.file(t, c.alice, role, map[string]any{"series_count": 21, "series_params": `[{"service":"web"}]`}).Refused(t, http.StatusBadRequest, "invalid input: series_count: ")
	asked := c.file(t, c.alice, role, map[string]any{"series_count": 2, "series_params": `[{"service":"web"},{"service":"api"}]`}).OK(t)
	if what := c.bob.Read(t, c.path("approvals/"+asked.String(t, "request_id"))).OK(t).String(t, "what"); !strings.Contains(what, "a series of at most 2 runs, each one of: service=web; service=api") {
		t.Errorf("an approver reads %q", what)
	}
	c.says(t, c.bob, asked, "approve", "").OK(t)
	run := func(service string) harness.Answer {
		return c.alice.Read(t, c.path("creds/"+role+"?params=service="+service))
	}
	run("queue").Refused(t, http.StatusBadRequest, "no active grant: ")
	run("web").OK(t)
	run("api").OK(t)
	run("web").Refused(t, http.StatusBadRequest, "limit reached: all 2 runs")
}
