package access_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// twoPeople are edits that alice proposes and bob confirms, and whether they are
// in force.
var twoPeople = map[string]struct {
	kind    domain.EditKind
	on      string
	propose func(m *mount) error
	holds   func(m *mount) bool
	writes  int // of the confirmation
}{
	"role edited": {domain.EditRole, "admin", func(m *mount) error {
		return onlyErr(m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 }))
	}, func(m *mount) bool { return m.roleNow("admin").Approvals == 2 }, 2},
	"role made": {domain.EditRole, "next", func(m *mount) error {
		return onlyErr(m.a.WriteRole(m.Context(), who("alice"), "next", access.RoleEdit{Core: func(r *domain.Role) {
			r.Target, r.EligibleGroups, r.ApproverGroups, r.Owner = "site", []string{"engineers"}, []string{"leads"}, "carol"
		}, Set: contract.Values{"level": "admin"}}, access.EditOptions{}))
	}, func(m *mount) bool { return m.roleNow("next") != nil }, 2},
	"role deleted": {domain.EditRole, "admin", func(m *mount) error {
		return onlyErr(m.a.DeleteRole(m.Context(), who("alice"), "admin", access.EditOptions{}))
	}, func(m *mount) bool { return m.roleNow("admin") == nil }, 2},
	"target rekeyed": {domain.EditTarget, "site", func(m *mount) error {
		return onlyErr(m.a.WriteTarget(m.Context(), who("alice"), "site", access.TargetEdit{
			Secrets: map[string]secret.String{"password": secret.New("another-root")},
		}, access.EditOptions{}))
	}, func(m *mount) bool {
		return record[struct {
			Current map[string]string `json:"current"`
		}](m, "target-secret/site").Current["password"] == "another-root"
	}, 3},
	"settings": {domain.EditConfig, "", func(m *mount) error {
		return onlyErr(m.a.WriteConfig(m.Context(), who("alice"), func(c *domain.Config) { c.IssueRate = 31 }, access.EditOptions{}))
	}, func(m *mount) bool {
		cfg, _, err := m.a.Config(m.Context())
		m.must(err)
		return cfg.IssueRate == 31
	}, 2},
}

// Wherever a process dies while an edit is proposed or confirmed: it is in force
// or it is not, nothing is half done, and doing the same again finishes it.
func TestCutsWhileAnEditTakesTwoPeople(t *testing.T) {
	for name, q := range twoPeople {
		for _, way := range ways {
			t.Run(name+"/proposed/"+way.name, func(t *testing.T) {
				m := sod(t)
				c := way.cut
				c.at = 1
				m.s.plan(c)
				if err := q.propose(m); err == nil {
					t.Fatal("the write went wrong, and nobody was told")
				}
				m.again(way.cut.crash)
				if q.holds(m) {
					t.Fatal("in force, and nobody confirmed it")
				}
				m.must(q.propose(m))
				m.must(m.confirm("bob", q.kind, q.on))
				m.finished(q.kind, q.on, q.holds)
			})
			for n := 1; n <= q.writes; n++ {
				t.Run(fmt.Sprintf("%s/confirmed/%s/write %d", name, way.name, n), func(t *testing.T) {
					m := sod(t)
					m.must(q.propose(m))
					digest := m.proposed(q.kind, q.on).Digest
					c := way.cut
					c.at = n
					m.s.plan(c)
					_, err := m.a.Confirm(m.Context(), who("bob"), q.kind, q.on, access.Confirmation{Digest: digest})
					if !m.s.reached() {
						t.Fatalf("there is no write %d; error: %v", n, err)
					}
					m.again(way.cut.crash)
					if v, err := m.a.Proposal(m.Context(), q.kind, q.on); err != nil {
						t.Fatal(err)
					} else if v != nil {
						if v.Stale || v.Digest != digest {
							t.Fatalf("the proposal is not what it was: %+v", v)
						}
						m.must(m.confirm("bob", q.kind, q.on))
					}
					m.finished(q.kind, q.on, q.holds)
				})
			}
		}
	}
}

