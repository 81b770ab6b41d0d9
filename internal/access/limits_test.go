package access_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (m *mount) editTarget(e access.TargetEdit, o access.EditOptions) (*access.TargetView, error) {
	return m.a.WriteTarget(m.Context(), access.Caller{}, "site", e, o)
}

// Credentials are bounded for each grant, for each target and for each person
// and minute.
func TestBoundsOfIssuing(t *testing.T) {
	t.Run("max_credentials of a grant", func(t *testing.T) {
		m := newMount(t)
		m.role("admin", func(r *domain.Role) { r.MaxCredentials = 3 }, nil)
		m.granted("alice", "admin")
		var first *access.Answer
		for i := range 3 {
			ans := m.issued("alice", "admin")
			if i == 0 {
				first = ans
			}
		}
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeLimit)
		m.must(m.a.LeaseEnded(t.Context(), first.Lease))
		m.issued("alice", "admin")
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeLimit)
		m.clean()
	})
	t.Run("max_live of a target", func(t *testing.T) {
		m := newMount(t)
		m.role("admin", nil, nil)
		two := 2
		m.must(onlyErr(m.editTarget(access.TargetEdit{MaxLive: &two}, access.EditOptions{})))
		var last *access.Answer
		for _, n := range []string{"alice", "dave"} {
			m.granted(n, "admin")
			last = m.issued(n, "admin")
		}
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeLimit)
		m.crash()
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeLimit)
		m.must(m.a.LeaseEnded(t.Context(), last.Lease))
		m.issued("alice", "admin")
		m.clean()
	})
	t.Run("issue_rate of people and machines", func(t *testing.T) {
		for name, rate := range map[string]int{"alice": 5, "robot": 8} {
			m := newMount(t)
			m.role("ci", func(r *domain.Role) { shortLeases(r); r.MaxCredentials = 32 }, nil)
			m.config(func(c *domain.Config) { c.IssueRate, c.MachineIssueRate = 5, 8 })
			for range rate {
				m.issued(name, "ci")
			}
			f := m.refused(onlyErr(m.creds(name, "ci")), fault.CodeRate)
			if f.Data["poll_after_seconds"] == nil || m.filed() != 1 {
				t.Errorf("%v, %d requests", f.Data, m.filed())
			}
			m.issued("dave", "ci") // another person has an allowance of their own
			m.pass(time.Minute)
			m.issued(name, "ci")
			m.pass(3 * time.Minute)
			if n := m.a.Allowances(); n != 0 {
				t.Errorf("the pace of %d people is remembered for ever", n)
			}
			m.clean()
		}
	})
}

