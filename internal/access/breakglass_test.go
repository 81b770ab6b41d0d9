package access_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// emergency prepares the ordinary role with a glass that those on call may
// break: erin, who is not eligible otherwise, and alice and dave, who are.
func emergency(m *mount) { emergencyWith(m, nil) }

func emergencyWith(m *mount, edit func(*domain.Role)) {
	m.Helper()
	onCall(m, "alice")
	onCall(m, "dave")
	m.people.add(person("erin", "on-call"))
	m.role("admin", func(r *domain.Role) {
		r.BreakGlassGroups = []string{"on-call"}
		if edit != nil {
			edit(r)
		}
	}, nil)
}

func onCall(m *mount, name string) {
	m.people.change(name, func(e *domain.Entity) {
		e.Groups = append(slices.Clone(e.Groups), domain.Group{ID: id("group on-call"), Name: "on-call"})
	})
}

func (m *mount) glass(name, ticket string) (access.Submitted, error) {
	return m.a.BreakGlass(m.Context(), who(name), "admin", access.Ask{Justification: "the database is down", Ticket: ticket})
}

// broken breaks the glass and insists that it worked.
func (m *mount) broken(name, ticket string) domain.RequestID {
	m.Helper()
	s, err := m.glass(name, ticket)
	m.must(err)
	return s.View.Request.ID
}

// giveBack ends a grant, so that the next one is another.
func (m *mount) returned(name string, id domain.RequestID) {
	m.Helper()
	m.must(onlyErr(m.a.Cancel(m.Context(), who(name), id)))
	m.tick()
}

func (m *mount) signOff(name string, id domain.RequestID) error {
	return onlyErr(m.a.SignOff(m.Context(), who(name), string(id), access.Verdict{Verdict: "justified", Comment: "read the incident report"}))
}

func TestGlassIsBrokenAtOnceAndAloud(t *testing.T) {
	m := newMount(t)
	emergency(m)
	s, err := m.glass("erin", "INC-1")
	m.must(err)
	r := s.View.Request
	if r.State != domain.Active || !r.BreaksGlass() || len(r.Decisions) > 0 || r.Granted != domain.DefaultBreakGlassTTL || s.View.Need != 0 {
		t.Fatalf("%s, kind %s, %d decisions, for %d s, needs %d", r.State, r.Kind, len(r.Decisions), r.Granted, s.View.Need)
	}
	ans := m.issued("erin", "admin")
	if ans.Data["pim_break_glass"] != true {
		t.Error("the credential does not say that the glass was broken")
	}
	if m.request(r.ID).Heard() {
		t.Error("somebody is said to have heard")
	}
	var loud []string
	for _, line := range m.log.all() {
		if strings.HasPrefix(line, "error ") && strings.Contains(line, "BREAK-GLASS") {
			loud = append(loud, line)
		}
	}
	if len(loud) != 1 || !strings.Contains(loud[0], string(r.ID)) || strings.Contains(loud[0], "INC-1") || strings.Contains(loud[0], "database") {
		t.Errorf("the log says %q", loud)
	}
	if list := m.kinds(); !slices.Equal(list, []domain.EventKind{domain.EventBreakGlass, domain.EventReviewOwed}) {
		t.Errorf("the feed has %v", list)
	}
	again, err := m.glass("erin", "INC-1")
	m.must(err)
	if !again.Existing || again.View.Request.ID != r.ID {
		t.Error("the same ask while one is active is another one")
	}
	m.pass(61 * time.Minute)
	m.works(ans, false)
}

// kinds are the events of the feed, in order.
func (m *mount) kinds() []domain.EventKind {
	m.Helper()
	list, err := m.a.Events(m.Context(), "", 0)
	m.must(err)
	var out []domain.EventKind
	for _, e := range list {
		out = append(out, e.Kind)
	}
	return out
}