// again goes on after a planned fault.
func (m *mount) again(crashed bool) {
	m.Helper()
	if crashed {
		m.crash()
		return
	}
	m.s.plan(cut{})
}

// finished insists that an edit is in force, that nothing waits, and that tidy
// leaves nothing of it.
func (m *mount) finished(kind domain.EditKind, on string, holds func(m *mount) bool) {
	m.Helper()
	if !holds(m) {
		m.Fatal("confirmed, and not in force")
	}
	m.nothing(kind, on)
	if !m.a.Tidy(m.Context()) {
		m.Fatal("tidy does not run")
	}
	m.a.Idle()
	if keys := m.disk.keys("proposal/"); len(keys) > 0 {
		m.Fatalf("left: %v", keys)
	}
}

// What is open and live is untouched until the confirmation, and follows what
// the proposal says then.
func TestOpenRequestsFollowTheConfirmation(t *testing.T) {
	shorten := func(m *mount, live access.Live) error {
		_, err := m.a.WriteRole(m.Context(), who("alice"), "admin", access.RoleEdit{Core: shorter}, access.EditOptions{Live: live})
		return err
	}
	t.Run("a pending request", func(t *testing.T) {
		m := sod(t)
		id := m.pending("dave", "admin")
		m.must(shorten(m, access.LiveUnsaid))
		m.tick()
		m.state(id, domain.Pending)
		m.must(m.confirm("bob", domain.EditRole, "admin"))
		m.state(id, domain.Void)
	})
	for _, row := range []struct {
		live access.Live
		want bool
	}{{access.LiveKeep, true}, {access.LiveRevoke, false}} {
		t.Run("a live credential with live="+string(row.live), func(t *testing.T) {
			m := sod(t)
			m.granted("dave", "admin")
			ans := m.issued("dave", "admin")
			m.refused(shorten(m, access.LiveUnsaid), fault.CodeLive)
			m.must(shorten(m, row.live))
			m.tick()
			m.works(ans, true)
			m.must(m.confirm("bob", domain.EditRole, "admin"))
			m.tick()
			m.works(ans, row.want)
		})
	}
	t.Run("a credential that came to live after the proposal", func(t *testing.T) {
		m := sod(t)
		m.must(shorten(m, access.LiveUnsaid))
		m.granted("dave", "admin")
		ans := m.issued("dave", "admin")
		m.refused(m.confirm("bob", domain.EditRole, "admin"), fault.CodeLive)
		_, err := m.a.Confirm(t.Context(), who("bob"), domain.EditRole, "admin", access.Confirmation{
			Digest: m.proposed(domain.EditRole, "admin").Digest, Live: access.LiveRevoke,
		})
		m.must(err)
		m.tick()
		m.works(ans, false)
	})
}

// Two people confirm at once, and the author writes anew at the same moment.
func TestConfirmationsAtOnce(t *testing.T) {
	m := sod(t)
	_, err := m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 })
	m.must(err)
	digest := m.proposed(domain.EditRole, "admin").Digest
	var wg sync.WaitGroup
	for _, name := range []string{"bob", "carol", "dave"} {
		wg.Go(func() {
			_, err := m.a.Confirm(t.Context(), who(name), domain.EditRole, "admin", access.Confirmation{Digest: digest})
			if err != nil && !fault.Is(err, fault.CodeStale) && !fault.Is(err, fault.CodeInvalid) && !fault.Is(err, fault.CodeDigest) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Go(func() {
		if _, err := m.editAs(who("alice"), func(r *domain.Role) { r.ApproverGroups = []string{"engineers"} }); err != nil {
			t.Errorf("the author: %v", err)
		}
	})
	wg.Wait()
	if r := m.roleNow("admin"); r.ApproverGroups[0] != "leads" {
		t.Fatalf("what nobody confirmed is in force: %+v", r)
	}
}

func TestDryRunProposesNothing(t *testing.T) {
	m := sod(t)
	v, err := m.a.WriteRole(t.Context(), who("alice"), "admin", access.RoleEdit{Core: func(r *domain.Role) { r.Approvals = 2 }}, access.EditOptions{DryRun: true})
	m.must(err)
	if !v.Effect.Proposed.Waits || v.Effect.Proposed.Digest != "" {
		t.Errorf("%+v", v.Effect)
	}
	m.nothing(domain.EditRole, "admin")
}

func TestOwnerIsRequiredWhileEditsTakeTwoPeople(t *testing.T) {
	m := sod(t)
	m.refused(onlyErr(m.editAs(who("alice"), func(r *domain.Role) { r.Owner = " " })), fault.CodeInvalid)
	m.unsod(func() { m.must(onlyErr(m.editAs(who("alice"), func(r *domain.Role) { r.Owner = "" }))) })
	f := m.refused(onlyErr(m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 })), fault.CodeInvalid)
	t.Log(f.Public)
}

