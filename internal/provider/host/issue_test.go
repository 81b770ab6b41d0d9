package host_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestTokenThatIsNotAsApprovedIsDestroyed(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		yield map[string]any
	}{
		{"a batch token", map[string]any{"type": "batch"}},
		{"a child of the login", map[string]any{"orphan": false}},
		{"a renewable token", map[string]any{"renewable": true}},
		{"a periodic token", map[string]any{"period": 3600}},
		{"a token without explicit max ttl", map[string]any{"explicit_max_ttl": 0}},
		{"a token that may live longer than the window", map[string]any{"explicit_max_ttl": 601}},
		{"a token that lives longer than the window", map[string]any{"ttl": 9999}},
		{"a token that never ends", map[string]any{"ttl": 0}},
		{"a token with a limited number of uses", map[string]any{"num_uses": 3}},
		{"a token of an entity", map[string]any{"entity_id": "entity-of-somebody"}},
		{"a token with identity policies", map[string]any{"identity_policies": []string{"prod"}}},
		{"a token with policies in other namespaces", map[string]any{"external_namespace_policies": map[string]any{"x": []string{"y"}}}},
		{"a token of another namespace", map[string]any{"namespace_path": "team1/"}},
		{"a token without the credential's id", map[string]any{"meta": nil}},
		{"a root token", map[string]any{"policies": []string{"root"}}},
		{"a token with the default policy", map[string]any{"policies": []string{"default", "prod-read"}}},
		{"a token without policies", map[string]any{"policies": []string{}}},
		{"a token with the engine's own policy", map[string]any{"policies": []string{"pim-login"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, role := range []contract.Values{leaseRole(), tokenRole()} {
				b := newBench(t, appRoleTarget)
				b.f.with(func(f *fakeHost) { f.child = row.yield })
				_, _, err := b.issue(t.Context(), role)
				if codeOf(err) != "token_differs" || b.left() != 0 {
					t.Errorf("got %v, %d things left", err, b.left())
				}
				if n := b.f.count("GET database/"); n != 0 {
					t.Errorf("it was used %d times", n)
				}
			}
		})
	}
}

func TestTokenWithOtherPoliciesThanAskedIsDestroyed(t *testing.T) {
	t.Parallel()
	for name, policies := range map[string][]string{
		"one more":  {"db-app", "prod-read"},
		"another":   {"db-app"},
		"none":      {},
		"in excess": {"prod-read", "default"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.f.with(func(f *fakeHost) { f.child = map[string]any{"policies": policies} })
			if _, _, err := b.issue(t.Context(), tokenRole()); codeOf(err) != "token_differs" || b.left() != 0 {
				t.Errorf("got %v, %d things left", err, b.left())
			}
		})
	}
}

// respond is a handler with a fixed answer.
func respond(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, v) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fail(w, code) }
}

func TestAnswersThatAreNoLeaseAreRefusedAndUndone(t *testing.T) {
	t.Parallel()
	const call = "GET database/creds/app"
	data := map[string]any{"username": "u"}
	for _, row := range []struct {
		name, code string
		answer     http.HandlerFunc
	}{
		{"an answer without a lease", "no_lease", respond(map[string]any{"data": data})},
		{"a wrapped answer, or one of a control group", "wrapped", respond(map[string]any{"wrap_info": map[string]any{"token": "hvs.x"}})},
		{"a login", "login", respond(map[string]any{"auth": map[string]any{"client_token": "hvs.y"}})},
		{"a lease of another path", "foreign_lease", respond(map[string]any{"lease_id": "database/creds/other/1", "data": data})},
		{"a lease id that is no id", "foreign_lease", respond(map[string]any{"lease_id": "database/creds/app/../../x", "data": data})},
		{"a lease without data", "no_data", respond(map[string]any{"lease_id": "database/creds/app/1"})},
		{"a field that would pass for ours", "bad_answer", respond(map[string]any{"lease_id": "database/creds/app/1", "data": map[string]any{"pim_expires_at": "x"}})},
		{"a field that clients trip over", "bad_answer", respond(map[string]any{"lease_id": "database/creds/app/1", "data": map[string]any{"data": "x"}})},
		{"a denial", "http_403", status(http.StatusForbidden)},
		{"an engine that fails", "http_500", status(http.StatusInternalServerError)},
		{"an answer that is no JSON", "bad_answer", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(upstream)) }},
		{"an answer that is too long", "too_long", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(" ", 5<<20)))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.f.on(call, row.answer)
			_, _, err := b.issue(t.Context(), leaseRole())
			if codeOf(err) != row.code || strings.Contains(err.Error(), upstream) {
				t.Errorf("got %v", err)
			}
			if n := b.left(); n != 0 {
				t.Errorf("%d things left", n)
			}
		})
	}
}

