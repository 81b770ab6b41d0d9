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

// in puts people of the story into a group besides their own.
func (m *mount) in(group string, names ...string) {
	for _, name := range names {
		if _, known := m.people.byID[id(name)]; !known {
			m.people.add(person(name))
		}
		m.people.change(name, func(e *domain.Entity) {
			e.Groups = append(slices.Clone(e.Groups), domain.Group{ID: "id-of-" + group, Name: group})
		})
	}
}

func staged(stages ...domain.Stage) func(*domain.Role) {
	return func(r *domain.Role) { r.Stages, r.Approvals, r.ApproverGroups = stages, 0, nil }
}

func by(group string) domain.Threshold {
	return domain.Threshold{Approvals: 1, Groups: []string{group}}
}

func TestStagesFollowOneAnother(t *testing.T) {
	m := newMount(t)
	m.in("security", "erin")
	m.role("admin", staged(domain.Stage{AllOf: []domain.Threshold{by("leads")}}, domain.Stage{AllOf: []domain.Threshold{by("security")}}), nil)
	req := m.pending("alice", "admin")

	if err := m.decide("erin", req, domain.Approve); err == nil {
		t.Fatal("the second stage decided before the first")
	}
	if page, err := m.a.Inbox(t.Context(), who("erin"), "", 0); err != nil || len(page.Keys) != 0 {
		t.Fatalf("the inbox of the second stage: %v, %v", page.Keys, err)
	}
	m.must(m.decide("bob", req, domain.Approve))
	m.state(req, domain.Pending)
	if page, err := m.a.Inbox(t.Context(), who("erin"), "", 0); err != nil || len(page.Keys) != 1 {
		t.Fatalf("the inbox after the first stage: %v, %v", page.Keys, err)
	}
	if err := m.decide("carol", req, domain.Approve); err == nil {
		t.Fatal("a second lead decided at the second stage")
	}
	m.crash()
	m.must(m.decide("erin", req, domain.Approve))
	m.works(m.issued("alice", "admin"), true)

	// Who left the first stage takes the grant's next credential away.
	m.people.change("bob", func(e *domain.Entity) { e.Groups = nil })
	_, err := m.creds("alice", "admin")
	m.refused(err, fault.CodeNotApprover)
}

func TestRulesAreExplained(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) {
		r.Require = []domain.Requirement{{Name: "ticket", When: `request.ticket.startsWith("OPS-")`, Message: "name an OPS ticket"}}
	}, nil)
	_, err := m.ask("alice", "admin", access.Ask{Ticket: "X-1"})
	f := m.refused(err, fault.CodePolicy)
	if !strings.Contains(f.Public, "require ticket: name an OPS ticket") {
		t.Fatal(f.Public)
	}
	s, err := m.ask("alice", "admin", access.Ask{Ticket: "OPS-1"})
	m.must(err)
	v, err := m.a.Approval(t.Context(), who("bob"), s.View.Request.ID)
	m.must(err)
	var got []string
	for _, r := range v.Rules {
		got = append(got, string(r.Status)+" "+r.Rule)
	}
	if !slices.Equal(got, []string{"unmet approvals", "met require ticket"}) {
		t.Fatal(got)
	}
}

func TestConditionsAreJudgedAgainAtCreds(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.DenyWhen = `"frozen" in requester.groups` }, nil)
	m.granted("alice", "admin")
	m.issued("alice", "admin")
	m.in("frozen", "alice")
	_, err := m.creds("alice", "admin")
	m.refused(err, fault.CodePolicy)
	_, err = m.ask("alice", "admin", access.Ask{TTL: new(domain.Seconds)})
	if err == nil {
		t.Fatal("filed against the rule")
	}
}

func TestBrokenConditionsAreRefusedAtWrite(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	_, err := m.edit("admin", access.LiveKeep, func(r *domain.Role) {
		r.DenyWhen = "request.nothing == 1"
		r.Require = []domain.Requirement{{Name: "x", When: "1 + 1"}, {Name: "y", When: "token.age < duration('1h')"}}
	})
	f := m.refused(err, fault.CodeInvalid)
	for _, want := range []string{"deny_when", "require.1.when", "require.2.when"} {
		if !strings.Contains(f.Public, want) {
			t.Errorf("%s is not named: %s", want, f.Public)
		}
	}
}