func TestListsShowWhatIsProposed(t *testing.T) {
	m := sod(t)
	for _, name := range []string{"role edited", "role made", "target rekeyed"} {
		m.must(twoPeople[name].propose(m))
	}
	roles, err := m.a.RoleList(t.Context(), "", 0)
	m.must(err)
	if fmt.Sprint(roles.Keys) != "[admin next]" || roles.Info["admin"]["in_force"] != true || roles.Info["next"]["in_force"] != false {
		t.Errorf("%+v", roles)
	}
	targets, err := m.a.TargetList(t.Context(), "", 0)
	m.must(err)
	if fmt.Sprint(targets.Keys) != "[site]" || targets.Info["site"]["proposed"] != true {
		t.Errorf("%+v", targets)
	}
	page, err := m.a.RoleList(t.Context(), "admin", 1)
	m.must(err)
	if fmt.Sprint(page.Keys) != "[next]" {
		t.Errorf("%+v", page)
	}
	yes, err := m.a.Proposed(t.Context(), domain.EditRole, "admin")
	m.must(err)
	no, err := m.a.Proposed(t.Context(), domain.EditConfig, "")
	m.must(err)
	if !yes || no {
		t.Errorf("proposed: %v, %v", yes, no)
	}
}

// The kill switch for one role or target alone.
func TestRevokeAll(t *testing.T) {
	end := func(m *mount, kind domain.HoldKind, name string) (access.JobView, error) {
		v, err := m.a.RevokeAll(m.Context(), who("carol"), access.Kill{Kind: kind, Value: name, Reason: "a leak"})
		m.a.Idle()
		return v, err
	}
	for _, row := range []struct {
		kind domain.HoldKind
		name string
		rest bool // whether the other role's access stays
	}{{domain.HoldRole, "admin", true}, {domain.HoldTarget, "site", false}} {
		t.Run(string(row.kind), func(t *testing.T) {
			m := newMount(t)
			admin(m)
			m.role("other", nil, nil)
			for _, r := range []string{"admin", "other"} {
				m.granted("alice", r)
			}
			one, other := m.issued("alice", "admin"), m.issued("alice", "other")
			v, err := end(m, row.kind, row.name)
			m.must(err)
			m.works(one, false)
			m.works(other, row.rest)
			if got := m.request(one.Lease.Request); got.State != domain.Revoked || got.Reason != "a leak" {
				t.Errorf("%s: %q", got.State, got.Reason)
			}
			if v.Job.HoldID == "" {
				t.Error("no hold was written")
			}
		})
	}
	m := newMount(t)
	for _, kind := range []domain.HoldKind{domain.HoldRole, domain.HoldTarget} {
		m.refused(onlyErr(end(m, kind, "unknown")), fault.CodeInvalid)
	}
	if holds, err := m.a.Holds(t.Context()); err != nil || len(holds) > 0 {
		t.Errorf("holds for what does not exist: %v %v", holds, err)
	}
	admin(m)
	m.granted("alice", "admin")
	ans := m.issued("alice", "admin")
	m.must(onlyErr(m.a.DeleteRole(t.Context(), access.Caller{}, "admin", access.EditOptions{Live: access.LiveKeep})))
	m.must(onlyErr(end(m, domain.HoldRole, "admin")))
	m.works(ans, false)
}
