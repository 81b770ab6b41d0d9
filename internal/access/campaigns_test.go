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

// underReview prepares a role that engineers, interns and carol may have, and
// whose access bob and carol review.
func underReview(m *mount) {
	m.Helper()
	m.people.add(person("frank", "interns"))
	m.role("admin", func(r *domain.Role) {
		r.EligibleGroups, r.EligibleEntities = []string{"engineers", "interns"}, []string{id("carol")}
		r.EligibleUntil = map[string]time.Time{"interns": start.Add(90 * 24 * time.Hour)}
	}, nil)
}

func (m *mount) campaign(undecided string) string {
	m.Helper()
	c, err := m.a.OpenCampaign(m.Context(), access.Caller{}, access.CampaignAsk{
		Role: "admin", Groups: []string{"leads"}, Due: m.clk.Now().Add(24 * time.Hour), Undecided: undecided,
	})
	m.must(err)
	return c.ID
}

func (m *mount) judged(name, campaign, principal, verdict string) error {
	return onlyErr(m.a.SignOff(m.Context(), who(name), campaign, access.Verdict{Principal: principal, Verdict: verdict, Comment: "looked"}))
}

func (m *mount) eligible(want ...domain.Principal) {
	m.Helper()
	v, err := m.a.ReadRole(m.Context(), "admin")
	m.must(err)
	if got := v.Role.Principals(); !slices.Equal(got, want) {
		m.Fatalf("the role names %v, want %v", got, want)
	}
}

func TestAccessReview(t *testing.T) {
	engineers, interns, carol := domain.PrincipalOf("group", "engineers"), domain.PrincipalOf("group", "interns"), domain.PrincipalOf("entity", id("carol"))
	rows := []struct {
		name      string
		undecided string
		say       map[domain.Principal]string // bob's verdicts
		left      []domain.Principal
	}{
		{"what nobody decides on is kept", "keep", nil, []domain.Principal{engineers, interns, carol}},
		{"what nobody decides on is removed, the rest as it was said", "remove", map[domain.Principal]string{engineers: "keep"}, []domain.Principal{engineers}},
		{"whom the reviewer removes", "keep", map[domain.Principal]string{interns: "remove"}, []domain.Principal{engineers, carol}},
		{"an entity alone", "keep", map[domain.Principal]string{carol: "remove"}, []domain.Principal{engineers, interns}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			underReview(m)
			c := m.campaign(row.undecided)
			for p, verdict := range row.say {
				m.must(m.judged("bob", c, string(p), verdict))
			}
			m.clk.Advance(23 * time.Hour)
			m.tick()
			m.eligible(engineers, interns, carol) // not due yet
			m.clk.Advance(time.Hour)
			m.tick()
			m.eligible(row.left...)
			got, err := m.a.Campaign(t.Context(), c)
			m.must(err)
			if got.State != domain.CampaignClosed || !got.History.Intact() || len(got.Removed) != 3-len(row.left) {
				t.Errorf("%s, removed %v", got.State, got.Removed)
			}
			m.refused(m.judged("bob", c, string(engineers), "remove"), fault.CodeNotPending)
		})
	}
}

// Who reviews is a reviewer, a person, and not who has the access.
func TestWhoReviewsAccess(t *testing.T) {
	m := newMount(t)
	underReview(m)
	c := m.campaign("keep")
	carol := string(domain.PrincipalOf("entity", id("carol")))
	m.refused(m.judged("carol", c, carol, "keep"), fault.CodeNotApprover)
	m.refused(m.judged("alice", c, carol, "keep"), fault.CodeInvalid) // unknown to her
	m.refused(m.judged("bob", c, "group:nobody", "keep"), fault.CodeInvalid)
	m.refused(m.judged("bob", c, carol, "justified"), fault.CodeInvalid)
	m.hold(domain.HoldPerson, id("bob"))
	m.refused(m.judged("bob", c, carol, "keep"), fault.CodeHeld)
	m.must(m.judged("carol", c, "group:interns", "remove"))
	if p, err := m.a.Reviews(t.Context(), who("carol"), "", 0); err != nil || !slices.Equal(p.Keys, []string{c}) {
		t.Errorf("the inbox: %v, %v", p.Keys, err)
	}
	if p, err := m.a.Reviews(t.Context(), who("robot"), "", 0); err != nil || len(p.Keys) > 0 {
		t.Errorf("a machine's inbox: %v, %v", p.Keys, err)
	}
	m.refused(onlyErr(m.a.OpenCampaign(t.Context(), access.Caller{}, access.CampaignAsk{
		Role: "admin", Groups: []string{"leads"}, Due: m.clk.Now().Add(time.Hour), Undecided: "keep",
	})), fault.CodeLimit)
	f := m.refused(onlyErr(m.a.OpenCampaign(t.Context(), access.Caller{}, access.CampaignAsk{Role: "unknown"})), fault.CodeInvalid)
	if problems, _ := f.Data["problems"].([]string); len(problems) != 4 {
		t.Errorf("problems: %v", f.Data["problems"])
	}
}

