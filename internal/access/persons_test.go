package access_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// look lets the reaper look once, some time later.
func (m *mount) look(after time.Duration) {
	m.clk.Advance(after)
	m.tick()
}

// The access of a person ends when the person does: at once when disabled, on
// the second look a minute later when missing or not eligible.
func TestAccessEndsWithThePerson(t *testing.T) {
	gone := func(m *mount) { m.people.remove("alice") }
	left := func(m *mount) { m.people.change("alice", leave) }
	back := func(m *mount) { m.people.add(person("alice", "engineers")) }
	nothing := func(*mount) {}
	rows := []struct {
		name  string
		event func(m *mount)
		after time.Duration // from the first look to the second
		then  func(m *mount)
		works bool
	}{
		{"disabled", func(m *mount) { m.people.change("alice", disable) }, 0, nothing, false},
		{"missing once", gone, 0, nothing, true},
		{"missing for less than a minute", gone, 59 * time.Second, nothing, true},
		{"missing for a minute", gone, 60 * time.Second, nothing, false},
		{"missing, and back before the second look", gone, 60 * time.Second, back, true},
		{"not eligible once", left, 0, nothing, true},
		{"not eligible for a minute", left, 60 * time.Second, nothing, false},
		{"not eligible, and back before the second look", left, 60 * time.Second, back, true},
		{"not eligible, and that ends nothing here", func(m *mount) {
			left(m)
			m.config(func(c *domain.Config) { c.EndOnIneligible = false })
		}, 10 * time.Minute, nothing, true},
		{"the identity store fails", func(m *mount) { m.people.setFail(errors.New("down")) }, 10 * time.Minute, nothing, true},
		{"approver disabled", func(m *mount) { m.people.change("bob", disable) }, 10 * time.Minute, nothing, true},
		{"no login any more, which may come back", func(m *mount) { m.people.change("alice", homeless) }, 10 * time.Minute, nothing, true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			admin(m)
			m.role("other", nil, nil)
			id := m.granted("alice", "admin")
			ans := m.issued("alice", "admin")
			waiting := m.pending("alice", "other")
			m.tick()
			row.event(m)
			m.tick()
			row.then(m)
			if row.after > 0 {
				m.look(row.after)
			}
			m.tick() // what is marked is ended by the next look
			m.works(ans, row.works)
			want, open := domain.Active, domain.Pending
			if !row.works {
				want, open = domain.Revoked, domain.Revoked
			}
			m.state(id, want)
			m.state(waiting, open)
			m.people.setFail(nil)
			m.clean()
		})
	}
}

// Missing for a moment twice is not missing for long.
func TestMissingTwiceMeansTwiceInARow(t *testing.T) {
	m := newMount(t)
	admin(m)
	m.granted("alice", "admin")
	ans := m.issued("alice", "admin")
	for range 5 {
		m.people.remove("alice")
		m.look(40 * time.Second)
		m.people.add(person("alice", "engineers"))
		m.look(40 * time.Second)
	}
	m.works(ans, true)
	m.people.remove("alice")
	m.crash() // a new process has seen nothing yet
	m.works(ans, true)
	m.look(time.Minute)
	m.tick()
	m.works(ans, false)
	m.clean()
}

// A role edit decides by itself what it does to live access: it is not taken
// for a loss of eligibility.
func TestEditThatKeepsKeepsThoseNoLongerEligible(t *testing.T) {
	m := newMount(t)
	admin(m)
	m.granted("alice", "admin")
	ans := m.issued("alice", "admin")
	m.must(onlyErr(m.edit("admin", access.LiveKeep, func(r *domain.Role) { r.EligibleGroups = []string{"others"} })))
	m.pass(10 * time.Minute)
	m.works(ans, true)
	m.people.change("alice", disable)
	m.pass(time.Minute)
	m.works(ans, false)
	m.clean()
}

