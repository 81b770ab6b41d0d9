package host_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *bench) lookUp(ctx context.Context, accessor string) (contract.TokenFacts, error) {
	b.Helper()
	l, ok := b.p.(contract.TokenLooker)
	if !ok {
		b.Fatal("the host looks tokens up")
	}
	return l.LookupToken(ctx, accessor)
}

// calling puts a token of a caller on the fake host.
func (b *bench) calling(but map[string]any) {
	fields := map[string]any{
		"path": "auth/userpass/login/alice", "creation_time": start.Unix(), "namespace_path": "",
		"meta": map[string]any{"username": "alice", "odd": 7},
	}
	maps.Copy(fields, but)
	b.f.with(func(f *fakeHost) {
		f.tokens["calling"] = &fakeToken{id: "calling", accessor: "calling-accessor", entity: "entity-of-alice", fields: fields}
	})
}

func TestLookupOfACallingToken(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		path, mount string
	}{
		{"auth/userpass/login/alice", "auth_userpass_1"},
		{"auth/people/eu/login/alice", "auth_ldap_1"},
		{"auth/token/create", "auth_token_1"},
		{"auth/token/create/some-role", "auth_token_1"},
		{"auth/gone/login/alice", ""},
		{"auth/userpass-2/login/alice", ""},
		{"userpass/login/alice", ""},
	} {
		t.Run(row.path, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.calling(map[string]any{"path": row.path})
			got, err := b.lookUp(t.Context(), "calling-accessor")
			if err != nil {
				t.Fatal(err)
			}
			if got.Path != row.path || got.Mount != row.mount || got.Entity != "entity-of-alice" || got.Type != "service" ||
				!got.Created.Equal(start) || !maps.Equal(got.Meta, map[string]string{"username": "alice"}) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestLookupInDoubtIsAnError(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, accessor, code string
		but                  map[string]any
		with                 func(*fakeHost)
	}{
		{name: "a token without accessor", accessor: "-", code: "no_accessor"},
		{name: "a token that nobody knows", accessor: "another", code: "http_400"},
		{name: "an answer about another token", code: "bad_answer", but: map[string]any{"accessor": "another"}},
		{name: "a token made at no time", code: "bad_answer", but: map[string]any{"creation_time": "today"}},
		{name: "a token made by no path", code: "bad_answer", but: map[string]any{"path": nil}},
		{name: "a token of another namespace", code: "other_namespace", but: map[string]any{"namespace_path": "team1/"}},
		{name: "another place", code: "place_changed", with: func(f *fakeHost) { f.cluster = "cluster-two" }},
		{name: "a login that may not look up", code: "http_403", with: func(f *fakeHost) { f.denied = []string{"auth/token/lookup-accessor"} }},
		{name: "a login that may not list auth mounts", code: "http_403", with: func(f *fakeHost) { f.denied = []string{"sys/auth"} }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.calling(row.but)
			if row.with != nil {
				b.f.with(row.with)
			}
			accessor := row.accessor
			switch accessor {
			case "":
				accessor = "calling-accessor"
			case "-":
				accessor = ""
			}
			_, err := b.lookUp(t.Context(), accessor)
			if codeOf(err) != row.code {
				t.Fatalf("got %v, code %q", err, codeOf(err))
			}
			if strings.Contains(err.Error(), "calling-accessor") || strings.Contains(err.Error(), upstream) {
				t.Errorf("the error tells too much: %v", err)
			}
		})
	}
}

func TestLookupHasABudget(t *testing.T) {
	t.Parallel()
	for _, hangs := range []string{"POST auth/token/lookup-accessor", "GET sys/auth", "GET sys/health"} {
		t.Run(hangs, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.calling(nil)
			if _, err := b.lookUp(t.Context(), "calling-accessor"); err != nil {
				t.Fatal(err)
			}
			release := make(chan struct{})
			defer close(release)
			b.f.on(hangs, func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-release:
				case <-r.Context().Done():
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := b.lookUp(ctx, "calling-accessor"); codeOf(err) != "timeout" || ctx.Err() != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLookupIsNeverFromMemory(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	b.calling(nil)
	if _, err := b.lookUp(t.Context(), "calling-accessor"); err != nil {
		t.Fatal(err)
	}
	b.f.with(func(f *fakeHost) {
		f.auths["userpass/"] = "auth_userpass_2" // unmounted, and another one mounted in its place
	})
	got, err := b.lookUp(t.Context(), "calling-accessor")
	if err != nil || got.Mount != "auth_userpass_2" {
		t.Errorf("got %+v, %v", got, err)
	}
	b.f.with(func(f *fakeHost) { delete(f.tokens, "calling") })
	var refused *contract.Error
	if _, err := b.lookUp(t.Context(), "calling-accessor"); !errors.As(err, &refused) || !refused.Refused {
		t.Errorf("a revoked token was looked up: %v", err)
	}
}

func TestPolicyForLookupsIsAskedForWhenARoleNeedsIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	c, ok := b.p.(contract.Checker)
	if !ok {
		t.Fatal("the host checks")
	}
	const line = `path "sys/auth" { capabilities = ["read"] }`
	for _, row := range []struct {
		name  string
		specs []contract.Spec
		asked bool
	}{
		{"roles that get credentials here", []contract.Spec{{Role: "app", Fields: leaseRole()}}, false},
		{"a role that looks tokens up here", []contract.Spec{{Role: "prod", LooksUp: true}}, true},
		{"a role that does both", []contract.Spec{{Role: "app", Fields: leaseRole(), LooksUp: true}}, true},
	} {
		out, err := c.Check(t.Context(), row.specs)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.RequiredPolicy, line) != row.asked {
			t.Errorf("%s: %s", row.name, out.RequiredPolicy)
		}
	}
	b.f.with(func(f *fakeHost) { f.denied = []string{"sys/auth"} })
	out, err := c.Check(t.Context(), []contract.Spec{{Role: "prod", LooksUp: true}})
	if err != nil || !contains(out.Missing, line) {
		t.Errorf("missing %v, %v", out.Missing, err)
	}
}

func TestALoginForLookupsAloneNeedsNoFurtherTokenRole(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	c, ok := b.p.(contract.Checker)
	if !ok {
		t.Fatal("the host checks")
	}
	fields := leaseRole()
	fields["token_role"] = "pim-app"
	out, err := c.Check(t.Context(), []contract.Spec{{Role: "app", Fields: fields}, {Role: "prod", LooksUp: true}})
	if err != nil || strings.Contains(out.RequiredPolicy, "auth/token/create/pim\"") {
		t.Errorf("%s, %v", out.RequiredPolicy, err)
	}
}
