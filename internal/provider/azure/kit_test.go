package azure

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure/fakeazure"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	homeTenant   = "11111111-1111-4111-8111-111111111111"
	otherTenant  = "22222222-2222-4222-8222-222222222222"
	engineClient = "33333333-3333-4333-8333-333333333333"
	engineSecret = "eng~secret-of-the-engine"
	robotClient  = "44444444-4444-4444-8444-444444444444"
	alice        = "a11ce000-0000-4000-8000-00000000a11c"
	bob          = "b0b00000-0000-4000-8000-000000000b0b"
	admins       = "66666666-6666-4666-8666-666666666666"
	subscription = "55555555-5555-4555-8555-555555555555"
	scopeAll     = "/subscriptions/" + subscription
	scopeGroup   = scopeAll + "/resourceGroups/prod"
	usualLag     = 12 * time.Second
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// noWait is a pace for tests: nothing waits, and nothing goes on after the end.
func noWait(ctx context.Context, _ clock.Clock, _ time.Duration) error { return ctx.Err() }

// defined gives a resource manager the common role definitions.
func defined(m *fakeazure.Manager) *fakeazure.Manager {
	for _, id := range builtIn() {
		m.Define(id, "*/read")
	}
	for _, id := range grantsRoles() {
		m.Define(id, "Microsoft.Authorization/*", "*/read")
	}
	return m
}

// kit is one cloud with what tests of the provider need.
type kit struct {
	clk     *clock.Manual
	cloud   *fakeazure.Cloud
	home    *fakeazure.Tenant
	manager *fakeazure.Manager
	robot   *fakeazure.App
	engine  *fakeazure.Principal
}

func newKit(t testing.TB) *kit {
	t.Helper()
	clk := clock.NewManual(start)
	k := &kit{clk: clk, cloud: fakeazure.New(clk)}
	k.cloud.Lag = usualLag
	k.home = k.cloud.AddTenant(homeTenant)
	_, k.engine = k.home.Standing(engineClient, engineSecret, "Application.ReadWrite.OwnedBy", "GroupMember.ReadWrite.All")
	k.robot, _ = k.home.Standing(robotClient, "rob~somebody-elses")
	k.home.Groups[admins] = map[string]time.Time{}
	k.manager = defined(k.cloud.AddManager(k.home, subscription))
	k.cloud.Machine(homeTenant, engineClient)
	t.Cleanup(func() {
		for _, wrong := range fakeazure.Judge(k.cloud.Calls(fakeazure.Graph)) {
			t.Error(wrong)
		}
	})
	other := k.cloud.AddTenant(otherTenant)
	other.Standing(engineClient, engineSecret)
	other.Groups[admins] = map[string]time.Time{}
	defined(k.cloud.AddManager(other))
	return k
}

func (k *kit) surroundings() surroundings {
	return surroundings{transport: func(contract.Env, bool) http.RoundTripper { return k.cloud }, pace: noWait}
}

func (k *kit) env() contract.Env { return contract.Env{Clock: k.clk, Log: providertest.Quiet{}} }

// target is the usual target, with some fields changed.
func (k *kit) target(change contract.Values) contract.Target {
	fields := contract.Values{"tenant_id": homeTenant, "client_id": engineClient, "managed_scopes": []string{scopeAll}}
	maps.Copy(fields, change)
	return contract.Target{
		Name: "prod", Fields: fields, Place: homeTenant, Secrets: map[string]secret.String{"client_secret": secret.New(engineSecret)},
	}
}

func (k *kit) open(t testing.TB, target contract.Target) *Provider {
	t.Helper()
	p, err := open(k.surroundings(), k.env(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// input is a fresh credential of a role.
func (k *kit) input(t testing.TB, fields contract.Values) contract.Input {
	t.Helper()
	now := k.clk.Now()
	return contract.Input{
		Credential: domain.CredentialID(providertest.NewID(t, now)), Request: domain.RequestID(providertest.NewID(t, now)), Role: "reader", Person: "alice",
		Principal: alice, Fields: normalize(fields), NotAfter: now.Add(10 * time.Minute),
	}
}

// issue issues until the credential is usable, and gives the last handle that
// was noted.
func (k *kit) issue(t testing.TB, p *Provider, in contract.Input) (contract.Issued, domain.Handle, error) {
	t.Helper()
	h, err := p.Plan(t.Context(), in)
	if err != nil {
		return contract.Issued{}, h, err
	}
	return providertest.IssueUsable(t, p, in, h, k.clk)
}

func (k *kit) mustIssue(t testing.TB, p *Provider, fields contract.Values) (contract.Issued, domain.Handle) {
	t.Helper()
	issued, last, err := k.issue(t, p, k.input(t, fields))
	if err != nil {
		t.Fatalf("issue: %v", err)
	}
	return issued, last
}

func (k *kit) mustEnd(t testing.TB, p *Provider, h domain.Handle) {
	t.Helper()
	providertest.MustEnd(t, p, h, k.clk)
}

// exists lists what is there for a handle. What gives access counts once.
func (k *kit) exists(t testing.TB, h domain.Handle) []providertest.Object {
	t.Helper()
	var n names
	if err := json.Unmarshal(h.Data, &n); err != nil {
		t.Fatal(err)
	}
	k.cloud.Lock()
	defer k.cloud.Unlock()
	var out []providertest.Object
	name := namePrefix + string(h.Credential)
	for _, a := range k.home.Apps {
		if a.Unique == name && (a.Deleted.IsZero() || n.Purge) {
			sp := k.home.PrincipalOf(a.Client)
			usable := a.Deleted.IsZero() && sp != nil && sp.Enabled && len(a.Passwords) > 0
			out = append(out, providertest.Object{What: "application " + name, Usable: usable})
		}
	}
	for _, pw := range k.robot.Passwords {
		if pw.Name == name {
			out = append(out, providertest.Object{
				What: "password " + pw.Key, Usable: true, Inert: pw.Key != n.Key, Until: pw.End,
			})
		}
	}
	if n.Timed && k.manager.Gives(n.Principal) > 0 {
		return append(out, providertest.Object{What: "timed assignment of " + n.Principal, Usable: true, Until: time.Unix(n.End, 0)})
	}
	for _, a := range n.Roles {
		if k.manager.Assignments[a.Name] != nil {
			out = append(out, providertest.Object{What: "assignment " + a.Name, Usable: n.Kind == kindAssignment})
		}
	}
	for _, g := range n.Group {
		if _, in := k.home.Groups[g][n.Principal]; in {
			out = append(out, providertest.Object{What: "membership in " + g, Usable: n.Kind == kindMember})
		}
	}
	return out
}

// works tries a credential.
func (k *kit) works(_ testing.TB, issued contract.Issued) bool {
	data := issued.Data.Reveal()
	k.cloud.Lock()
	defer k.cloud.Unlock()
	if text, _ := data["client_secret"].(string); text != "" {
		client, _ := data["client_id"].(string)
		sp, ok := k.cloud.LogsIn(k.home, client, text)
		if !ok || client == robotClient {
			return ok
		}
		return k.manager.Gives(sp.ID) > 0
	}
	who, _ := data["principal_id"].(string)
	if _, in := k.home.Groups[admins][who]; in {
		return true
	}
	return k.manager.Gives(who) > 0
}