// Requests are bounded for each role, person and mount.
func TestBoundsOfAsking(t *testing.T) {
	t.Run("max_active of a role, which the same ask does not count against", func(t *testing.T) {
		m := newMount(t)
		m.role("admin", func(r *domain.Role) { r.MaxActive = 2 }, nil)
		one := m.pending("alice", "admin")
		m.must(onlyErr(m.ask("alice", "admin", access.Ask{TTL: seconds(600)})))
		for range 3 {
			s, err := m.ask("alice", "admin", access.Ask{TTL: seconds(600), Justification: "in other words"})
			m.must(err)
			if !s.Existing {
				t.Fatal("the same ask was filed again")
			}
		}
		f := m.refused(onlyErr(m.ask("alice", "admin", access.Ask{TTL: seconds(700)})), fault.CodeLimit)
		if f.Data["request_id"] == nil {
			t.Error("it is not said which one stands in the way")
		}
		m.must(onlyErr(m.a.Cancel(t.Context(), who("alice"), one)))
		m.must(onlyErr(m.ask("alice", "admin", access.Ask{TTL: seconds(700)})))
		m.clean()
	})
	t.Run("open requests of a person and of a machine", func(t *testing.T) {
		m := newMount(t)
		m.config(func(c *domain.Config) { c.PersonMaxOpen, c.MachineMaxOpen = 2, 3 })
		for i := range 4 {
			m.role(fmt.Sprintf("role-%d", i), nil, nil)
		}
		for name, most := range map[string]int{"alice": 2, "robot": 3} {
			for i := range most {
				m.pending(name, fmt.Sprintf("role-%d", i))
			}
			m.refused(onlyErr(m.ask(name, "role-3", access.Ask{})), fault.CodeLimit)
		}
		m.clean()
	})
	t.Run("open requests of the mount", func(t *testing.T) {
		m := newMount(t)
		m.config(func(c *domain.Config) { c.MaxOpen = 1 })
		admin(m)
		id := m.pending("alice", "admin")
		m.refused(onlyErr(m.ask("dave", "admin", access.Ask{})), fault.CodeLimit)
		m.must(m.decide("bob", id, domain.Deny))
		m.pending("dave", "admin")
		m.clean()
	})
	t.Run("of two who file at once for the last place one gets it", func(t *testing.T) {
		m := newMount(t)
		m.config(func(c *domain.Config) { c.MaxOpen = 1 })
		admin(m)
		var second error
		m.at("before put person", func() { second = onlyErr(m.ask("dave", "admin", access.Ask{})) })()
		id := m.pending("alice", "admin")
		m.refused(second, fault.CodeLimit)
		m.must(onlyErr(m.a.Cancel(t.Context(), who("alice"), id)))
		m.pending("dave", "admin")
		m.clean()
	})
}

// A role stays within what its target and the mount allow.
func TestWhatARoleMayBe(t *testing.T) {
	weak := contract.Values{"level": "admin", "revocation": "expiry_only"}
	write := func(m *mount, name string, fields contract.Values, f func(*domain.Role)) error {
		_, err := m.a.WriteRole(m.Context(), access.Caller{}, name, access.RoleEdit{Core: func(r *domain.Role) {
			r.Target, r.EligibleGroups, r.ApproverGroups = "site", []string{"engineers"}, []string{"leads"}
			f(r)
		}, Set: fields}, access.EditOptions{})
		return err
	}
	ok := contract.Values{"level": "admin"}
	none := func(*domain.Role) {}
	rows := []struct {
		name   string
		setup  func(m *mount)
		fields contract.Values
		edit   func(*domain.Role)
		code   fault.Code
	}{
		{"as it is", func(*mount) {}, ok, none, ""},
		{"weaker than the role demands", func(*mount) {}, weak, func(r *domain.Role) { r.MinRevocation = domain.Immediate }, fault.CodeInvalid},
		{"weaker than the mount demands", func(m *mount) {
			m.config(func(c *domain.Config) { c.MinRevocation = domain.Propagating })
		}, weak, none, fault.CodeInvalid},
		{"as weak as the mount allows", func(m *mount) {
			m.config(func(c *domain.Config) { c.MinRevocation = domain.ExpiryOnly })
		}, weak, none, ""},
		{"of a name that its target does not allow", func(m *mount) {
			only := []string{"team-a-*"}
			m.must(onlyErr(m.editTarget(access.TargetEdit{AllowedRoles: &only}, access.EditOptions{})))
		}, ok, none, fault.CodeInvalid},
		{"the engine's own identity", func(*mount) {}, contract.Values{"level": "self"}, none, fault.CodeInvalid},
		{"a field that the type does not have", func(*mount) {}, contract.Values{"level": "x", "color": "red"}, none, fault.CodeInvalid},
		{"a target that is not there", func(*mount) {}, ok, func(r *domain.Role) { r.Target = "nowhere" }, fault.CodeInvalid},
		{"approvals by nobody", func(*mount) {}, ok, func(r *domain.Role) { r.ApproverGroups = nil }, fault.CodeInvalid},
		{"no approvals, and it does not say so", func(*mount) {}, ok, func(r *domain.Role) { r.Approvals = 0 }, fault.CodeInvalid},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			row.setup(m)
			err := write(m, "admin", row.fields, row.edit)
			if row.code == "" {
				m.must(err)
				return
			}
			m.refused(err, row.code)
			if m.disk.value("role/admin") != nil {
				t.Error("it was written in spite of that")
			}
		})
	}
}