func TestWhoMayBreakTheGlass(t *testing.T) {
	rows := []struct {
		name   string
		before func(m *mount)
		who    string
		ask    access.Ask
		want   fault.Code // "" = they may
	}{
		{"who is on call", emergency, "erin", access.Ask{Justification: "down", Ticket: "INC-1"}, ""},
		{"who is eligible and not on call", func(m *mount) {
			m.role("admin", func(r *domain.Role) { r.BreakGlassGroups = []string{"on-call"} }, nil)
		}, "alice", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeNotEligible},
		{"nobody while the role names nobody", admin, "alice", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeNotEligible},
		{"nobody at a role that does not exist", func(*mount) {}, "alice", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeNotEligible},
		{"no machine", func(m *mount) { emergency(m); onCall(m, "robot") }, "robot", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeNotEligible},
		{"nobody without a ticket", emergency, "erin", access.Ask{Justification: "down"}, fault.CodeInvalid},
		{"nobody without a justification", func(m *mount) {
			emergencyWith(m, func(r *domain.Role) { r.RequireJustification = false })
		}, "erin", access.Ask{Ticket: "INC-1"}, fault.CodeInvalid},
		{"nobody for longer than the emergency window", emergency, "erin", access.Ask{Justification: "down", Ticket: "INC-1", TTL: seconds(2 * 3600)}, fault.CodeInvalid},
		{"nobody for later", emergency, "erin", access.Ask{Justification: "down", Ticket: "INC-1", Start: start.Add(2 * time.Hour)}, fault.CodeInvalid},
		{"not through a hold on the role", func(m *mount) { emergency(m); m.hold(domain.HoldRole, "admin") }, "erin", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeHeld},
		{"not through a hold on the person", func(m *mount) { emergency(m); m.hold(domain.HoldPerson, id("erin")) }, "erin", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeHeld},
		{"not through a hold on everything", func(m *mount) { emergency(m); m.hold(domain.HoldAll, "") }, "erin", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeHeld},
		{"not who edited the role today", func(m *mount) { emergency(m); m.editedBy("erin", "admin") }, "erin", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeEditor},
		{"not who edited it, though others did after", func(m *mount) {
			emergency(m)
			m.editedBy("erin", "admin")
			m.editedBy("carol", "admin")
		}, "erin", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeEditor},
		{"who edited the role the day before", func(m *mount) { emergency(m); m.editedBy("erin", "admin"); m.clk.Advance(25 * time.Hour) }, "erin", access.Ask{Justification: "down", Ticket: "INC-1"}, ""},
		{"not who edited the target today", func(m *mount) { emergency(m); m.targetEditedBy("erin") }, "erin", access.Ask{Justification: "down", Ticket: "INC-1"}, fault.CodeEditor},
		{"though their request waits for approval", func(m *mount) { emergency(m); m.pending("alice", "admin") }, "alice", access.Ask{Justification: "down", Ticket: "INC-1"}, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			row.before(m)
			_, err := m.a.BreakGlass(t.Context(), who(row.who), "admin", row.ask)
			if row.want == "" {
				m.must(err)
				m.issued(row.who, "admin")
				return
			}
			m.refused(err, row.want)
			if keys := m.disk.keys("glass/"); len(keys) > 0 {
				t.Errorf("a refused one is in the ledger: %v", keys)
			}
		})
	}
}

func (m *mount) editedBy(name, role string) {
	m.Helper()
	v, err := m.a.ReadRole(m.Context(), role)
	m.must(err)
	_, err = m.a.WriteRole(m.Context(), who(name), role, access.RoleEdit{Core: func(r *domain.Role) { r.RequestTTL = v.Role.RequestTTL + 60 }}, access.EditOptions{})
	m.must(err)
}

func (m *mount) targetEditedBy(name string) {
	m.Helper()
	most := 100
	_, err := m.a.WriteTarget(m.Context(), who(name), "site", access.TargetEdit{MaxLive: &most}, access.EditOptions{})
	m.must(err)
}

// One ticket may be used so often, then a review is owed; any other ticket is
// refused before that.
func TestReviewIsOwed(t *testing.T) {
	m := newMount(t)
	emergency(m)
	var ids []domain.RequestID
	for range domain.DefaultBreakGlassMax {
		rid := m.broken("erin", "INC-1")
		m.returned("erin", rid)
		ids = append(ids, rid)
	}
	f := m.refused(onlyErr(m.glass("erin", "INC-1")), fault.CodeReviewOwed)
	if f.Data["request_id"] != string(ids[0]) {
		t.Errorf("it names %v", f.Data["request_id"])
	}
	m.refused(onlyErr(m.glass("erin", "INC-2")), fault.CodeReviewOwed)
	m.crash() // what is owed survives
	m.refused(onlyErr(m.glass("erin", "INC-1")), fault.CodeReviewOwed)
	m.broken("alice", "INC-1") // what erin owes bars nobody else

	m.refused(m.signOff("erin", ids[0]), fault.CodeNotApprover)
	m.refused(m.signOff("alice", ids[0]), fault.CodeInvalid) // no reviewer: unknown
	m.must(m.signOff("bob", ids[0]))
	m.refused(m.signOff("bob", ids[0]), fault.CodeAlreadyDecided)
	third := m.broken("erin", "INC-1")                            // two are owed, the third use is free again
	m.refused(onlyErr(m.glass("erin", "INC-2")), fault.CodeLimit) // one at a time
	m.returned("erin", third)
	m.refused(onlyErr(m.glass("erin", "INC-2")), fault.CodeReviewOwed)
	if r := m.request(ids[0]); r.Review.Verdict != domain.Justified || r.Review.By.Name != "bob" || !r.History.Intact() {
		t.Errorf("the review on record: %+v", r.Review)
	}
}