func TestAReadIsApprovedByRule(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) {
		r.RequireJustification, r.AutoApproveWhen = false, `"on-call" in requester.groups`
	}, nil)
	_, err := m.creds("alice", "admin")
	m.refused(err, fault.CodeNoGrant)
	m.in("on-call", "alice")
	first := m.issued("alice", "admin")
	if again := m.issued("alice", "admin"); again.Lease.Request != first.Lease.Request {
		t.Fatal("a second read filed a second request")
	}
	m.people.change("alice", func(e *domain.Entity) { e.Groups = e.Groups[:1] })
	_, err = m.creds("alice", "admin")
	m.refused(err, fault.CodeNotApprover)
}

func TestNobodyAnswers(t *testing.T) {
	m := newMount(t)
	m.role("admin", staged(domain.Stage{
		AllOf: []domain.Threshold{by("leads")}, Timeout: 1800, OnTimeout: domain.OnTimeoutApprove,
		OnCallWhen: `"on-call" in requester.groups`,
	}), nil)
	waits := m.pending("dave", "admin")
	m.in("on-call", "alice")
	passes := m.pending("alice", "admin")
	m.pass(29 * time.Minute)
	m.state(passes, domain.Pending)
	m.pass(2 * time.Minute)
	m.state(passes, domain.Active)
	m.state(waits, domain.Pending)
	if r := m.request(passes); r.ReviewOwed == "" {
		t.Fatal("no review is owed")
	}
	m.works(m.issued("alice", "admin"), true)
	m.pass(45 * time.Minute)
	m.works(m.issued("alice", "admin"), true)
}

func TestEscalation(t *testing.T) {
	m := newMount(t)
	m.in("directors", "erin")
	m.role("admin", staged(domain.Stage{AnyOf: []domain.Threshold{by("leads"), {Approvals: 1, Groups: []string{"directors"}, After: 3600}}}), nil)
	req := m.pending("alice", "admin")
	m.refused(m.decide("erin", req, domain.Approve), fault.CodeNotApprover)
	m.refused(m.decide("erin", req, domain.Deny), fault.CodeNotApprover)
	m.pass(time.Hour)
	entries := m.request(req).History.Entries
	if last := entries[len(entries)-1]; last.What != string(domain.EventEscalated) || !strings.Contains(last.Text, "group directors") {
		t.Fatalf("the last entry of the history: %+v", last)
	}
	m.must(m.decide("erin", req, domain.Approve))
	m.state(req, domain.Active)
}

func TestHoursBindReadsAndLeases(t *testing.T) {
	m := newMount(t) // a Monday, nine o'clock UTC
	m.role("admin", func(r *domain.Role) {
		r.AllowedWindows = []domain.Window{{From: "08:00", To: "09:30"}}
		r.MaxTTL, r.TTL = 48*3600, 48*3600
	}, nil)
	m.granted("alice", "admin")
	ans := m.issued("alice", "admin")
	if ans.TTL != 30*time.Minute {
		t.Fatalf("the lease goes on for %s, half an hour is left of the hours", ans.TTL)
	}
	m.pass(30 * time.Minute)
	m.works(ans, false)
	_, err := m.creds("alice", "admin")
	if f := m.refused(err, fault.CodeHours); !strings.Contains(f.Public, "it opens at 2026-03-03T08:00:00Z") {
		t.Fatal(f.Public)
	}
	m.pass(22*time.Hour + 31*time.Minute)
	m.works(m.issued("alice", "admin"), true)

	short := domain.Seconds(600)
	m.role("frozen", func(r *domain.Role) {
		r.FreezeWindows = []domain.Freeze{{From: start, Until: start.Add(240 * time.Hour), Reason: "release"}}
	}, nil)
	_, err = m.ask("dave", "frozen", access.Ask{TTL: &short})
	if f := m.refused(err, fault.CodeHours); !strings.Contains(f.Public, "frozen: release") {
		t.Fatal(f.Public)
	}
}

func TestEligibilityRunsOut(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) {
		r.EligibleUntil = map[string]time.Time{"engineers": start.Add(time.Hour)}
		r.TTL = 8 * 3600
	}, nil)
	m.granted("alice", "admin")
	ans := m.issued("alice", "admin")
	m.pass(time.Hour)
	_, err := m.creds("alice", "admin")
	m.refused(err, fault.CodeNotEligible)
	m.pass(2 * time.Minute)
	m.works(ans, false)
}

func TestObserve(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) {
		r.Enforce, r.ObserveUntil, r.RequireJustification = domain.EnforceObserve, start.Add(2*time.Hour), false
		r.DenyWhen, r.MaxTTL, r.TTL = "true", 8*3600, 8*3600
	}, nil)
	ans := m.issued("alice", "admin")
	if text, _ := ans.Data["pim_observed"].(string); !strings.HasPrefix(text, "would have been refused: ") {
		t.Fatalf("observed: %q", text)
	}
	m.pass(2 * time.Hour)
	_, err := m.creds("alice", "admin")
	m.refused(err, fault.CodePolicy)
	_, err = m.edit("admin", access.LiveKeep, func(r *domain.Role) { r.ObserveUntil = m.clk.Now().Add(91 * 24 * time.Hour) })
	m.refused(err, fault.CodeInvalid)
}