// A hold blocks asking, approving and issuing through what it is about, and
// only that; lifted or over, it blocks nothing.
func TestHolds(t *testing.T) {
	rows := []struct {
		name  string
		kind  domain.HoldKind
		value string
		alice bool // she is blocked
		dave  bool
	}{
		{"a person", domain.HoldPerson, id("alice"), true, false},
		{"another person", domain.HoldPerson, id("dave"), false, true},
		{"a role", domain.HoldRole, "admin", true, true},
		{"another role", domain.HoldRole, "other", false, false},
		{"a target", domain.HoldTarget, "site", true, true},
		{"another target", domain.HoldTarget, "elsewhere", false, false},
		{"a ticket", domain.HoldTicket, "T-1", true, false},
		{"everything", domain.HoldAll, "", true, true},
	}
	for _, row := range rows {
		for _, restart := range []bool{false, true} {
			t.Run(row.name, func(t *testing.T) {
				m := newMount(t)
				m.role("admin", func(r *domain.Role) { r.MaxActive = 5 }, nil)
				grants := map[string]domain.RequestID{}
				waiting := map[string]domain.RequestID{}
				tickets := map[string]string{"alice": "T-1", "dave": "T-2"}
				for _, n := range []string{"alice", "dave"} {
					grants[n] = m.grantedFor(n, "admin", access.Ask{Ticket: tickets[n]})
					s, err := m.ask(n, "admin", access.Ask{Ticket: tickets[n], TTL: seconds(600)})
					m.must(err)
					waiting[n] = s.View.Request.ID
				}
				h := m.hold(row.kind, row.value)
				if restart {
					m.crash()
				}
				held := func(n string, blocked bool) {
					t.Helper()
					_, issue := m.a.Creds(t.Context(), who(n), "admin", access.CredsAsk{RequestID: string(grants[n])})
					_, ask := m.ask(n, "admin", access.Ask{Ticket: tickets[n], TTL: seconds(700)})
					approve := m.decide("bob", waiting[n], domain.Approve)
					for what, err := range map[string]error{"issue": issue, "ask": ask, "approve": approve} {
						if fault.Is(err, fault.CodeHeld) != blocked {
							t.Errorf("%s of %s: %v", what, n, err)
						}
					}
				}
				held("alice", row.alice)
				held("dave", row.dave)
				m.must(m.a.LiftHold(t.Context(), access.Caller{}, h.ID))
				if row.alice {
					held("alice", false)
				}
			})
		}
	}
}

// A person who is held approves nothing, and does not lift the hold.
func TestHeldPersonNeitherApprovesNorLifts(t *testing.T) {
	m := newMount(t)
	admin(m)
	id := m.pending("alice", "admin")
	h := m.hold(domain.HoldPerson, idOf("bob"))
	m.refused(m.decide("bob", id, domain.Approve), fault.CodeHeld)
	m.refused(m.a.LiftHold(t.Context(), who("bob"), h.ID), fault.CodeHeld)
	zero := domain.Seconds(1)
	m.refused(onlyErr(m.a.ChangeHold(t.Context(), who("bob"), h.ID, access.HoldEdit{TTL: &zero})), fault.CodeHeld)
	m.must(m.a.LiftHold(t.Context(), who("carol"), h.ID))
	m.must(m.a.LiftHold(t.Context(), who("carol"), h.ID)) // twice is once
	m.must(m.decide("bob", id, domain.Approve))
}

func idOf(name string) string { return id(name) }

// A hold ends by itself at its time, and not before.
func TestHoldEndsByItself(t *testing.T) {
	m := newMount(t)
	m.role("admin", auto, nil)
	h, err := m.a.SetHold(t.Context(), access.Caller{}, access.Kill{Kind: domain.HoldRole, Value: "admin", Hold: seconds(600)})
	m.must(err)
	m.pass(10*time.Minute - time.Second)
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeHeld)
	m.pass(time.Second)
	m.issued("alice", "admin")
	if _, err := m.a.ChangeHold(t.Context(), access.Caller{}, h.ID, access.HoldEdit{TTL: seconds(60)}); err != nil {
		t.Fatal(err)
	}
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeHeld)
	m.pass(time.Minute)
	m.issued("alice", "admin")
	m.clean()
}

// A hold whose write failed is in force if it was written after all, and one
// that cannot be read stops what is new and nothing that ends.
func TestHoldsAreNeverOverlooked(t *testing.T) {
	t.Run("written, although the write failed", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", auto, nil)
		m.s.plan(cut{at: 1, written: true})
		if err := onlyErr(m.a.SetHold(t.Context(), access.Caller{}, access.Kill{Kind: domain.HoldAll})); err == nil {
			t.Fatal("no error")
		}
		m.refused(onlyErr(m.creds("alice", "ci")), fault.CodeHeld)
	})
	t.Run("still there, although the lifting failed", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", auto, nil)
		h := m.hold(domain.HoldAll, "")
		m.s.plan(cut{at: 1})
		if err := m.a.LiftHold(t.Context(), access.Caller{}, h.ID); err == nil {
			t.Fatal("no error")
		}
		m.refused(onlyErr(m.creds("alice", "ci")), fault.CodeHeld)
		m.must(m.a.LiftHold(t.Context(), access.Caller{}, h.ID))
		m.issued("alice", "ci")
	})
	t.Run("set while a credential is planned", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		m.granted("alice", "admin")
		m.host.planning = func() { m.hold(domain.HoldRole, "admin") }
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeHeld)
		if n := m.world.Count("create"); n != 0 {
			t.Fatalf("%d were made", n)
		}
	})
	t.Run("of a newer version", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", auto, nil)
		ans := m.issued("alice", "ci")
		m.hold(domain.HoldTarget, "elsewhere")
		m.newer("hold/")
		m.crash()
		if err := onlyErr(m.creds("alice", "ci")); err == nil {
			t.Fatal("issued without knowing the holds")
		}
		m.pass(time.Hour)
		m.works(ans, false)
	})
}