// Past the deadline who owes a review cannot request the role at all.
func TestOverdueReviewBarsRequests(t *testing.T) {
	m := newMount(t)
	emergency(m)
	rid := m.broken("alice", "INC-1")
	m.returned("alice", rid)
	waits := m.pending("alice", "admin") // within the deadline
	m.must(onlyErr(m.a.Cancel(t.Context(), who("alice"), waits)))
	m.clk.Advance(domain.DefaultReviewDeadline.Duration())
	m.tick()
	m.refused(onlyErr(m.ask("alice", "admin", access.Ask{})), fault.CodeReviewOwed)
	m.refused(onlyErr(m.glass("alice", "INC-1")), fault.CodeReviewOwed)
	if !slices.Contains(m.kinds(), domain.EventReviewOverdue) {
		t.Errorf("the feed has %v", m.kinds())
	}
	m.tick()
	if n := len(slices.DeleteFunc(m.kinds(), func(k domain.EventKind) bool { return k != domain.EventReviewOverdue })); n != 1 {
		t.Errorf("it is said %d times", n)
	}
	m.must(m.signOff("carol", rid))
	m.pending("alice", "admin")
}

// Limits count uses of one person, under any of their entities, and of
// everybody.
func TestBurnRate(t *testing.T) {
	t.Run("of one person with two entities", func(t *testing.T) {
		m := newMount(t)
		emergencyWith(m, func(r *domain.Role) { r.BreakGlassLimitPerson, r.BreakGlassPeriod = 2, 24*3600 })
		m.config(func(c *domain.Config) { c.PersonKey = "email" })
		for _, name := range []string{"alice", "bob", "carol", "erin"} {
			m.people.change(name, func(e *domain.Entity) { e.Metadata = map[string]string{"email": name} })
		}
		second := person("erin-admin", "on-call")
		second.Metadata = map[string]string{"email": " ERIN "}
		m.people.add(second)
		for i, name := range []string{"erin", "erin-admin"} {
			rid := m.broken(name, "INC-1")
			m.returned(name, rid)
			m.must(m.signOff("bob", rid))
			if i == 0 {
				m.refused(m.signOff("erin-admin", rid), fault.CodeNotApprover) // the same person
			}
		}
		m.refused(onlyErr(m.glass("erin", "INC-1")), fault.CodeLimit)
		m.refused(onlyErr(m.glass("erin-admin", "INC-1")), fault.CodeLimit)
		m.clk.Advance(25 * time.Hour)
		m.broken("erin", "INC-2")
	})
	t.Run("of a role", func(t *testing.T) {
		m := newMount(t)
		emergencyWith(m, func(r *domain.Role) { r.BreakGlassLimitRole = 2 })
		m.broken("alice", "INC-1")
		m.broken("erin", "INC-1")
		m.people.add(person("frank", "on-call"))
		m.refused(onlyErr(m.glass("frank", "INC-1")), fault.CodeLimit)
		m.crash()
		m.refused(onlyErr(m.glass("frank", "INC-1")), fault.CodeLimit)
	})
}

// Credentials stop when the holder is no longer among those on call, and their
// access ends.
func TestGlassIsJudgedLive(t *testing.T) {
	m := newMount(t)
	emergency(m)
	rid := m.broken("erin", "INC-1")
	ans := m.issued("erin", "admin")
	m.people.change("erin", func(e *domain.Entity) { e.Groups = nil })
	m.refused(onlyErr(m.creds("erin", "admin")), fault.CodeNotEligible)
	m.pass(3 * time.Minute)
	m.state(rid, domain.Revoked)
	m.works(ans, false)
}