func TestExtend(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.MaxExtension = 5400 }, nil)
	req := m.granted("alice", "admin")
	end := m.request(req).WindowEnd
	more := func(name string, ttl domain.Seconds) error {
		_, err := m.a.Extend(t.Context(), who(name), req, access.ExtendAsk{TTL: ttl, Justification: "not done"})
		return err
	}
	m.refused(more("dave", 3600), fault.CodeInvalid)
	m.refused(more("alice", 5401), fault.CodeInvalid)
	m.must(more("alice", 3600))
	m.must(more("alice", 3600)) // the same ask
	m.refused(more("alice", 1800), fault.CodeBusy)
	if got := m.request(req).WindowEnd; !got.Equal(end) {
		t.Fatal("longer before anybody decided")
	}
	if page, err := m.a.Inbox(t.Context(), who("carol"), "", 0); err != nil || len(page.Keys) != 1 {
		t.Fatalf("the inbox: %v, %v", page.Keys, err)
	}
	m.refused(m.decide("alice", req, domain.Approve), fault.CodeInvalid) // as unknown
	_, err := m.a.Decide(t.Context(), who("carol"), req, access.Decision{Verdict: domain.Approve, Digest: m.request(req).Digest})
	m.refused(err, fault.CodeDigest)
	m.crash()
	m.must(m.decide("carol", req, domain.Approve))
	if _, err := m.a.Request(t.Context(), who("carol"), req); err != nil {
		t.Fatalf("who decided on more time cannot read what came of it: %v", err)
	}
	if got := m.request(req).WindowEnd; !got.Equal(end.Add(time.Hour)) {
		t.Fatalf("the window ends at %s", got)
	}
	m.refused(more("alice", 3600), fault.CodeInvalid) // beyond the cap

	// In the longer part of the window it takes the approver of that part.
	m.pass(61 * time.Minute)
	m.works(m.issued("alice", "admin"), true)
	m.people.change("carol", func(e *domain.Entity) { e.Disabled = true })
	_, err = m.creds("alice", "admin")
	m.refused(err, fault.CodeNotApprover)
	m.pass(time.Hour)
	m.state(req, domain.Ended)
}

func TestExtensionThatIsDenied(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.MaxExtension = 7200 }, nil)
	req := m.granted("alice", "admin")
	end := m.request(req).WindowEnd
	_, err := m.a.Extend(t.Context(), who("alice"), req, access.ExtendAsk{TTL: 3600, Justification: "not done"})
	m.must(err)
	m.must(m.decide("bob", req, domain.Deny))
	m.state(req, domain.Active)
	m.works(m.issued("alice", "admin"), true)
	if got := m.request(req).WindowEnd; !got.Equal(end) {
		t.Fatalf("the window ends at %s", got)
	}
	if page, err := m.a.Inbox(t.Context(), who("carol"), "", 0); err != nil || len(page.Keys) != 0 {
		t.Fatalf("the inbox: %v, %v", page.Keys, err)
	}
}

