package hostprovider

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	hostprovider "github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// clerk looks tokens up with a login whose policy is what the provider asks for.
type clerk struct {
	policy string
	target contract.Target
	p      contract.Provider
}

func newClerk(t testing.TB) *clerk {
	t.Helper()
	c := &clerk{policy: host.Policy(t, "pim-login", "# written below")}
	login := host.AppRole(t, "pim-login", "20m", c.policy)
	c.target = contract.Target{
		Name:    "local",
		Fields:  contract.Values{"address": host.Addr, "token_role": "pim-" + short(), "role_id": login.RoleID, "role_name": login.Name},
		Secrets: map[string]secret.String{"secret_id": secret.New(login.SecretID)},
	}
	place, err := c.open(t).Place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.target.Place = place
	c.p = c.open(t)
	checker, ok := c.p.(contract.Checker)
	if !ok {
		t.Fatal("the host checks")
	}
	report, err := checker.Check(t.Context(), []contract.Spec{{Role: "prod", LooksUp: true}})
	if err != nil {
		t.Fatal(err)
	}
	host.Root().Write(t, "sys/policies/acl/"+c.policy, map[string]any{"policy": report.RequiredPolicy}).OK(t)
	return c
}

func (c *clerk) open(t testing.TB) contract.Provider {
	t.Helper()
	p, err := hostprovider.Descriptor().New(contract.Env{Clock: clock.System{}}, c.target)
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

func (c *clerk) lookUp(t testing.TB, accessor string) (contract.TokenFacts, error) {
	t.Helper()
	l, ok := c.p.(contract.TokenLooker)
	if !ok {
		t.Fatal("the host looks tokens up")
	}
	return l.LookupToken(t.Context(), accessor)
}

// accessorOf asks the host for the accessor of an actor's token.
func accessorOf(t testing.TB, a harness.Actor) string {
	t.Helper()
	return host.Root().Write(t, "auth/token/lookup", map[string]any{"token": a.Token}).OK(t).String(t, "accessor")
}

func TestLookupOfARealToken(t *testing.T) {
	c := newClerk(t)
	maker := host.Policy(t, "maker", `path "auth/token/create" { capabilities = ["update"] }`)
	alice := host.Person(t, "alice", maker)
	accessor := accessorOf(t, alice.Actor)
	first, err := c.lookUp(t, accessor)
	if err != nil {
		t.Fatal(err)
	}
	if first.Path != "auth/userpass/login/"+alice.Login || !strings.HasPrefix(first.Mount, "auth_userpass_") ||
		first.Entity != alice.EntityID || first.Type != "service" || first.Meta["username"] != alice.Login {
		t.Errorf("got %+v", first)
	}
	if age := time.Since(first.Created); age < 0 || age > time.Minute {
		t.Errorf("the login is %v old", age)
	}

	alice.Write(t, "auth/token/renew-self", nil).OK(t)
	if again, err := c.lookUp(t, accessor); err != nil || !again.Created.Equal(first.Created) || again.Path != first.Path {
		t.Errorf("a renewal made it another login: %+v, %v", again, err)
	}

	child, ok := alice.Write(t, "auth/token/create", map[string]any{"meta": map[string]string{"ref": "main"}}).OK(t).Auth["accessor"].(string)
	if !ok {
		t.Fatal("no accessor")
	}
	got, err := c.lookUp(t, child)
	if err != nil || got.Path != "auth/token/create" || !strings.HasPrefix(got.Mount, "auth_token_") ||
		got.Entity != alice.EntityID || got.Meta["ref"] != "main" {
		t.Errorf("a child token: %+v, %v", got, err)
	}

	alice.Write(t, "auth/token/revoke-self", nil).OK(t)
	if _, err := c.lookUp(t, accessor); refusal(err) == "" {
		t.Errorf("a revoked token was looked up: %v", err)
	}
}

func TestLookupNeedsItsPolicy(t *testing.T) {
	c := newClerk(t)
	accessor := accessorOf(t, host.Person(t, "alice").Actor)
	host.Root().Write(t, "sys/policies/acl/"+c.policy, map[string]any{
		"policy": `path "auth/token/lookup-accessor" { capabilities = ["update"] }`,
	}).OK(t)
	if _, err := c.lookUp(t, accessor); refusal(err) != "http_403" {
		t.Errorf("got %v", err)
	}
}

// A token of another namespace means nothing to a target, whoever it belongs to.
func TestLookupStaysInItsNamespace(t *testing.T) {
	c := newClerk(t)
	if !host.OpenBao {
		return // its community edition has no namespaces; the fake host covers the answer
	}
	namespace := "team-" + short()
	host.Root().Write(t, "sys/namespaces/"+namespace, nil).OK(t)
	within(t, namespace, http.MethodPut, "sys/auth/userpass", map[string]any{"type": "userpass"})
	within(t, namespace, http.MethodPut, "auth/userpass/users/alice", map[string]any{"password": "alice-password"})
	answer := within(t, namespace, http.MethodPut, "auth/userpass/login/alice", map[string]any{"password": "alice-password"})
	accessor, ok := answer.Auth["accessor"].(string)
	if !ok {
		t.Fatal("no accessor")
	}
	if got, err := c.lookUp(t, accessor); err == nil {
		t.Errorf("got %+v", got)
	}
}

// refusal is the code of an error that is for good, or "".
func refusal(err error) string {
	var e *contract.Error
	if errors.As(err, &e) && e.Refused {
		return e.Code
	}
	return ""
}

// BenchmarkLookup is what a role with a token_target pays in each call.
func BenchmarkLookup(b *testing.B) {
	c := newClerk(b)
	accessor := accessorOf(b, host.Person(b, "alice").Actor)
	for b.Loop() {
		if _, err := c.lookUp(b, accessor); err != nil {
			b.Fatal(err)
		}
	}
}
