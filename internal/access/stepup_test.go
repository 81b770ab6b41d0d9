package access_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// desk is a target that looks tokens up and does nothing else.
type desk struct {
	contract.Provider
	mu     sync.Mutex
	tokens map[string]contract.TokenFacts // by accessor
	fail   error
	asked  int
	specs  []contract.Spec // of the last check
}

func (d *desk) Place(context.Context) (string, error) { return "place-of-desk", nil }
func (d *desk) Close() error                          { return nil }

func (d *desk) Check(_ context.Context, roles []contract.Spec) (contract.CheckReport, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.specs = slices.Clone(roles)
	return contract.CheckReport{}, nil
}

func (d *desk) LookupToken(_ context.Context, accessor string) (contract.TokenFacts, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	t, ok := d.tokens[accessor]
	if !ok || d.fail != nil {
		return contract.TokenFacts{}, errors.Join(errors.New("no such token"), d.fail)
	}
	return t, nil
}

func (d *desk) spent() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.asked
	d.asked = 0
	return n
}

// loggedIn gives somebody the token of a login at this moment.
func (d *desk) loggedIn(m *mount, name string) access.Caller {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := who(name)
	c.Accessor = "accessor-" + name
	d.tokens[c.Accessor] = contract.TokenFacts{
		Created: m.clk.Now(), Path: "auth/userpass/login/" + name, Mount: accUserpass, Entity: id(name), Type: "service",
	}
	return c
}

func (d *desk) change(accessor string, f func(*contract.TokenFacts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.tokens[accessor]
	f(&t)
	d.tokens[accessor] = t
}

// newDesk is a mount with a second target that looks tokens up.
func newDesk(t *testing.T) (*mount, *desk) {
	t.Helper()
	d := &desk{tokens: map[string]contract.TokenFacts{}}
	m := bare(t)
	m.more = []contract.Descriptor{{
		Type: "desk", Summary: "Looks tokens up.",
		CheckTarget: func(contract.Env, contract.Target) contract.Report { return contract.Report{} },
		New:         func(contract.Env, contract.Target) (contract.Provider, error) { return d, nil },
	}}
	m.a.Stop()
	m.boot()
	m.target("site", "one")
	typ := "desk"
	m.must(onlyErr(m.a.WriteTarget(t.Context(), access.Caller{}, "local", access.TargetEdit{Type: &typ}, access.EditOptions{})))
	return m, d
}

func fresh(r *domain.Role) {
	r.TokenTarget, r.MaxLoginAge, r.RequiredLogin = "local", 900, accUserpass
}

func TestOnlyAFreshLoginRequestsAndReads(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		sentence string
		but      func(*mount, *desk, *access.Caller)
		ok       bool
	}{
		{"a login of this moment", func(*mount, *desk, *access.Caller) {}, true},
		{"a login of 15 minutes ago", func(m *mount, _ *desk, _ *access.Caller) { m.clk.Advance(15 * time.Minute) }, true},
		{"an older login", func(m *mount, _ *desk, _ *access.Caller) { m.clk.Advance(15*time.Minute + time.Second) }, false},
		{"a child of the login's token", func(_ *mount, d *desk, c *access.Caller) {
			d.change(c.Accessor, func(t *contract.TokenFacts) { t.Path, t.Mount = "auth/token/create", "auth_token_1" })
		}, false},
		{"a login at another mount", func(_ *mount, d *desk, c *access.Caller) {
			d.change(c.Accessor, func(t *contract.TokenFacts) { t.Path, t.Mount = "auth/ldap/login/alice", "auth_ldap_1" })
		}, false},
		{"a token without accessor", func(_ *mount, _ *desk, c *access.Caller) { c.Accessor = "" }, false},
		{"a token that the host does not know", func(_ *mount, _ *desk, c *access.Caller) { c.Accessor = "another" }, false},
		{"a token of somebody else", func(_ *mount, d *desk, c *access.Caller) {
			d.change(c.Accessor, func(t *contract.TokenFacts) { t.Entity = id("bob") })
		}, false},
		{"a look-up that fails", func(_ *mount, d *desk, _ *access.Caller) { d.fail = errors.New("down") }, false},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Parallel()
			m, d := newDesk(t)
			m.role("admin", fresh, nil)
			m.role("job", func(r *domain.Role) { auto(r); fresh(r) }, nil)
			alice := d.loggedIn(m, "alice")
			row.but(m, d, &alice)
			_, asked := m.a.Submit(t.Context(), alice, "admin", access.Ask{Justification: "on call"})
			_, read := m.a.Creds(t.Context(), alice, "job", access.CredsAsk{})
			if row.ok {
				m.must(asked)
				m.must(read)
				return
			}
			for _, err := range []error{asked, read} {
				f := m.refused(err, fault.CodeFreshLogin)
				if f.Kind != fault.Denied || f.Data["max_login_age"] != 900 || f.Data["required_login"] != accUserpass || f.Data["role"] == nil {
					t.Errorf("%+v", f)
				}
			}
			if keys := m.disk.keys("req/"); len(keys) > 0 {
				t.Errorf("a refused call left %v", keys)
			}
		})
	}
}