func TestSimulate(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.Approvals = 2 }, nil)
	supposed := func(names ...string) []access.SupposedDecision {
		var out []access.SupposedDecision
		for _, n := range names {
			out = append(out, access.SupposedDecision{Entity: id(n), Verdict: domain.Approve})
		}
		return out
	}
	rows := []struct {
		name  string
		ask   access.SimulateAsk
		state domain.RequestState
		met   bool
	}{
		{"nobody decides", access.SimulateAsk{Entity: id("alice")}, domain.Pending, false},
		{"one of two", access.SimulateAsk{Entity: id("alice"), Decisions: supposed("bob")}, domain.Pending, false},
		{"two", access.SimulateAsk{Entity: id("alice"), Decisions: supposed("bob", "carol")}, domain.Active, true},
		{"one of them is the requester", access.SimulateAsk{Entity: id("alice"), Decisions: supposed("bob", "alice")}, domain.Pending, false},
		{"one of them is no approver", access.SimulateAsk{Entity: id("alice"), Decisions: supposed("bob", "dave")}, domain.Pending, false},
		{"who asks is not eligible", access.SimulateAsk{Entity: id("bob"), Decisions: supposed("carol")}, "", false},
		{"under an edit that asks for one", access.SimulateAsk{
			Entity: id("alice"), Decisions: supposed("bob"),
			Change: &access.RoleEdit{Core: func(r *domain.Role) { r.Approvals = 1 }},
		}, domain.Active, true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			row.ask.Justification = "what if"
			s, err := m.a.Simulate(t.Context(), "admin", row.ask)
			if err != nil {
				t.Fatal(err)
			}
			if s.State != row.state || s.Outcome.Met != row.met || s.Digest == "" {
				t.Fatalf("%q, met %v: %+v %v", s.State, s.Outcome.Met, s.Outcome.Rules, s.Problems)
			}
		})
	}
	if keys := m.disk.keys("req/"); len(keys) != 0 {
		t.Fatalf("a simulation wrote %v", keys)
	}

	first := m.pending("alice", "admin")
	m.must(m.decide("bob", first, domain.Approve))
	s, err := m.a.Simulate(t.Context(), "admin", access.SimulateAsk{Against: 100, Change: &access.RoleEdit{Core: func(r *domain.Role) { r.Approvals = 1 }}})
	m.must(err)
	if s.Looked != 1 || len(s.Differ) != 1 || s.Differ[0].Request != first || s.Differ[0].Was != "waits" || s.Differ[0].Would != "approved" {
		t.Fatalf("%d looked at: %+v", s.Looked, s.Differ)
	}
}

func TestSeries(t *testing.T) {
	m := newMount(t)
	m.role("deploy", func(r *domain.Role) {
		r.SeriesMax, r.SeriesWithin, r.TTL, r.MaxCredentials = 3, 48*3600, 600, 32
		r.Params = map[string]domain.Param{"app": {Allowed: []string{"web", "api", "db"}, Required: true}}
	}, nil)
	each := []map[string]string{{"app": "web"}, {"app": "api"}}
	file := func(s access.SeriesAsk) (access.Submitted, error) {
		return m.ask("alice", "deploy", access.Ask{Series: &s})
	}
	read := func(app string) (*access.Answer, error) {
		return m.a.Creds(t.Context(), who("alice"), "deploy", access.CredsAsk{Ask: access.Ask{Params: map[string]string{"app": app}}})
	}
	for name, bad := range map[string]access.SeriesAsk{
		"more than the role takes":      {Count: 4, Each: each},
		"none":                          {Each: each},
		"parameters nobody may ask for": {Count: 2, Each: []map[string]string{{"app": "root"}}},
		"no parameters":                 {Count: 2},
	} {
		if _, err := file(bad); err == nil {
			t.Errorf("%s: filed", name)
		}
	}
	s, err := file(access.SeriesAsk{Count: 3, Each: each})
	m.must(err)
	again, err := file(access.SeriesAsk{Count: 3, Each: each})
	m.must(err)
	if !again.Existing {
		t.Fatal("the same series was filed twice")
	}
	v, err := m.a.Approval(t.Context(), who("bob"), s.View.Request.ID)
	m.must(err)
	if !slices.Equal(v.Runs, []string{"app=web", "app=api"}) {
		t.Fatalf("an approver sees %v", v.Runs)
	}
	m.must(m.decide("bob", s.View.Request.ID, domain.Approve))

	first, err := read("web")
	m.must(err)
	if first.TTL != 10*time.Minute {
		t.Fatalf("a run lasts %s", first.TTL)
	}
	_, err = read("db")
	m.refused(err, fault.CodeNoGrant) // no grant covers it
	m.pass(20 * time.Minute)
	m.works(first, false)
	for _, app := range []string{"api", "web"} {
		ans, err := read(app)
		m.must(err)
		m.works(ans, true)
	}
	_, err = read("web")
	m.refused(err, fault.CodeLimit)
	m.pass(48 * time.Hour)
	m.state(s.View.Request.ID, domain.Ended)
}

func TestDecideOnMany(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	m.role("reader", nil, nil)
	one, two, own := m.pending("alice", "admin"), m.pending("dave", "reader"), m.pending("alice", "reader")
	digests := map[domain.RequestID]string{one: m.request(one).Digest, two: "not what was read", own: m.request(own).Digest}
	d := access.BulkDecision{Decision: access.Decision{Verdict: domain.Approve}, Digests: digests}
	done, err := m.a.DecideMany(t.Context(), who("bob"), d, []domain.RequestID{one, two, own})
	m.must(err)
	if len(done) != 3 || done[0].Problem != nil || done[1].Problem == nil || done[2].Problem != nil {
		t.Fatalf("%+v", done)
	}
	m.state(one, domain.Active)
	m.state(two, domain.Pending)
	m.state(own, domain.Active)
}
