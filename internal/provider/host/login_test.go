package host_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const loginCall = "POST auth/approle/login"

func TestManyShareOneLogin(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, _, err := b.issue(t.Context(), leaseRole()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := b.f.count(loginCall); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestLoginIsRenewedBeforeItEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	for _, row := range []struct {
		name   string
		wait   time.Duration
		logins int
	}{
		{"the first issue logs in", 0, 1},
		{"a login with minutes left is kept", 18 * time.Minute, 1},
		{"a login with less than a minute left is not used any more", 90 * time.Second, 2},
	} {
		b.f.clk.Advance(row.wait)
		if _, _, err := b.issue(t.Context(), leaseRole()); err != nil {
			t.Fatal(err)
		}
		if n := b.f.count(loginCall); n != row.logins {
			t.Errorf("%s: %d logins", row.name, n)
		}
	}
}

func TestLoginThatWasRevokedIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	_, h, err := b.issue(t.Context(), leaseRole())
	if err != nil {
		t.Fatal(err)
	}
	b.f.clk.Advance(10 * time.Second)
	b.f.with(func(f *fakeHost) {
		for id, token := range f.tokens {
			if token.login {
				delete(f.tokens, id)
			}
		}
	})
	if _, err := b.p.Revoke(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if n := b.f.count(loginCall); n != 2 || b.left() != 0 {
		t.Errorf("%d logins, %d things left", n, b.left())
	}
}

func TestDeniedCallsDoNotLogInOverAndOver(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	b.f.with(func(f *fakeHost) { f.denied = []string{"auth/token/create"} })
	for range 5 {
		if _, _, err := b.issue(t.Context(), leaseRole()); codeOf(err) != "http_403" {
			t.Fatalf("got %v", err)
		}
	}
	if n := b.f.count(loginCall); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestBadLogins(t *testing.T) {
	t.Parallel()
	auth := func(change map[string]any) http.HandlerFunc {
		block := map[string]any{"client_token": "hvs.x", "accessor": "a", "token_type": "service", "lease_duration": 60}
		maps.Copy(block, change)
		return respond(map[string]any{"auth": block})
	}
	for _, row := range []struct {
		name, code string
		answer     http.HandlerFunc
	}{
		{"a batch token cannot make tokens", "batch_login", auth(map[string]any{"token_type": "batch"})},
		{"a token with limited uses cannot make tokens", "limited_login", auth(map[string]any{"num_uses": 9})},
		{"an answer without token", "no_token", respond(map[string]any{})},
		{"a wrapped login", "no_token", respond(map[string]any{"wrap_info": map[string]any{"token": "x"}})},
		{"a secret_id that has ended", "http_400", status(http.StatusBadRequest)},
		{"an auth method that is not there", "http_404", status(http.StatusNotFound)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.f.on(loginCall, row.answer)
			if _, _, err := b.issue(t.Context(), leaseRole()); codeOf(err) != row.code {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSecretsGoNowhereElse(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]func(*fakeHost) contract.Target{"AppRole": appRoleTarget, "token": tokenTarget} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, target)
			b.f.with(func(f *fakeHost) { f.cluster = "cluster-evil" })
			if _, _, err := b.issue(t.Context(), leaseRole()); codeOf(err) != "place_changed" {
				t.Errorf("got %v", err)
			}
			c, ok := b.p.(contract.Checker)
			if !ok {
				t.Fatal("the host checks")
			}
			if _, err := c.Check(t.Context(), nil); codeOf(err) != "place_changed" {
				t.Errorf("got %v", err)
			}
			if n := b.f.count("") - b.f.count("GET sys/health"); n != 0 {
				t.Errorf("%d calls besides sys/health", n)
			}
		})
	}
}

func TestPlaceThatChangesBeforeTheLoginGetsNoSecret(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	b.f.setWatch(func(after bool) {
		if after {
			b.f.with(func(f *fakeHost) { f.cluster = "cluster-evil" })
		}
	})
	if _, _, err := b.issue(t.Context(), leaseRole()); codeOf(err) != "place_changed" || b.f.count(loginCall) != 0 {
		t.Errorf("got %v after %d logins", err, b.f.count(loginCall))
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var caught atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { caught.Add(1) }))
	t.Cleanup(thief.Close)
	for _, call := range []string{loginCall, "POST auth/token/create/pim", "GET database/creds/app", "GET sys/health"} {
		b := newBench(t, appRoleTarget)
		b.f.on(call, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
		})
		if _, _, err := b.issue(t.Context(), leaseRole()); codeOf(err) != "http_307" {
			t.Errorf("%s: got %v", call, err)
		}
	}
	if caught.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestSelfEntities(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		target func(*fakeHost) contract.Target
		want   []string
	}{
		"AppRole": {appRoleTarget, []string{"entity-of-login"}},
		"token":   {tokenTarget, []string{"entity-of-token"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, row.target)
			self, ok := b.p.(contract.SelfIdentifier)
			if !ok || len(self.SelfEntities()) != 0 {
				t.Fatal("before the first login no entity is known")
			}
			if _, _, err := b.issue(t.Context(), leaseRole()); err != nil {
				t.Fatal(err)
			}
			if got := self.SelfEntities(); !slices.Equal(got, row.want) {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestRootIsRotatedInTwoPhases(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	rotator := func(s secret.String) contract.RootRotator {
		target := b.target
		target.Secrets = map[string]secret.String{"secret_id": s}
		r, ok := b.open(target).(contract.RootRotator)
		if !ok {
			t.Fatal("the host rotates its root")
		}
		return r
	}
	old := secret.New(secretID)
	staged, err := rotator(old).StageRoot(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := rotator(old).AbandonRoot(t.Context(), "one", staged); err != nil {
		t.Fatal(err)
	}
	if _, err := rotator(old).StageRoot(t.Context(), "two"); err != nil { // its answer is lost
		t.Fatal(err)
	}
	for range 2 {
		if err := rotator(old).AbandonRoot(t.Context(), "two", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.f.secrets); n != 1 {
		t.Fatalf("%d secret_ids after two rotations were abandoned", n)
	}
	if err := rotator(staged["secret_id"]).CommitRoot(t.Context(), "one", map[string]secret.String{"secret_id": old}); err == nil {
		t.Fatal("a secret_id that does not log in must not destroy the old one")
	}
	if staged, err = rotator(old).StageRoot(t.Context(), "three"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := rotator(staged["secret_id"]).CommitRoot(t.Context(), "three", map[string]secret.String{"secret_id": old}); err != nil {
			t.Fatal(err)
		}
	}
	if err := rotator(staged["secret_id"]).CommitRoot(t.Context(), "three", staged); codeOf(err) != "same_secret_id" {
		t.Errorf("got %v", err)
	}
	if _, kept := b.f.secrets[secretID]; kept || len(b.f.secrets) != 1 {
		t.Error("the new secret_id stays, the old one goes")
	}
}

func TestRotationThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, code string
		change     func(*contract.Target)
	}{
		{"a token login", "token_login", func(t *contract.Target) {
			t.Secrets = map[string]secret.String{"token": secret.New(rootToken)}
			delete(t.Fields, "role_id")
		}},
		{"an AppRole whose name nobody told", "no_role_name", func(t *contract.Target) { delete(t.Fields, "role_name") }},
		{"another place", "place_changed", func(t *contract.Target) { t.Place = "cluster-two" }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			row.change(&b.target)
			r, ok := b.open(b.target).(contract.RootRotator)
			if !ok {
				t.Fatal("the host rotates its root")
			}
			if _, err := r.StageRoot(t.Context(), "x"); codeOf(err) != row.code {
				t.Errorf("got %v", err)
			}
			if err := r.CommitRoot(t.Context(), "x", nil); codeOf(err) != row.code {
				t.Errorf("got %v", err)
			}
			if err := r.AbandonRoot(t.Context(), "x", nil); codeOf(err) != row.code {
				t.Errorf("got %v", err)
			}
		})
	}
}
