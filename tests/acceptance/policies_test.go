package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// page reads a file of the repository.
func page(t *testing.T, parts ...string) string {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(append([]string{root}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// persona writes a policy of docs/policies for a mount and returns its name.
func persona(t *testing.T, pim *harness.Mount, name string) string {
	t.Helper()
	text := page(t, "docs", "policies", name+".hcl")
	return host.Policy(t, name, strings.ReplaceAll(text, `path "pim/`, `path "`+pim.Path+`/`))
}

// table is the matrix of docs/policies.md: call → persona → cell.
func table(t *testing.T) (personas []string, calls map[string]map[string]string) {
	t.Helper()
	calls = map[string]map[string]string{}
	for line := range strings.Lines(page(t, "docs", "policies.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == "call":
			personas = cells[1:]
		case personas != nil && len(cells) == len(personas)+1 && strings.HasPrefix(cells[0], "`"):
			row := map[string]string{}
			for i, p := range personas {
				row[p] = cells[i+1]
			}
			calls[strings.Trim(cells[0], "`")] = row
		}
	}
	return personas, calls
}

var capture = regexp.MustCompile(`\{([a-z_]+)\}`)

// operations are all calls of a mount, as the table writes them.
func operations(pim *harness.Mount) []string {
	var out []string
	for path, item := range pim.Contract().Paths {
		for verb := range item.Verbs(path) {
			out = append(out, verb+" "+strings.TrimPrefix(capture.ReplaceAllString(path, ":$1"), "/"))
		}
	}
	slices.Sort(out)
	return out
}

// passes tells whether the host's policies let a call through to pim. The call
// carries a field that no operation has, so that pim refuses it before it does
// anything: only the host refuses without data.
func passes(t *testing.T, who harness.Actor, pim *harness.Mount, call, name string) bool {
	t.Helper()
	verb, path, _ := strings.Cut(call, " ")
	path = pim.Path + "/" + regexp.MustCompile(`:[a-z_]+`).ReplaceAllLiteralString(path, name)
	method, body := map[string]string{"read": http.MethodGet, "list": "LIST", "delete": http.MethodDelete}[verb], any(nil)
	if verb == "write" {
		method, body = http.MethodPut, map[string]any{"no_such_field": "1"}
	} else {
		path += "?no_such_field=1"
	}
	answer, err := who.Do(t.Context(), method, path, body, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status == http.StatusForbidden && answer.Data == nil {
		return false
	}
	if answer.Status != http.StatusBadRequest || answer.Data["code"] != "invalid_input" {
		t.Errorf("%s: neither the host nor pim refused it: %d %s", answer.Request, answer.Status, answer.Body)
	}
	return true
}

// Every path, every operation, every persona: as docs/policies.md says.
func TestPolicyMatrix(t *testing.T) {
	t.Parallel()
	pim := host.Mount(t, harness.Plugin{})
	personas, calls := table(t)
	all := operations(pim)
	for _, call := range all {
		if calls[call] == nil {
			t.Errorf("%s is not in the table of docs/policies.md", call)
		}
	}
	for call := range calls {
		if !slices.Contains(all, call) {
			t.Errorf("%s is in the table of docs/policies.md, and is no call of pim", call)
		}
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "policies", "*.hcl"))
	if err != nil || len(files) != len(personas)+1 {
		t.Fatalf("%d policies for %d personas and the broker: %v", len(files), len(personas), err)
	}
	for _, p := range append(personas, "broker") {
		t.Run(p, func(t *testing.T) {
			t.Parallel()
			who := host.Person(t, "somebody", persona(t, pim, p))
			for call, row := range calls {
				cell := row[p]
				if p == "broker" && !strings.Contains(call, " public/") {
					cell = "–"
				} else if p == "broker" {
					cell = "yes"
				}
				judgeCell(t, who.Actor, pim, call, cell)
			}
		})
	}
}

func judgeCell(t *testing.T, who harness.Actor, pim *harness.Mount, call, cell string) {
	t.Helper()
	want := map[string]struct{ own, others bool }{
		"yes": {true, true}, "own": {true, true}, "team": {true, false}, "–": {},
	}
	w, known := want[cell]
	if !known {
		t.Fatalf("%s: a cell says %q", call, cell)
	}
	if got := passes(t, who, pim, call, "team-a-x"); got != w.own {
		t.Errorf("%s: passes %v, the table says %s", call, got, cell)
	}
	if !strings.Contains(call, ":") {
		return
	}
	if got := passes(t, who, pim, call, "other"); got != w.others {
		t.Errorf("%s of others: passes %v, the table says %s", call, got, cell)
	}
}

// crew are people with the policies of docs/policies and nothing else.
type crew struct {
	pim                               *harness.Mount
	alice, bob, admin, officer, audit *harness.Person
	operator                          *harness.Person
	eng, leads                        *harness.Group
	policy                            string
	login                             *harness.HostTarget
}

func newCrew(t *testing.T) *crew {
	t.Helper()
	pim := host.Mount(t, harness.Plugin{})
	person := func(name, policy string) *harness.Person { return host.Person(t, name, persona(t, pim, policy)) }
	c := &crew{
		pim: pim, alice: person("alice", "requester"), bob: person("bob", "approver"), admin: person("carol", "role-admin"),
		officer: person("dave", "security-officer"), audit: person("dave", "auditor"), operator: person("carol", "operator"),
		policy: host.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`),
	}
	c.eng, c.leads = host.Group(t, "eng", c.alice), host.Group(t, "leads", c.bob)
	c.login = pim.HostTarget(t, "", nil, c.policy)
	c.operator.Write(t, c.path("targets/team-a-main"), map[string]any{
		"type": "host", "address": host.Addr, "token_role": c.login.TokenRole, "allowed_roles": "team-a-*",
		"role_id": c.login.Login.RoleID, "secret_id": c.login.Login.SecretID,
	}).OK(t)
	return c
}

func (c *crew) path(below string) string { return c.pim.Path + "/" + below }

func (c *crew) role(fields map[string]any) map[string]any {
	all := map[string]any{
		"target": "team-a-main", "token_policies": c.policy, "eligible_groups": c.eng.Name, "approver_groups": c.leads.Name,
	}
	maps.Copy(all, fields)
	return all
}

// The story with nobody but people who have the documented policies.
func TestStoryUnderTheDocumentedPolicies(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	c.admin.Write(t, c.path("roles/team-a-db"), c.role(nil)).OK(t)
	if roles := c.alice.List(t, c.path("eligible/")).Keys(t); !slices.Equal(roles, []string{"team-a-db"}) {
		t.Fatalf("alice is eligible for %v", roles)
	}
	id := c.alice.Write(t, c.path("request/team-a-db"), map[string]any{"justification": "order 4711"}).OK(t).String(t, "request_id")
	digest := c.bob.Read(t, c.path("approvals/"+id)).OK(t).String(t, "digest")
	c.bob.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).OK(t)
	token := c.alice.Read(t, c.path("creds/team-a-db")).OK(t).String(t, "token")
	if seen := c.audit.List(t, c.path("audit/grants/")).Keys(t); !slices.Contains(seen, id) {
		t.Errorf("the auditor sees %v", seen)
	}
	c.officer.Write(t, c.path("revoke"), map[string]any{"role": "team-a-db", "reason": "incident"}).OK(t)
	poll.Until(t, promised, func() error {
		if c.alice.With("credential", token).Read(t, "secret/data/prod/none").Status != forbidden {
			return errors.New("the credential outlives the kill switch")
		}
		return nil
	})
	for _, hold := range c.officer.List(t, c.path("holds/")).Keys(t) {
		c.officer.Delete(t, c.path("holds/"+hold)).OK(t)
	}
	c.operator.Write(t, c.path("config"), map[string]any{"reap_interval": 5}).OK(t)
}

// A team keeps its own roles, at its own targets.
func TestDelegationByPolicyParameters(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	c.admin.Write(t, c.path("roles/team-a-db"), c.role(nil)).OK(t)
	c.operator.Write(t, c.path("roles/team-b-db"), c.role(map[string]any{"target": "local"})).OK(t)
	for _, row := range []struct {
		name, role string
		fields     map[string]any
		ok         bool
	}{
		{"changes a field of its role", "team-a-db", map[string]any{"max_ttl": "2h"}, true},
		{"makes another role of its own", "team-a-web", c.role(nil), true},
		{"tries a change without making it", "team-a-db", map[string]any{"ttl": "30m", "dry_run": true}, true},
		{"makes a role of another name", "team-b-web", c.role(nil), false},
		{"edits a role of another team", "team-b-db", map[string]any{"max_ttl": "9h"}, false},
		{"moves its role to another target", "team-a-db", map[string]any{"target": "local"}, false},
		{"hides another target in a list", "team-a-db", map[string]any{"target": []string{"team-a-main", "local"}}, false},
		{"names the target in capitals", "team-a-db", map[string]any{"TARGET": "local"}, false},
		{"names the target twice", "team-a-db", map[string]any{"target": "team-a-main", "Target": "local"}, false},
		{"makes a role without a target", "team-a-new", map[string]any{"token_policies": c.policy}, false},
	} {
		answer := c.admin.Write(t, c.path("roles/"+row.role), row.fields)
		if ok := answer.Status == http.StatusOK; ok != row.ok {
			t.Errorf("who keeps the roles of team A %s: %d %s", row.name, answer.Status, answer.Body)
		}
	}
	for role, target := range map[string]string{"team-a-db": "team-a-main", "team-a-web": "team-a-main", "team-b-db": "local"} {
		if got := host.Root().Read(t, c.path("roles/"+role)).OK(t).String(t, "target"); got != target {
			t.Errorf("%s is at %s now, want %s", role, got, target)
		}
	}
	for _, role := range []string{"team-b-web", "team-a-new"} {
		if got := host.Root().Read(t, c.path("roles/"+role)); got.Status != http.StatusNotFound {
			t.Errorf("%s exists: %s", role, got.Body)
		}
	}
	c.operator.Write(t, c.path("roles/team-b-web"), c.role(nil)).Refused(t, badRequest, "invalid input: ")
	c.admin.Delete(t, c.path("roles/team-a-web")).OK(t)
	if c.admin.Delete(t, c.path("roles/team-b-db")).Status != http.StatusForbidden {
		t.Error("a role of another team was deleted")
	}
}

// The two blocks of docs/policies.md that are to be copied do what it says.
func TestBlocksOfThePolicyPage(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	c.operator.Write(t, c.path("roles/team-a-db"), c.role(nil)).OK(t)
	_, block, _ := strings.Cut(page(t, "docs", "policies.md"), "```hcl\n")
	block, _, found := strings.Cut(block, "```")
	if !found || !strings.Contains(block, "denied_parameters") {
		t.Fatal("no block with denied_parameters in docs/policies.md")
	}
	block = strings.Replace(block, "  # … and allowed_parameters as above", `  allowed_parameters = { "target" = ["team-a-*"], "*" = [] }`, 1)
	admin := host.Person(t, "carol", host.Policy(t, "role-admin", strings.ReplaceAll(block, "pim/", c.path(""))))
	admin.Write(t, c.path("roles/team-a-db"), map[string]any{"max_ttl": "2h"}).OK(t)
	for name, value := range map[string]any{"approver_groups": c.eng.Name, "approver_entities": c.alice.EntityID, "auto_approve": true, "target": "local"} {
		if answer := admin.Write(t, c.path("roles/team-a-db"), map[string]any{name: value}); answer.Status != forbidden || answer.Data != nil {
			t.Errorf("%s can be written: %d %s", name, answer.Status, answer.Body)
		}
	}

	quota := regexp.MustCompile("`vault write (sys/quotas/\\S+) path=pim/ rate=(\\d+)`").FindStringSubmatch(page(t, "docs", "policies.md"))
	if quota == nil {
		t.Fatal("no quota in docs/policies.md")
	}
	path := quota[1] + "-" + c.pim.Path
	host.Root().Write(t, path, map[string]any{"path": c.path(""), "rate": quota[2]}).OK(t)
	c.alice.List(t, c.path("eligible/")).OK(t)
	host.Root().Delete(t, path).OK(t)
}

// pim/request* opens pim/requests/… too. pim's own rule still holds there.
func TestTrapOfTheMissingSlash(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.role(t, "prod-db", nil)
	id := o.ask(t, "prod-db", nil)
	for _, row := range []struct {
		pattern string
		opens   bool
	}{{"request/*", false}, {"request*", true}} {
		policy := fmt.Sprintf("path %q { capabilities = [\"read\", \"update\", \"delete\"] }", o.path(row.pattern))
		who := host.Person(t, "dave", host.Policy(t, "trap", policy))
		if got := passes(t, who.Actor, o.pim, "read requests/:request_id", id); got != row.opens {
			t.Errorf("a policy on %s opens requests/: %v", row.pattern, got)
		}
		if answer := who.Read(t, o.path("requests/"+id)); answer.Status == http.StatusOK {
			t.Errorf("a policy on %s shows somebody else's request", row.pattern)
		}
		if answer := who.Delete(t, o.path("requests/"+id)); answer.Status/100 == 2 || o.state(t, id) != "pending" {
			t.Errorf("a policy on %s withdraws somebody else's request", row.pattern)
		}
	}
}

var rule = regexp.MustCompile(`(?s)path "([^"]+)" \{\s*capabilities = \[([^\]]*)\]`)

// rules are the lines of a policy: path → capabilities. Comments are none.
func rules(text string) map[string]string {
	out := map[string]string{}
	plain := regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(text, "")
	for _, m := range rule.FindAllStringSubmatch(plain, -1) {
		capabilities := strings.Split(strings.ReplaceAll(strings.ReplaceAll(m[2], `"`, ""), " ", ""), ",")
		slices.Sort(capabilities)
		out[m[1]] = strings.Join(capabilities, ",")
	}
	return out
}

// The broker's policy is exactly what the engine itself says that it needs, it is
// enough, and the policy of the demo is part of it.
func TestBrokerPolicyIsWhatTheEngineAsksFor(t *testing.T) {
	t.Parallel()
	pg := harness.StartPostgres(t)
	pim, database := host.Mount(t, harness.Plugin{}), host.DatabaseEngine(t, pg, harness.DropAndDisconnect)
	root := host.Root()
	reader := host.Policy(t, "reader", `path "`+database+`/creds/reader" { capabilities = ["read"] }`)
	secret := host.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`)
	target := pim.HostTarget(t, "", nil, reader, secret)

	// The names of the documented policy stand for those of this host.
	text := page(t, "docs", "policies", "broker.hcl")
	named := strings.NewReplacer("/pim-token", "/"+target.TokenRole, "role/pim/", "role/"+target.Login.Name+"/", `"database/`, `"`+database+"/", "revoke/database/", "revoke/"+database+"/")
	broker := host.Policy(t, "broker", named.Replace(text))
	root.Write(t, "auth/approle/role/"+target.Login.Name, map[string]any{"token_policies": broker}).OK(t)
	root.Write(t, pim.Path+"/targets/local", map[string]any{
		"role_name": target.Login.Name, "role_id": target.Login.RoleID, "secret_id": target.Login.SecretID,
	}).OK(t)

	alice, bob := host.Person(t, "alice", pim.PersonPolicy(t)), host.Person(t, "bob", pim.PersonPolicy(t))
	people := map[string]any{"target": "local", "eligible_groups": host.Group(t, "eng", alice).Name, "auto_approve": true, "require_justification": false}
	for name, fields := range map[string]map[string]any{
		"db":     {"path": database + "/creds/reader", "engine": "database", "ends_sessions": true},
		"secret": {"token_policies": secret},
	} {
		maps.Copy(fields, people)
		root.Write(t, pim.Path+"/roles/"+name, fields).OK(t)
		lease := alice.Read(t, pim.Path+"/creds/"+name).OK(t)
		root.Write(t, "sys/leases/revoke", map[string]any{"lease_id": lease.LeaseID, "sync": true}).OK(t)
	}
	check := root.Read(t, pim.Path+"/targets/local/check").OK(t)
	if missing, ok := check.Data["missing"].([]any); !ok || len(missing) != 0 {
		t.Errorf("check misses %v", check.Data["missing"])
	}
	for _, warning := range check.Warnings {
		t.Errorf("check warns: %s", warning)
	}
	if want, got := rules(named.Replace(text)), rules(check.String(t, "required_policy")); !maps.Equal(want, got) {
		t.Errorf("docs/policies/broker.hcl has\n%v\nthe engine asks for\n%v", want, got)
	}
	root.Write(t, pim.Path+"/targets/local/rotate-root", nil).OK(t)

	documented := rules(text)
	for path, capabilities := range rules(page(t, "scripts", "policies", "pim-engine.hcl")) {
		if documented[path] != capabilities {
			t.Errorf("the demo's engine has %s on %s, the documented one %q", capabilities, path, documented[path])
		}
	}
	if bob.Read(t, pim.Path+"/creds/db").Status != forbidden {
		t.Error("bob is not eligible")
	}
}