// Who broke the glass may have an ordinary grant beside it; neither stands in
// for the other.
func TestGlassAndGrant(t *testing.T) {
	m := newMount(t)
	emergency(m)
	rid := m.broken("alice", "INC-1")
	grant := m.granted("alice", "admin")
	if grant == rid {
		t.Fatal("an ordinary ask joined an emergency")
	}
	if ans := m.issued("alice", "admin"); ans.Data["pim_request_id"] != string(rid) {
		t.Error("the credential is not under the emergency")
	}
	m.returned("alice", rid)
	if ans := m.issued("alice", "admin"); ans.Data["pim_break_glass"] != false {
		t.Error("an ordinary credential says that the glass was broken")
	}
}

// Nobody has heard until a consumer that is not the person themselves has read
// the event.
func TestHeard(t *testing.T) {
	m := newMount(t)
	emergency(m)
	rid := m.broken("erin", "INC-1")
	m.returned("erin", rid) // heard is written to an archived request too
	list, err := m.a.Events(t.Context(), "", 0)
	m.must(err)
	first, last := list[0], list[len(list)-1]
	if first.Kind != domain.EventBreakGlass || !first.Glass || first.Head == "" || first.N != 1 {
		t.Errorf("the event: %+v", first)
	}
	m.refused(onlyErr(m.a.Acknowledge(t.Context(), access.Caller{}, "siem", "7zzzzzzzzzzzzzzzzzzzzzzzzz")), fault.CodeInvalid)
	m.must(onlyErr(m.a.Acknowledge(t.Context(), who("erin"), "own", last.ID)))
	if m.request(rid).Heard() {
		t.Error("who broke the glass counts as having heard of it")
	}
	m.must(onlyErr(m.a.Acknowledge(t.Context(), who("carol"), "siem", last.ID)))
	r := m.request(rid)
	if !r.Heard() || r.Glass.HeardBy != "siem" || !r.History.Intact() {
		t.Errorf("heard: %+v", r.Glass)
	}
	entries := len(r.History.Entries)
	m.crash()
	m.must(onlyErr(m.a.Acknowledge(t.Context(), who("carol"), "siem", first.ID))) // never goes back
	if c, err := m.a.Consumer(t.Context(), "siem"); err != nil || c.Cursor != last.ID {
		t.Errorf("the cursor went back: %+v, %v", c, err)
	}
	if got := len(m.request(rid).History.Entries); got != entries {
		t.Errorf("it was heard %d times more", got-entries)
	}
	m.clk.Advance(8 * 24 * time.Hour)
	m.a.Tidy(t.Context())
	m.a.Idle()
	for _, e := range m.kinds() {
		if e == domain.EventBreakGlass {
			t.Error("events are kept for ever")
		}
	}
}

// After a use the target's root credential is rotated, where the role says so.
func TestRotationAfterUse(t *testing.T) {
	m := newMount(t)
	emergencyWith(m, func(r *domain.Role) { r.BreakGlassRotate = true })
	before := string(m.disk.value("target-secret/site"))
	unused := m.broken("erin", "INC-1")
	m.returned("erin", unused)
	if string(m.disk.value("target-secret/site")) != before {
		t.Error("rotated although nothing was issued")
	}
	rid := m.broken("erin", "INC-1")
	m.issued("erin", "admin")
	if string(m.disk.value("target-secret/site")) != before {
		t.Error("rotated while the access lasts")
	}
	m.returned("erin", rid)
	if string(m.disk.value("target-secret/site")) == before {
		t.Error("not rotated")
	}
	r := m.request(rid)
	if r.Glass.Rotate != domain.RotationDone || !r.History.Intact() {
		t.Errorf("on record: %+v", r.Glass)
	}
	m.broken("erin", "INC-1")
	m.issued("erin", "admin")
}

// A debt outlives the retention of its request, and goes with its sign-off.
func TestDebtOutlivesRetention(t *testing.T) {
	m := newMount(t)
	emergency(m)
	rid := m.broken("alice", "INC-1")
	m.returned("alice", rid)
	for range 3 {
		m.clk.Advance(40 * 24 * time.Hour)
		m.tick()
		m.a.Idle()
	}
	m.refused(onlyErr(m.ask("alice", "admin", access.Ask{})), fault.CodeReviewOwed)
	m.must(m.signOff("bob", rid))
	m.pending("alice", "admin")
}