// A security edit with live credentials says what happens to them; a trial run
// says what would.
func TestLiveCredentialsUnderAnEdit(t *testing.T) {
	type edit struct {
		name string
		do   func(m *mount, o access.EditOptions) (access.Effect, error)
	}
	edits := []edit{
		{"role edited", func(m *mount, o access.EditOptions) (access.Effect, error) {
			v, err := m.a.WriteRole(m.Context(), access.Caller{}, "admin", access.RoleEdit{Core: shorter}, o)
			if err != nil {
				return access.Effect{}, err
			}
			return v.Effect, nil
		}},
		{"role deleted", func(m *mount, o access.EditOptions) (access.Effect, error) {
			return m.a.DeleteRole(m.Context(), access.Caller{}, "admin", o)
		}},
	}
	for _, e := range edits {
		t.Run(e.name, func(t *testing.T) {
			for _, live := range []access.Live{access.LiveKeep, access.LiveRevoke} {
				m := newMount(t)
				admin(m)
				m.granted("alice", "admin")
				ans := m.issued("alice", "admin")
				waiting := m.pending("dave", "admin")
				before := m.disk.copied()
				f := m.refused(onlyErr(e.do(m, access.EditOptions{})), fault.CodeLive)
				if f.Data["live_credentials"] != 1 {
					t.Errorf("%v", f.Data)
				}
				eff, err := e.do(m, access.EditOptions{DryRun: true, Live: live})
				m.must(err)
				if eff.Voided != 1 || eff.Live != 1 || len(eff.SecurityChanged) != 1 || eff.Revoked != (live == access.LiveRevoke) {
					t.Errorf("%+v", eff)
				}
				if !slices.Equal(before.keys(""), m.disk.keys("")) || string(before.value("role/admin")) != string(m.disk.value("role/admin")) {
					t.Error("a trial run changed something")
				}
				m.state(waiting, domain.Pending)
				again, err := e.do(m, access.EditOptions{Live: live})
				m.must(err)
				if again.Voided != eff.Voided || again.Live != eff.Live {
					t.Errorf("would: %+v, did: %+v", eff, again)
				}
				m.tick()
				m.works(ans, live == access.LiveKeep)
				m.state(waiting, domain.Void)
				if err := onlyErr(m.creds("alice", "admin")); err == nil {
					t.Error("issued under what is not the role any more")
				}
				m.clean()
			}
		})
	}
	t.Run("words for people need no answer", func(t *testing.T) {
		m, ans := ready(t, nil, nil)
		m.must(onlyErr(m.edit("admin", access.LiveUnsaid, func(r *domain.Role) { r.Description = "new" })))
		m.works(ans, true)
		m.issued("alice", "admin")
		m.clean()
	})
	t.Run("target with what lives there", func(t *testing.T) {
		m, _ := ready(t, nil, nil)
		m.world.SetPlace("two", "place-of-one")
		m.refused(m.writeTarget("site", "two", access.LiveUnsaid), fault.CodeLive)
		m.refused(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "site", access.EditOptions{})), fault.CodeLive)
		m.must(m.writeTarget("site", "two", access.LiveKeep))
		m.clean()
		m.refused(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "site", access.EditOptions{})), fault.CodeInUse)
		m.must(onlyErr(m.a.DeleteRole(t.Context(), access.Caller{}, "admin", access.EditOptions{})))
		m.must(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "site", access.EditOptions{DryRun: true})))
		m.must(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "site", access.EditOptions{})))
		m.must(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "site", access.EditOptions{}))) // twice is once
		if keys := m.disk.keys("target"); len(keys) > 0 {
			t.Errorf("left: %v", keys)
		}
	})
}