// One walk over people judges alike only what was filed alike: access ends where it
// is lost, and nowhere else.
func TestAccessEndsOnlyWhereItIsLost(t *testing.T) {
	rows := []struct {
		stays               []string // groups that alice is still in
		admin, glass, other bool     // what she keeps
	}{
		{[]string{"engineers", "on-call", "others"}, true, true, true},
		{[]string{"on-call", "others"}, false, true, true},
		{[]string{"engineers", "others"}, true, false, true},
		{[]string{"engineers", "on-call"}, true, true, false},
	}
	for _, row := range rows {
		t.Run(strings.Join(row.stays, " "), func(t *testing.T) {
			m := newMount(t)
			join := func(groups ...string) {
				m.people.change("alice", func(e *domain.Entity) { e.Groups = person("alice", groups...).Groups })
			}
			emergencyWith(m, func(r *domain.Role) { r.MaxActive = 5 })
			m.role("other", func(r *domain.Role) { r.EligibleGroups = []string{"others"} }, nil)
			join("engineers", "on-call", "others")
			have := map[domain.RequestID]bool{
				m.granted("alice", "admin"): row.admin, m.broken("alice", "INC-1"): row.glass, m.granted("alice", "other"): row.other,
			}
			join(row.stays...)
			m.tick()
			m.look(time.Minute)
			for id, keeps := range have {
				want := domain.Active
				if !keeps {
					want = domain.Revoked
				}
				m.state(id, want)
			}
		})
	}
}

// However many requests people have, one walk asks the host for each of them once,
// and once too where it does not answer.
func TestAWalkAsksForEverybodyOnce(t *testing.T) {
	for _, failure := range []error{nil, errors.New("down")} {
		m := newMount(t)
		for _, role := range []string{"admin", "other"} {
			m.role(role, nil, nil)
			for _, name := range []string{"alice", "dave"} {
				m.granted(name, role)
			}
		}
		m.people.setFail(failure)
		m.people.spent()
		m.tick()
		if n := m.people.spent(); n != 2*2 { // the person, and their groups
			t.Errorf("failure %v: two people were asked for in %d calls, want 4", failure, n)
		}
		m.people.setFail(nil)
	}
}

// What could not be read proves nothing, and takes nothing back: whoever was seen to
// have lost a role stays seen.
func TestASettingThatCannotBeReadForgetsNobody(t *testing.T) {
	for _, kind := range []string{"role", "config"} {
		m := newMount(t)
		admin(m)
		id := m.granted("alice", "admin")
		m.people.change("alice", leave)
		m.tick()
		m.a.Invalidate("role/admin") // what is in memory is no help
		m.s.hide(kind)
		m.look(time.Minute)
		m.s.hide("")
		m.state(id, domain.Active)
		m.tick()
		m.state(id, domain.Revoked)
	}
}

// A minute between two looks is one between two answers of the host, however long
// the work takes that one of them leads to.
func TestAMinuteIsBetweenTwoAnswers(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	m.role("other", nil, nil)
	granted := func(name, role string) domain.RequestID {
		m.clk.Advance(time.Second) // a walk comes by them in the order of their times
		return m.granted(name, role)
	}
	first, between, last := granted("dave", "admin"), granted("alice", "admin"), granted("dave", "other")
	m.people.remove("dave")
	m.tick()
	m.people.change("alice", disable)
	m.s.after = map[string]func(){"req/" + string(between): func() { m.clk.Advance(2 * time.Minute) }}
	m.look(time.Second)
	m.state(between, domain.Revoked)
	m.state(first, domain.Active)
	m.state(last, domain.Active)
	m.tick()
	m.state(last, domain.Revoked)
}
