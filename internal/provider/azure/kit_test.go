package azure

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
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

func readerOf(raw []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(raw)) }

// kit is one cloud with what tests of the provider need.
type kit struct {
	clk     *clock.Manual
	cloud   *fakeCloud
	home    *fakeTenant
	manager *fakeManager
	robot   *fakeApp
	engine  *fakePrincipal
}

func newKit(t testing.TB) *kit {
	t.Helper()
	clk := clock.NewManual(start)
	k := &kit{clk: clk, cloud: newFakeCloud(clk)}
	k.cloud.lag = usualLag
	k.home = k.cloud.tenant(homeTenant)
	_, k.engine = k.home.standing(engineClient, engineSecret, "Application.ReadWrite.OwnedBy", "GroupMember.ReadWrite.All")
	k.robot, _ = k.home.standing(robotClient, "rob~somebody-elses")
	k.home.groups[admins] = map[string]time.Time{}
	k.manager = k.cloud.manager(k.home, subscription)
	t.Cleanup(func() { judge(t, k.cloud.calls("graph.microsoft.com")) })
	other := k.cloud.tenant(otherTenant)
	other.standing(engineClient, engineSecret)
	other.groups[admins] = map[string]time.Time{}
	k.cloud.manager(other)
	return k
}

func (k *kit) surroundings() surroundings {
	return surroundings{transport: func(contract.Env, bool) http.RoundTripper { return k.cloud }, pace: noWait}
}

func (k *kit) env() contract.Env { return contract.Env{Clock: k.clk, Log: quiet{}} }

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
	ids := make([]string, 2)
	for i := range ids {
		id, err := domain.NewID(k.clk.Now(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = id
	}
	return contract.Input{
		Credential: domain.CredentialID(ids[0]), Request: domain.RequestID(ids[1]), Role: "reader", Person: "alice",
		Principal: alice, Fields: normalize(fields), NotAfter: k.clk.Now().Add(10 * time.Minute),
	}
}

// issue issues until the credential is usable, and gives the last handle that
// was noted.
func (k *kit) issue(t testing.TB, p *Provider, in contract.Input) (contract.Issued, domain.Handle, error) {
	t.Helper()
	last, err := p.Plan(t.Context(), in)
	if err != nil {
		return contract.Issued{}, last, err
	}
	save := func(h domain.Handle) error { last = h; return nil }
	for range 40 {
		issued, err := p.Issue(t.Context(), in, last, save)
		if err != nil || issued.PollAfter == 0 {
			return issued, last, err
		}
		k.clk.Advance(issued.PollAfter)
	}
	t.Fatal("the credential never became usable")
	return contract.Issued{}, last, nil
}

func (k *kit) mustIssue(t testing.TB, p *Provider, fields contract.Values) (contract.Issued, domain.Handle) {
	t.Helper()
	issued, last, err := k.issue(t, p, k.input(t, fields))
	if err != nil {
		t.Fatalf("issue: %v", err)
	}
	return issued, last
}

// mustEnd revokes until nothing is left to clear.
func (k *kit) mustEnd(t testing.TB, p *Provider, h domain.Handle) {
	t.Helper()
	for range 20 {
		ended, err := p.Revoke(t.Context(), h)
		if err != nil {
			t.Fatalf("revoke: %v", err)
		}
		if ended.Done() {
			return
		}
		h = ended.Rest
		k.clk.Advance(ended.Again.Sub(k.clk.Now()))
	}
	t.Fatal("a remainder is still left")
}

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// exists lists what is there for a handle. What gives access counts once.
func (k *kit) exists(t testing.TB, h domain.Handle) []providertest.Object {
	t.Helper()
	var n names
	if err := json.Unmarshal(h.Data, &n); err != nil {
		t.Fatal(err)
	}
	k.cloud.mu.Lock()
	defer k.cloud.mu.Unlock()
	var out []providertest.Object
	name := namePrefix + string(h.Credential)
	for _, a := range k.home.apps {
		if a.unique == name && (a.deleted.IsZero() || n.Purge) {
			sp := k.home.principalOf(a.client)
			usable := a.deleted.IsZero() && sp != nil && sp.enabled && len(a.passwords) > 0
			out = append(out, providertest.Object{What: "application " + name, Usable: usable})
		}
	}
	for _, pw := range k.robot.passwords {
		if pw.name == name {
			out = append(out, providertest.Object{
				What: "password " + pw.key, Usable: true, Inert: pw.key != n.Key, Until: pw.end,
			})
		}
	}
	for _, a := range n.Roles {
		if k.manager.assignments[a.Name] != nil {
			out = append(out, providertest.Object{What: "assignment " + a.Name, Usable: n.Kind == kindAssignment})
		}
	}
	for _, g := range n.Group {
		if _, in := k.home.groups[g][n.Principal]; in {
			out = append(out, providertest.Object{What: "membership in " + g, Usable: n.Kind == kindMember})
		}
	}
	return out
}

// works tries a credential.
func (k *kit) works(_ testing.TB, issued contract.Issued) bool {
	data := issued.Data.Reveal()
	k.cloud.mu.Lock()
	defer k.cloud.mu.Unlock()
	if text, _ := data["client_secret"].(string); text != "" {
		client, _ := data["client_id"].(string)
		sp, code := k.home.authenticate(k.cloud, url.Values{"client_id": {client}, "client_secret": {text}})
		if code != "" || client == robotClient {
			return code == ""
		}
		return k.assigned(sp.id) > 0
	}
	who, _ := data["principal_id"].(string)
	if _, in := k.home.groups[admins][who]; in {
		return true
	}
	return k.assigned(who) > 0
}

func (k *kit) assigned(who string) int {
	n := 0
	for _, a := range k.manager.assignments {
		if *a.props.PrincipalID == who {
			n++
		}
	}
	return n
}