// Where nobody would be left the role is held, and what is open ends.
func TestAccessReviewThatLeavesNobody(t *testing.T) {
	m := newMount(t)
	underReview(m)
	m.granted("alice", "admin")
	ans := m.issued("alice", "admin")
	c := m.campaign("remove")
	_, err := m.a.CloseCampaign(t.Context(), access.Caller{}, c)
	m.must(err)
	m.tick()
	m.works(ans, false)
	m.refused(onlyErr(m.ask("alice", "admin", access.Ask{})), fault.CodeHeld)
	if holds, err := m.a.Holds(t.Context()); err != nil || len(holds) != 1 {
		t.Errorf("holds: %v, %v", holds, err)
	}
}

func TestEveryCutOfAnAccessReviewHeals(t *testing.T) {
	closing := func(m *mount) error {
		m.clk.Advance(25 * time.Hour)
		m.tick()
		m.tick()
		return nil
	}
	live := func(undecided string) func(*mount) {
		return func(m *mount) {
			underReview(m)
			m.granted("frank", "admin")
			m.campaign(undecided)
		}
	}
	for _, q := range []sequence{
		{"opening", underReview, func(m *mount) error {
			return onlyErr(m.a.OpenCampaign(m.Context(), access.Caller{}, access.CampaignAsk{
				Role: "admin", Groups: []string{"leads"}, Due: m.clk.Now().Add(24 * time.Hour), Undecided: "keep",
			}))
		}, 1},
		{"a verdict", func(m *mount) { underReview(m); m.campaign("keep") }, func(m *mount) error {
			cs, err := m.a.Campaigns(m.Context())
			if err != nil {
				return err
			}
			return m.judged("bob", cs[0].ID, "group:interns", "remove")
		}, 1},
		{"closing that removes some", func(m *mount) {
			live("keep")(m)
			cs, err := m.a.Campaigns(m.Context())
			m.must(err)
			m.must(m.judged("bob", cs[0].ID, "group:interns", "remove"))
		}, closing, 4},
		{"closing that leaves nobody", live("remove"), closing, 4},
	} {
		cutEverywhere(t, q)
	}
}

// Wherever closing is cut, who was removed is removed, once.
func TestAccessReviewIsAppliedAfterACut(t *testing.T) {
	for _, way := range ways {
		for n := 1; n <= 6; n++ {
			t.Run(way.name, func(t *testing.T) {
				m := newMount(t)
				underReview(m)
				rid := m.granted("frank", "admin")
				c := m.campaign("keep")
				m.must(m.judged("bob", c, "group:interns", "remove"))
				plan := way.cut
				plan.at = n
				m.s.plan(plan)
				if _, err := m.a.CloseCampaign(t.Context(), access.Caller{}, c); err != nil {
					t.Logf("write %d: %v", n, err)
				}
				if plan.crash {
					m.crash()
				} else {
					m.s.plan(cut{})
				}
				m.clk.Advance(25 * time.Hour)
				m.pass(2 * time.Minute)
				m.eligible(domain.PrincipalOf("group", "engineers"), domain.PrincipalOf("entity", id("carol")))
				if s := m.request(rid).State; !s.Terminal() {
					t.Errorf("who was removed has a request that is %s", s)
				}
				if got, err := m.a.Campaign(t.Context(), c); err != nil || got.State != domain.CampaignClosed {
					t.Errorf("the review: %v, %v", got, err)
				}
			})
		}
	}
}

