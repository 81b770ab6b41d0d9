package hostprovider

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// within does as root what the test needs in a namespace.
func within(t *testing.T, namespace, method, path string, body any) harness.Answer {
	t.Helper()
	header := http.Header{"X-Vault-Namespace": {namespace}}
	answer, err := host.Root().Do(t.Context(), method, path, body, header)
	if err != nil {
		t.Fatal(err)
	}
	return answer.OK(t)
}

// On a host without namespaces (Vault's community edition) the path leads
// nowhere, on one with them into another namespace: refused either way.
func TestPathsIntoAnotherNamespaceAreRefused(t *testing.T) {
	s := newSite(t, harness.StartPostgres(t), harness.DropAndDisconnect)
	namespace := "team-" + short()
	if host.OpenBao {
		host.Root().Write(t, "sys/namespaces/"+namespace, nil).OK(t)
		within(t, namespace, http.MethodPut, "sys/mounts/database", map[string]any{"type": "database"})
	}
	s.allow(t, map[string]any{"allowed_policies": []string{
		host.Policy(t, "wide", fmt.Sprintf(`path "%s/*" { capabilities = ["read", "list"] }`, namespace)),
	}})
	b := newBench(t, s)
	role := contract.Values{"path": namespace + "/database/creds/reader", "engine": "database"}
	_, h, err := b.issue(role, lifetime)
	if code := codeOf(err); code != "mount_refused" || len(s.exists(t, b.through, h)) != 0 {
		t.Errorf("got %v", err)
	}
}

// A place holds the namespace: accessors and leases mean nothing outside of it.
func TestNamespaceIsPartOfThePlace(t *testing.T) {
	s := newSite(t, harness.StartPostgres(t), harness.DropAndDisconnect)
	b := newBench(t, s)
	whole := b.target.Place
	namespace := "team-" + short()
	b.target.Fields["namespace"] = namespace
	b.target.Place = b.place()
	if b.target.Place != whole+"/"+namespace {
		t.Errorf("the place is %q", b.target.Place)
	}
	b.p = b.open()
	if _, _, err := b.issue(s.kvRole(), lifetime); err == nil {
		t.Error("a login of the whole host was good for a namespace")
	}
	if host.OpenBao {
		issuesWithin(b, namespace)
	}
}

// issuesWithin runs a whole target inside of a namespace: a token login with
// the policy that the provider asks for, a token role, and a secret.
func issuesWithin(b *bench, namespace string) {
	b.Helper()
	host.Root().Write(b, "sys/namespaces/"+namespace, nil).OK(b)
	for path, body := range map[string]map[string]any{
		"sys/mounts/secret":       {"type": "kv"},
		"sys/policies/acl/reader": {"policy": `path "secret/prod" { capabilities = ["read"] }`},
		"sys/policies/acl/pim":    {"policy": b.requiredPolicyOfAToken()},
		"auth/token/roles/" + b.s.tokenRole: {
			"orphan": true, "renewable": false, "token_no_default_policy": true, "allowed_policies": []string{"reader"},
		},
	} {
		within(b.T, namespace, http.MethodPut, path, body)
	}
	within(b.T, namespace, http.MethodPut, "secret/prod", map[string]any{"answer": "42"})
	login := within(b.T, namespace, http.MethodPut, "auth/token/create", map[string]any{
		"policies": []string{"pim"}, "no_default_policy": true,
	})
	b.target.Secrets = map[string]secret.String{"token": secret.New(fmt.Sprint(login.Auth["client_token"]))}
	b.p = b.open()
	issued, h := b.mustIssue(contract.Values{"token_policies": []string{"reader"}}, lifetime)
	holder := host.Root().With("holder", fmt.Sprint(issued.Data.Reveal()["token"]))
	read := func() int {
		answer, err := holder.Do(b.Context(), http.MethodGet, "secret/prod", nil, http.Header{"X-Vault-Namespace": {namespace}})
		if err != nil {
			b.Fatal(err)
		}
		return answer.Status
	}
	if status := read(); status != http.StatusOK {
		b.Errorf("the token reads with status %d", status)
	}
	if _, err := b.open().Revoke(b.Context(), h); err != nil {
		b.Fatal(err)
	}
	if status := read(); status != http.StatusForbidden {
		b.Errorf("after its end the token reads with status %d", status)
	}
}

// requiredPolicyOfAToken turns the target's login into a token and returns the
// policy that it needs.
func (b *bench) requiredPolicyOfAToken() string {
	b.Helper()
	delete(b.target.Fields, "role_id")
	b.target.Secrets = map[string]secret.String{"token": secret.New("none-yet")}
	c, ok := b.open().(contract.Checker)
	if !ok {
		b.Fatal("the host checks")
	}
	report, err := c.Check(b.Context(), nil)
	if err == nil {
		b.Error("a token that is none logs in")
	}
	return report.RequiredPolicy
}

// codeOf is the code of a provider's error, or "" for another error.
func codeOf(err error) string {
	if e, ok := errors.AsType[*contract.Error](err); ok {
		return e.Code
	}
	return ""
}