func TestAGrantNeedsAFreshLoginWheneverItIsUsed(t *testing.T) {
	t.Parallel()
	m, d := newDesk(t)
	m.role("admin", func(r *domain.Role) { fresh(r); r.MaxExtension = 3600 }, nil)
	alice := d.loggedIn(m, "alice")
	s, err := m.a.Submit(t.Context(), alice, "admin", access.Ask{Justification: "on call"})
	m.must(err)
	m.must(m.decide("bob", s.View.Request.ID, domain.Approve)) // approvers are not asked to step up
	m.must(onlyErr(m.a.Creds(t.Context(), alice, "admin", access.CredsAsk{})))
	m.clk.Advance(20 * time.Minute)
	m.refused(onlyErr(m.a.Creds(t.Context(), alice, "admin", access.CredsAsk{})), fault.CodeFreshLogin)
	longer := access.ExtendAsk{TTL: 600, Justification: "not through yet"}
	m.refused(onlyErr(m.a.Extend(t.Context(), alice, s.View.Request.ID, longer)), fault.CodeFreshLogin)
	again := d.loggedIn(m, "alice")
	m.must(onlyErr(m.a.Creds(t.Context(), again, "admin", access.CredsAsk{})))
	m.must(onlyErr(m.a.Extend(t.Context(), again, s.View.Request.ID, longer)))
}

func TestNoGlassIsBrokenWithAnOldLogin(t *testing.T) {
	t.Parallel()
	m, d := newDesk(t)
	m.role("admin", func(r *domain.Role) {
		fresh(r)
		r.BreakGlassGroups, r.BreakGlassTTL, r.ReviewerGroups = []string{"engineers"}, 600, []string{"leads"}
	}, nil)
	alice := d.loggedIn(m, "alice")
	m.clk.Advance(16 * time.Minute)
	ask := access.Ask{Justification: "everything burns", Ticket: "OPS-1"}
	m.refused(onlyErr(m.a.BreakGlass(t.Context(), alice, "admin", ask)), fault.CodeFreshLogin)
	m.must(onlyErr(m.a.BreakGlass(t.Context(), d.loggedIn(m, "alice"), "admin", ask)))
}

func TestATokenIsLookedUpOnceInACallAndNeverForOtherRoles(t *testing.T) {
	t.Parallel()
	m, d := newDesk(t)
	m.role("admin", fresh, nil)
	m.role("plain", nil, nil)
	m.role("later", func(r *domain.Role) { r.TokenTarget = "local" }, nil) // for conditions alone
	alice := d.loggedIn(m, "alice")
	for role, want := range map[string]int{"admin": 1, "plain": 0, "later": 0} {
		d.spent()
		m.must(onlyErr(m.a.Submit(t.Context(), alice, role, access.Ask{Justification: "on call"})))
		if n := d.spent(); n != want {
			t.Errorf("%s: %d look-ups, want %d", role, n, want)
		}
	}
}

func TestTokenTargetOfARole(t *testing.T) {
	t.Parallel()
	m, d := newDesk(t)
	m.role("admin", nil, nil)
	for _, target := range []string{"nowhere", "site"} { // site cannot look tokens up
		_, err := m.edit("admin", access.LiveKeep, func(r *domain.Role) { r.TokenTarget = target })
		m.refused(err, fault.CodeInvalid)
	}
	m.must(onlyErr(m.edit("admin", access.LiveKeep, fresh)))
	m.refused(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "local", access.EditOptions{})), fault.CodeInUse)
	_, _, err := m.a.CheckTarget(t.Context(), "local")
	m.must(err)
	if len(d.specs) != 1 || d.specs[0].Role != "admin" || !d.specs[0].LooksUp || len(d.specs[0].Fields) != 0 {
		t.Errorf("the target is checked for %+v", d.specs)
	}
	m.must(onlyErr(m.edit("admin", access.LiveKeep, func(r *domain.Role) { r.TokenTarget, r.MaxLoginAge, r.RequiredLogin = "", 0, "" })))
	m.must(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "local", access.EditOptions{})))
}