// The report tells used roles from unused ones, and knows people, entities and
// ends of eligibility.
func TestEligibilityReport(t *testing.T) {
	m := newMount(t)
	underReview(m)
	m.role("quiet", nil, nil)
	rid := m.granted("alice", "admin")
	m.issued("alice", "admin")
	m.returned("alice", rid)
	m.clk.Advance(40 * 24 * time.Hour)
	rows, err := m.a.EligibilityReport(t.Context(), "", 0, 0)
	m.must(err)
	if len(rows) != 2 || rows[0].Role != "admin" || rows[0].Uses != 1 || rows[0].UnusedDays != 40 || rows[1].UnusedDays != -1 {
		t.Fatalf("%+v", rows)
	}
	if p := rows[0].Principals[1]; p.Principal != "group:interns" || !p.Until.Equal(start.Add(90*24*time.Hour)) || p.Over {
		t.Errorf("interns: %+v", p)
	}
	for unused, want := range map[int]int{30: 2, 41: 1} {
		if rows, err := m.a.EligibilityReport(t.Context(), "", 0, unused); err != nil || len(rows) != want {
			t.Errorf("unused for %d days: %d rows, %v", unused, len(rows), err)
		}
	}
	if rows, err := m.a.EligibilityReport(t.Context(), "admin", 1, 0); err != nil || len(rows) != 1 || rows[0].Role != "quiet" {
		t.Errorf("the second page: %+v, %v", rows, err)
	}
	row, people, err := m.a.RoleEligibility(t.Context(), "admin")
	m.must(err)
	if row.LastUsedBy != "entity:"+domain.Person(id("alice")) || len(people) != 1 || people[0].Usage.Count != 1 {
		t.Errorf("%+v, %+v", row, people)
	}
	m.clk.Advance(60 * 24 * time.Hour)
	if row, _, err = m.a.RoleEligibility(t.Context(), "admin"); err != nil || !row.Principals[1].Over {
		t.Errorf("past its end: %+v, %v", row.Principals, err)
	}
	m.zero()
	if _, _, err := m.a.RoleEligibility(t.Context(), "admin"); err != nil || m.s.spent().lists > 0 {
		t.Errorf("the report reads everybody's records each time: %v", err)
	}
}

// What a review removes ends access: where edits take two people it waits for
// nobody, whatever edit of the role waits, and whatever is wrong with the role.
func TestAccessReviewUnderEditSOD(t *testing.T) {
	for name, before := range map[string]func(m *mount){
		"nothing else going on": func(*mount) {},
		"another person's edit waits": func(m *mount) {
			_, err := m.editAs(who("dave"), func(r *domain.Role) { r.Approvals = 2 })
			m.must(err)
		},
		"a role without the owner that edits ask for": func(m *mount) {
			m.must(onlyErr(m.editAs(who("dave"), func(r *domain.Role) { r.Description = "x" })))
			m.ownerless("admin")
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := sod(t)
			m.people.add(person("frank", "interns"))
			m.unsod(func() {
				m.role("admin", func(r *domain.Role) { r.EligibleGroups, r.Owner = []string{"engineers", "interns"}, "carol" }, nil)
			})
			before(m)
			c := m.campaign("keep")
			m.must(m.judged("bob", c, "group:interns", "remove"))
			m.clk.Advance(25 * time.Hour)
			removed, kept := m.granted("frank", "admin"), m.granted("alice", "admin")
			m.tick()
			got, err := m.a.Campaign(t.Context(), c)
			m.must(err)
			if got.State != domain.CampaignClosed || got.Outcome != "removed 1 of 2 principals" {
				t.Errorf("%s: %s", got.State, got.Outcome)
			}
			m.eligible("group:engineers")
			m.state(removed, domain.Revoked)
			m.state(kept, domain.Active)
			if holds, err := m.a.Holds(t.Context()); err != nil || len(holds) > 0 {
				t.Errorf("holds: %v, %v", holds, err)
			}
		})
	}
}

// What one person alone removes waits for another one, and what those who are
// removed have open ends all the same.
func TestAccessReviewThatWaitsEndsWhatIsOpen(t *testing.T) {
	m := sod(t)
	m.people.add(person("frank", "interns"))
	m.unsod(func() {
		m.role("admin", func(r *domain.Role) { r.EligibleGroups = []string{"engineers", "interns"} }, nil)
	})
	removed, kept := m.granted("frank", "admin"), m.granted("alice", "admin")
	c := m.campaign("remove")
	m.must(m.judged("bob", c, "group:engineers", "keep"))
	got, err := m.a.CloseCampaign(t.Context(), who("bob"), c)
	m.must(err)
	if got.Outcome != "removed 1 of 2 principals, 1 of them once another person confirms the edit of the role" {
		t.Errorf("%s: %s", got.State, got.Outcome)
	}
	m.state(removed, domain.Revoked)
	m.state(kept, domain.Active)
	m.eligible("group:engineers", "group:interns")
	m.must(m.confirm("carol", domain.EditRole, "admin"))
	m.eligible("group:engineers")
}

// ownerless takes a role's owner away on the disk, as a role from before edit_sod
// may be.
func (m *mount) ownerless(name string) {
	m.Helper()
	m.disk.mu.Lock()
	m.disk.data["role/"+name] = []byte(strings.ReplaceAll(string(m.disk.data["role/"+name]), `"owner":"carol",`, ""))
	m.disk.mu.Unlock()
	m.crash()
}