func TestMountOfThePathIsCheckedAtEveryIssue(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		role contract.Values
		also []string // allowed_mount_types
		at   map[string]string
		ok   bool
	}{
		{name: "an engine type of the list", role: leaseRole(), ok: true},
		{name: "a type that nobody allowed", role: contract.Values{"path": "custom/creds/x"}},
		{name: "a type that the target allows", role: contract.Values{"path": "custom/creds/x"}, also: []string{"snowflake"}, ok: true},
		{name: "a store without leases", role: contract.Values{"path": "secret/prod"}},
		{name: "another pim mount", role: contract.Values{"path": "access/creds/x"}, at: map[string]string{"access/": "pim"}},
		{name: "a pim mount under another plugin name", role: contract.Values{"path": "access/creds/x"}, at: map[string]string{"access/": "vault-plugin-secrets-pim"}},
		{name: "a path that leads to no mount of the namespace", role: contract.Values{"path": "team1/database/creds/x"}},
		{name: "a mount that only looks like the path", role: contract.Values{"path": "databases/creds/x"}},
		{name: "another engine than the role says", role: contract.Values{"path": "custom/creds/x", "engine": "database"}, also: []string{"snowflake"}},
		{name: "an engine named like another", role: leaseRole(), at: map[string]string{"database/": "ldap"}},
		{
			name: "an engine that cannot keep the declared class",
			role: contract.Values{"path": "db2/creds/x", "revocation": "immediate"}, at: map[string]string{"db2/": "aws"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(f *fakeHost) contract.Target {
				target := appRoleTarget(f)
				target.Fields["allowed_mount_types"] = row.also
				return target
			})
			b.f.with(func(f *fakeHost) {
				maps.Copy(f.mounts, row.at)
			})
			_, _, err := b.issue(t.Context(), row.role)
			if row.ok {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if codeOf(err) != "mount_refused" || b.left() != 0 {
				t.Errorf("got %v, %d things left", err, b.left())
			}
		})
	}
}

func TestIssuedAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	b.f.on("GET database/creds/app", respond(map[string]any{
		"lease_id": "database/creds/app/1", "lease_duration": 60,
		"data": map[string]any{"username": "u", "port": 5432, "rate": 1.5, "on": true, "none": nil, "names": []string{"a", "b"}},
	}))
	out, _, err := b.issue(t.Context(), leaseRole())
	if err != nil {
		t.Fatal(err)
	}
	if want := start.Add(time.Minute); !out.NotAfter.Equal(want) {
		t.Errorf("the lease ends at %s, not at %s", want, out.NotAfter)
	}
	for name, want := range map[string]any{
		"username": "u", "port": int64(5432), "rate": "1.5", "on": true, "none": nil, "names": `["a","b"]`,
	} {
		if got := out.Data.Reveal()[name]; got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
	token, _, err := b.issue(t.Context(), tokenRole())
	if err != nil {
		t.Fatal(err)
	}
	answer := token.Data.Reveal()
	if answer["policies"] != "prod-read" || answer["accessor"] == "" {
		t.Errorf("a token is answered as %v", token.Handle)
	}
	if want := start.Add(10 * time.Minute); !token.NotAfter.Equal(want) {
		t.Errorf("the token ends at %s, not at %s", want, token.NotAfter)
	}
}

