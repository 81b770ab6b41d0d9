package hostprovider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	hostprovider "github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	lifetime  = 10 * time.Minute
	immediate = 15 * time.Second // what the class promises
)

// bench is one provider on a site.
type bench struct {
	*testing.T
	s       *site
	through *proxy
	target  contract.Target
	p       contract.Provider
}

func newBench(t *testing.T, s *site) *bench {
	t.Helper()
	b := &bench{T: t, s: s, through: newProxy(t, host.Addr)}
	b.target = s.target(b.through.URL, s.login)
	b.target.Place = b.place()
	b.p = b.open()
	return b
}

func (b *bench) open() contract.Provider {
	b.Helper()
	p, err := hostprovider.Descriptor().New(contract.Env{Clock: clock.System{}}, b.target)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func (b *bench) place() string {
	b.Helper()
	place, err := b.open().Place(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return place
}

func (b *bench) issue(role contract.Values, life time.Duration) (contract.Issued, domain.Handle, error) {
	b.Helper()
	now := clock.System{}.Now()
	id, err := domain.NewID(now, rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	in := contract.Input{Credential: domain.CredentialID(id), Fields: role, NotAfter: now.Add(life)}
	last, err := b.p.Plan(b.Context(), in)
	if err != nil {
		b.Fatal(err)
	}
	out, err := b.p.Issue(b.Context(), in, last, func(h domain.Handle) error {
		last = h
		return nil
	})
	return out, last, err
}

func (b *bench) mustIssue(role contract.Values, life time.Duration) (contract.Issued, domain.Handle) {
	b.Helper()
	out, h, err := b.issue(role, life)
	if err != nil {
		b.Fatal(err)
	}
	return out, h
}

// refused waits until a credential is refused; the session that it opened
// before must be gone too.
func (b *bench) refused(issued contract.Issued, bound time.Duration, session interface{ Ping(context.Context) error }) {
	b.Helper()
	poll.Until(b, bound, func() error {
		if b.s.works(b, b.through, issued) {
			return errors.New("the credential still works")
		}
		if session != nil && session.Ping(b.Context()) == nil {
			return errors.New("the session is still open")
		}
		return nil
	})
}

func TestEndsOfADatabaseUser(t *testing.T) {
	s := newSite(t, harness.StartPostgres(t), harness.DropAndDisconnect)
	t.Run("a revocation ends new logins and open sessions at once", func(t *testing.T) {
		b := newBench(t, s)
		issued, h := b.mustIssue(s.leaseRole(), lifetime)
		session, err := s.connect(t, issued)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.p.Revoke(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if s.works(t, b.through, issued) || session.Ping(t.Context()) == nil {
			t.Error("the revocation had returned, and the credential or its session still works")
		}
	})
	t.Run("without anybody, the end comes with the window", func(t *testing.T) {
		b := newBench(t, s)
		const window = 3 * time.Second
		issued, h := b.mustIssue(s.leaseRole(), window)
		if left := issued.NotAfter.Sub(clock.System{}.Now()); left > window {
			t.Errorf("the credential ends in %s, after its window", left)
		}
		session, err := s.connect(t, issued)
		if err != nil {
			t.Fatal(err)
		}
		b.refused(issued, window+immediate, session)
		if _, err := b.p.Revoke(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a login that ends takes no credential with it", func(t *testing.T) {
		b := newBench(t, s)
		issued, h := b.mustIssue(s.leaseRole(), lifetime)
		b.killLogin()
		poll.Throughout(t, time.Second, func() error {
			if !s.works(t, b.through, issued) {
				return errors.New("the credential ended with the engine's login")
			}
			return nil
		})
		if _, err := b.open().Revoke(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		b.refused(issued, immediate, nil)
	})
}

// killLogin revokes every token of the engine's login.
func (b *bench) killLogin() {
	b.Helper()
	root := host.Root()
	for _, accessor := range root.List(b, "auth/token/accessors").Keys(b) {
		found := root.Write(b, "auth/token/lookup-accessor", map[string]any{"accessor": accessor})
		if meta, ok := found.Data["meta"].(map[string]any); ok && meta["role_name"] == b.s.login.Name {
			root.Write(b, "auth/token/revoke-accessor", map[string]any{"accessor": accessor}).OK(b)
		}
	}
}

func TestEngineThatCannotRevokeIsAnErrorUntilItCan(t *testing.T) {
	s := newSite(t, harness.StartPostgres(t), `SELECT 1/0;`)
	b := newBench(t, s)
	issued, h := b.mustIssue(s.leaseRole(), lifetime)
	for range 2 {
		if ended, err := b.p.Revoke(t.Context(), h); err == nil || ended.AccessGone {
			t.Fatal("the engine failed, and the credential was taken for gone")
		}
	}
	if !s.works(t, b.through, issued) {
		t.Fatal("the engine failed, and yet the user is gone")
	}
	host.Root().Write(t, s.database+"/roles/reader", map[string]any{
		"db_name": "postgres", "creation_statements": harness.CreateReader, "revocation_statements": harness.DropAndDisconnect,
	}).OK(t)
	if _, err := b.p.Revoke(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if s.works(t, b.through, issued) {
		t.Error("the credential still works")
	}
}

func TestTokenRolesThatYieldTheWrongTokens(t *testing.T) {
	s := newSite(t, harness.StartPostgres(t), harness.DropAndDisconnect)
	for _, row := range []struct {
		name      string
		overrides map[string]any
		fine      bool // for an issue
		probed    bool // found by the probe of a role write
	}{
		{name: "as it should be", fine: true},
		{name: "children of the login", overrides: map[string]any{"orphan": false}, probed: true},
		{name: "periodic tokens, which our explicit max ttl ends all the same", overrides: map[string]any{"token_period": "1h"}, probed: true, fine: true},
		{name: "batch tokens", overrides: map[string]any{"token_type": "batch"}, probed: true},
		{name: "tokens with few uses", overrides: map[string]any{"token_num_uses": 9}, probed: true},
		{name: "tokens with the login's own policies", overrides: map[string]any{"allowed_policies": []string{}}, probed: true},
		{name: "renewable tokens, which we do not ask for", overrides: map[string]any{"renewable": true}, fine: true},
		{name: "a shorter life than asked for", overrides: map[string]any{"token_explicit_max_ttl": "1m"}, fine: true},
		{name: "the default policy, which we do not ask for", overrides: map[string]any{"token_no_default_policy": false}, fine: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.allow(t, row.overrides)
			b := newBench(t, s)
			report := b.p.Validate(t.Context(), contract.Spec{Fields: s.leaseRole()}, true)
			if report.OK() == row.probed {
				t.Errorf("the probe says %v", report.Problems)
			}
			issued, h, err := b.issue(s.leaseRole(), lifetime)
			if (err == nil) != row.fine {
				t.Errorf("the issue says %v", err)
			}
			if err != nil {
				for _, o := range s.exists(t, b.through, h) {
					if !o.Inert { // a batch token cannot be revoked; it is unused
						t.Errorf("left: %s", o.What)
					}
				}
				return
			}
			end := clock.System{}.Now().Add(lifetime)
			if issued.NotAfter.After(end) {
				t.Errorf("it ends at %s", issued.NotAfter)
			}
			if _, err := b.p.Revoke(t.Context(), h); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCheckOnARealHost(t *testing.T) {
	s := newSite(t, harness.StartPostgres(t), harness.DropAndDisconnect)
	b := newBench(t, s)
	check := func() contract.CheckReport {
		c, ok := b.p.(contract.Checker)
		if !ok {
			t.Fatal("the host checks")
		}
		report, err := c.Check(t.Context(), s.specs())
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if r := check(); len(r.Missing)+len(r.Unknown)+len(r.Warnings) != 0 || len(r.Entities) != 1 {
		t.Errorf("a login with the required policy: missing %v, unknown %v, warnings %v, entities %v", r.Missing, r.Unknown, r.Warnings, r.Entities)
	}
	report := b.p.Validate(t.Context(), contract.Spec{Fields: s.leaseRole()}, true)
	if !report.OK() || len(report.Warnings) != 0 {
		t.Errorf("a role that works: %v %v", report.Problems, report.Warnings)
	}
	lines := strings.Split(check().RequiredPolicy, "\n")
	less := slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "sys/leases/revoke") })
	host.Root().Write(t, "sys/policies/acl/"+s.policy, map[string]any{"policy": strings.Join(less, "\n")}).OK(t)
	want := fmt.Sprintf(`path "sys/leases/revoke/%s/creds/reader/*" { capabilities = ["update"] }`, s.database)
	if r := check(); !slices.Equal(r.Missing, []string{want}) {
		t.Errorf("missing %v", r.Missing)
	}
}

func TestSecretIDIsRotatedOnARealHost(t *testing.T) {
	s := newSite(t, harness.StartPostgres(t), harness.DropAndDisconnect)
	b := newBench(t, s)
	rotator := func(secrets map[string]secret.String) contract.RootRotator {
		b.target.Secrets = secrets
		r, ok := b.open().(contract.RootRotator)
		if !ok {
			t.Fatal("the host rotates its root")
		}
		return r
	}
	old := b.target.Secrets
	if _, err := rotator(old).StageRoot(t.Context(), "lost"); err != nil {
		t.Fatal(err)
	}
	if err := rotator(old).AbandonRoot(t.Context(), "lost", nil); err != nil {
		t.Fatal(err)
	}
	staged, err := rotator(old).StageRoot(t.Context(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := rotator(staged).CommitRoot(t.Context(), "kept", old); err != nil {
			t.Fatal(err)
		}
	}
	left := host.Root().List(t, "auth/approle/role/"+s.login.Name+"/secret-id").Keys(t)
	if len(left) != 1 {
		t.Errorf("%d secret_ids are left", len(left))
	}
	b.target.Secrets = old
	b.p = b.open()
	if _, _, err := b.issue(s.kvRole(), lifetime); err == nil {
		t.Error("the old secret_id still logs in")
	}
	b.target.Secrets = staged
	b.p = b.open()
	b.mustIssue(s.kvRole(), lifetime)
}
