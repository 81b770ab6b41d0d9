package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// Nobody signs off their own emergency under another entity, whatever told or tells
// that both are one person.
func TestNobodyReviewsThemselvesUnderAnotherEntity(t *testing.T) {
	mail := func(m *mount, name, value string) {
		m.people.change(name, func(e *domain.Entity) { e.Metadata = map[string]string{"mail": value} })
	}
	key := func(m *mount, k string) { m.config(func(c *domain.Config) { c.PersonKey = k }) }
	for name, row := range map[string]struct {
		before, after func(m *mount)
	}{
		"the person key came later": {
			func(*mount) {},
			func(m *mount) { mail(m, "erin", "e@x"); mail(m, "carol", "E@x "); key(m, "mail") },
		},
		"the value was corrected later": {
			func(m *mount) { mail(m, "erin", "e@x"); mail(m, "carol", "c@x"); key(m, "mail") },
			func(m *mount) { mail(m, "carol", "e@x") },
		},
		"the person key is gone": {
			func(m *mount) { mail(m, "erin", "e@x"); mail(m, "carol", "e@x"); key(m, "mail") },
			func(m *mount) { key(m, "") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			emergency(m)
			row.before(m)
			mail(m, "bob", "b@x")
			rid := m.broken("erin", "INC-1")
			row.after(m)
			m.refused(m.signOff("carol", rid), fault.CodeNotApprover)
			m.refused(onlyErr(m.a.Review(t.Context(), who("carol"), string(rid))), fault.CodeInvalid)
			m.must(m.signOff("bob", rid))
		})
	}
}

// Who decided on more time was part of it too.
func TestNobodyReviewsMoreTimeThatTheyGave(t *testing.T) {
	m := newMount(t)
	m.people.add(person("erin", "leads"))
	m.role("admin", func(r *domain.Role) {
		staged(domain.Stage{
			AllOf: []domain.Threshold{by("leads")}, Timeout: 1800, OnTimeout: domain.OnTimeoutApprove, OnCallWhen: `"on-call" in requester.groups`,
		})(r)
		r.MaxExtension = 3600
	}, nil)
	onCall(m, "alice")
	rid := m.pending("alice", "admin")
	m.pass(31 * time.Minute)
	m.state(rid, domain.Active)
	m.must(m.extend("alice", rid, 600, "still down"))
	m.must(m.decide("bob", rid, domain.Approve))
	m.refused(m.signOff("bob", rid), fault.CodeInvalid)
	m.must(m.signOff("erin", rid))
}

// Nobody keeps a role for another entity of theirs.
func TestNobodyReviewsAnotherEntityOfTheirs(t *testing.T) {
	m := newMount(t)
	underReview(m)
	m.people.add(person("erin", "leads"))
	carol := string(domain.PrincipalOf("entity", id("carol")))
	m.personKey("mail", "alice", "bob", "carol", "dave", "erin")
	m.people.change("erin", func(e *domain.Entity) { e.Metadata = map[string]string{"mail": "Carol@example.com"} })
	c := m.campaign("remove")
	m.refused(m.judged("erin", c, carol, "keep"), fault.CodeNotApprover)
	m.must(m.judged("bob", c, carol, "keep"))
}

// The group that first reviewed is the one that reviews, whoever has its name.
func TestReviewersOfAnAccessReviewArePinned(t *testing.T) {
	m := newMount(t)
	underReview(m)
	c := m.campaign("keep")
	m.must(m.judged("bob", c, "group:interns", "keep"))
	m.people.add(person("erin"))
	m.people.change("erin", func(e *domain.Entity) { e.Groups = []domain.Group{{ID: id("another group"), Name: "leads"}} })
	m.refused(m.judged("erin", c, "group:engineers", "remove"), fault.CodeInvalid)
	m.must(m.judged("carol", c, "group:engineers", "keep"))
}

// With edit_sod an access review is no way to edit a role alone.
func TestOnePersonAloneRemovesNobody(t *testing.T) {
	start := func(t *testing.T, opener access.Caller) (*mount, string) {
		t.Helper()
		m := sod(t)
		m.unsod(func() {
			m.role("admin", func(r *domain.Role) { r.EligibleGroups = []string{"engineers", "interns"} }, nil)
		})
		c, err := m.a.OpenCampaign(t.Context(), opener, access.CampaignAsk{
			Role: "admin", Groups: []string{"leads"}, Due: m.clk.Now().Add(24 * time.Hour), Undecided: "keep",
		})
		m.must(err)
		m.must(m.judged("bob", c.ID, "group:interns", "remove"))
		return m, c.ID
	}
	shut := func(t *testing.T, m *mount, by access.Caller, c string) {
		t.Helper()
		m.must(onlyErr(m.a.CloseCampaign(t.Context(), by, c)))
	}
	for name, row := range map[string]func(t *testing.T) *mount{
		"who closes it": func(t *testing.T) *mount {
			t.Helper()
			m, c := start(t, who("carol"))
			shut(t, m, who("bob"), c)
			return m
		},
		"who opened what time closes": func(t *testing.T) *mount {
			t.Helper()
			m, _ := start(t, who("bob"))
			m.clk.Advance(25 * time.Hour)
			m.tick()
			return m
		},
		"who opened what a token without identity closes": func(t *testing.T) *mount {
			t.Helper()
			m, c := start(t, who("bob"))
			shut(t, m, access.Caller{}, c)
			return m
		},
		"who closed it and has no identity any more, under another of theirs": func(t *testing.T) *mount {
			t.Helper()
			m, c := start(t, who("carol"))
			m.people.add(person("erin"))
			m.unsod(func() { m.personKey("mail", "alice", "bob", "carol", "dave") })
			m.people.change("erin", func(e *domain.Entity) { e.Metadata = map[string]string{"mail": "bob@example.com"} })
			m.at("access review closing", func() { m.people.remove("erin") })()
			shut(t, m, who("erin"), c)
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := row(t)
			m.refused(m.confirm("bob", domain.EditRole, "admin"), fault.CodeNotApprover)
			m.eligible("group:engineers", "group:interns")
			m.must(m.confirm("carol", domain.EditRole, "admin"))
			m.eligible("group:engineers")
		})
	}
}

// The cursor of a consumer is moved by who runs it: who broke a glass would else
// have it step over what it is to hear of.
func TestNobodyMovesTheCursorOfOthers(t *testing.T) {
	m := newMount(t)
	emergency(m)
	m.broken("erin", "INC-1")
	list, err := m.a.Events(t.Context(), "", 0)
	m.must(err)
	first := list[0].ID
	m.must(onlyErr(m.a.Acknowledge(t.Context(), who("robot"), "siem", first)))
	m.broken("erin", "INC-1")
	list, err = m.a.Events(t.Context(), "", 0)
	m.must(err)
	last := list[len(list)-1].ID
	for _, c := range []access.Caller{who("erin"), who("bob"), {}} {
		m.refused(onlyErr(m.a.Acknowledge(t.Context(), c, "siem", last)), fault.CodePolicy)
	}
	if c, err := m.a.Consumer(t.Context(), "siem"); err != nil || c.Cursor != first {
		t.Errorf("the cursor: %+v, %v", c, err)
	}
	m.must(onlyErr(m.a.Acknowledge(t.Context(), who("robot"), "siem", last)))
	m.must(m.a.ForgetConsumer(t.Context(), "siem"))
	m.must(onlyErr(m.a.Acknowledge(t.Context(), who("bob"), "siem", last))) // somebody else runs it from now on
}