func TestWrittenDataComesFromRoleAndRequest(t *testing.T) {
	t.Parallel()
	role := contract.Values{
		"path": "database/creds/app", "method": "write",
		"data": map[string]string{"fixed": "yes", "run": "{{params.run}}"},
	}
	b := newBench(t, appRoleTarget)
	in := b.input(role)
	in.Params = map[string]string{"run": `17","more":"{{params.run}}`}
	h, err := b.p.Plan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.p.Issue(t.Context(), in, h, func(domain.Handle) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	answer := out.Data.Reveal()
	if answer["given_fixed"] != "yes" || answer["given_run"] != in.Params["run"] || answer["given_more"] != nil {
		t.Error("a parameter fills one whole value and nothing else")
	}
	for name, change := range map[string]func(in *contract.Input){
		"a parameter that the request lacks": func(in *contract.Input) { in.Params = nil },
		"a template that is no whole value": func(in *contract.Input) {
			in.Fields = contract.Values{"path": role["path"], "method": "write", "data": map[string]string{"x": "a{{params.run}}"}}
		},
	} {
		bad := b.input(role)
		bad.Params = in.Params
		change(&bad)
		h, err := b.p.Plan(t.Context(), bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.p.Issue(t.Context(), bad, h, func(domain.Handle) error { return nil }); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func TestLeaseThatIsNotRevokedIsAnErrorAndTheTokenDiesAllTheSame(t *testing.T) {
	t.Parallel()
	const gone = "lease not found"
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		ok     bool
	}{
		{"the engine fails", status(http.StatusInternalServerError), false},
		{"the engine refuses", status(http.StatusBadRequest), false},
		{"the host is sealed", status(http.StatusServiceUnavailable), false},
		{"the login is denied", status(http.StatusForbidden), false},
		{"the path is unknown", status(http.StatusNotFound), false},
		{"the lease is not found", func(w http.ResponseWriter, _ *http.Request) { failWith(w, http.StatusBadRequest, gone) }, true},
		{"the lease is not found, and more", func(w http.ResponseWriter, _ *http.Request) {
			failWith(w, http.StatusBadRequest, "failed to revoke: role: "+gone)
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			_, h, err := b.issue(t.Context(), leaseRole())
			if err != nil {
				t.Fatal(err)
			}
			var d struct {
				Lease string `json:"lease"`
			}
			if err := json.Unmarshal(h.Data, &d); err != nil {
				t.Fatal(err)
			}
			b.f.on("PUT sys/leases/revoke/"+d.Lease, row.answer)
			ended, err := b.p.Revoke(t.Context(), h)
			if (err == nil) != row.ok || ended.AccessGone != row.ok {
				t.Errorf("got %v", err)
			}
			if b.f.count("POST auth/token/revoke-accessor") != 1 {
				t.Error("the token was not revoked")
			}
		})
	}
}

func TestWindowThatEndsIssuesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	in := b.input(leaseRole())
	h, err := b.p.Plan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	b.f.clk.Advance(10*time.Minute - 500*time.Millisecond)
	if _, err := b.p.Issue(t.Context(), in, h, nil); codeOf(err) != "window_ending" || b.f.count("POST") != 0 {
		t.Errorf("got %v", err)
	}
}

func TestBatchTokenRoleIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	b.f.on("POST auth/token/create/pim", respond(map[string]any{"auth": map[string]any{"client_token": "hvb.x"}}))
	if _, _, err := b.issue(t.Context(), leaseRole()); codeOf(err) != "no_accessor" {
		t.Errorf("got %v", err)
	}
	b.f.on("POST auth/token/create/pim", respond(map[string]any{"wrap_info": map[string]any{"token": "hvs.x"}}))
	if _, _, err := b.issue(t.Context(), leaseRole()); codeOf(err) != "no_token" {
		t.Errorf("got %v", err)
	}
}
