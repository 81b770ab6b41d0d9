package access_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

func (m *mount) extend(name string, req domain.RequestID, ttl domain.Seconds, why string) error {
	_, err := m.a.Extend(m.Context(), who(name), req, access.ExtendAsk{TTL: ttl, Justification: why})
	return err
}

// Silence approves only where there was silence: a grant that somebody approved
// does not live on by the timeout of its stage once they are gone.
func TestATimeoutDoesNotStandInForAnApproverWhoLeft(t *testing.T) {
	rows := []struct {
		name  string
		stage domain.Stage
	}{
		{"on call", domain.Stage{AllOf: []domain.Threshold{by("leads")}, Timeout: 600, OnTimeout: domain.OnTimeoutApprove, OnCallWhen: "true"}},
		{"a fallback that opened later", domain.Stage{
			AllOf:   []domain.Threshold{{Approvals: 2, Groups: []string{"leads"}}},
			Timeout: 600, OnTimeout: domain.OnTimeoutEscalate, Fallback: []domain.Threshold{by("leads")},
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			m.role("admin", staged(row.stage), nil)
			req := m.pending("alice", "admin")
			m.must(m.decide("bob", req, domain.Approve))
			if row.stage.OnTimeout == domain.OnTimeoutEscalate {
				m.must(m.decide("carol", req, domain.Approve))
			}
			m.state(req, domain.Active)
			m.works(m.issued("alice", "admin"), true)
			m.people.change("bob", func(e *domain.Entity) { e.Groups = nil })
			m.pass(11 * time.Minute)
			_, err := m.creds("alice", "admin")
			m.refused(err, fault.CodeNotApprover)
		})
	}
}

// An approval of more time is for the ask that was read, and no later one.
func TestAnExtensionIsApprovedOnceAlone(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.MaxExtension = 7200 }, nil)
	req := m.granted("alice", "admin")
	m.must(m.extend("alice", req, 1800, "incident 7"))
	read, err := m.a.Approval(t.Context(), who("carol"), req)
	m.must(err)
	m.must(m.decide("bob", req, domain.Deny))
	m.must(m.extend("alice", req, 1800, "never mind why"))
	_, err = m.a.Decide(t.Context(), who("carol"), req, access.Decision{Verdict: domain.Approve, Digest: read.Request.Digest})
	m.refused(err, fault.CodeDigest)
	m.must(m.decide("carol", req, domain.Approve))
}

// Before the first window is over, a credential lasts into the longer part only
// while the approver of that part still counts.
func TestACredentialDoesNotOutliveTheApproverOfMoreTime(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.MaxExtension = 7200 }, nil)
	req := m.granted("alice", "admin")
	m.must(m.extend("alice", req, 7200, "not done"))
	m.must(m.decide("carol", req, domain.Approve))
	m.people.change("carol", func(e *domain.Entity) { e.Disabled = true })
	m.pass(30 * time.Minute)
	if ans := m.issued("alice", "admin"); ans.TTL > 30*time.Minute {
		t.Fatalf("a lease of %s, half an hour is left of what still stands", ans.TTL)
	}
	if got := m.request(req).WindowEnd; !got.Equal(start.Add(3 * time.Hour)) {
		t.Fatalf("the window on record ends at %s", got)
	}
}

// What is only observed is over when the observing is.
func TestACredentialDoesNotOutliveObserving(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) {
		r.Enforce, r.ObserveUntil, r.RequireJustification = domain.EnforceObserve, start.Add(2*time.Hour), false
		r.DenyWhen, r.MaxTTL, r.TTL = "true", 8*3600, 8*3600
	}, nil)
	ans := m.issued("alice", "admin")
	if ans.TTL > 2*time.Hour {
		t.Fatalf("a lease of %s, the policy is observed for two hours", ans.TTL)
	}
}

// One request that does not exist any more stops no decision on the others.
func TestBulkGoesOnAfterAnUnknownRequest(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	req := m.pending("alice", "admin")
	unknown := domain.RequestID("00000000000000000000000000")
	done, err := m.a.DecideMany(t.Context(), who("bob"), access.BulkDecision{
		Decision: access.Decision{Verdict: domain.Approve},
		Digests:  map[domain.RequestID]string{req: m.request(req).Digest, unknown: strings.Repeat("0", 64)},
	}, []domain.RequestID{unknown, req})
	m.must(err)
	if len(done) != 2 || done[0].Problem == nil || done[1].State != domain.Active {
		t.Fatalf("%+v", done)
	}
}

// A hold stops what time alone would approve, until it is lifted.
func TestAHoldStopsATimeout(t *testing.T) {
	m := newMount(t)
	m.role("admin", staged(domain.Stage{
		AllOf: []domain.Threshold{by("leads")}, Timeout: 600, OnTimeout: domain.OnTimeoutApprove, OnCallWhen: "true",
	}), nil)
	req := m.pending("alice", "admin")
	h, err := m.a.SetHold(t.Context(), who("bob"), access.Kill{Kind: domain.HoldPerson, Value: id("alice"), Reason: "looked into"})
	m.must(err)
	m.pass(11 * time.Minute)
	m.state(req, domain.Pending)
	if r := m.request(req); !r.Reconsider.After(m.clk.Now()) {
		t.Fatal("it is looked at over and over while the hold lasts")
	}
	m.must(m.a.LiftHold(t.Context(), who("bob"), h.ID))
	m.pass(time.Minute)
	m.state(req, domain.Active)
}

// An emergency is not cut short because the ordinary hours end.
func TestHoursDoNotCutAnEmergency(t *testing.T) {
	m := newMount(t)
	emergencyWith(m, func(r *domain.Role) { r.AllowedWindows = []domain.Window{{From: "08:00", To: "09:30"}} })
	m.pass(29*time.Minute + 30*time.Second)
	if _, err := m.glass("alice", "INC-1"); err != nil {
		t.Fatal(err)
	}
	m.issued("alice", "admin")
}

// What is written under a live grant leaves room for its end.
func TestCommentsOnMoreTimeLeaveRoomForTheEnd(t *testing.T) {
	m := newMount(t)
	var leads []string
	for i := range 100 {
		name := fmt.Sprintf("lead%02d", i)
		m.people.add(person(name, "leads"))
		leads = append(leads, name)
	}
	m.role("admin", func(r *domain.Role) { r.MaxExtension, r.Approvals = 7200, 60 }, nil)
	long := strings.Repeat("é", domain.MaxComment/2)
	req := m.pending("alice", "admin")
	say := func(name string) error {
		v, err := m.a.Approval(t.Context(), who(name), req)
		if err != nil {
			return err
		}
		_, err = m.a.Decide(t.Context(), who(name), req, access.Decision{Verdict: domain.Approve, Comment: long, Digest: v.Request.Digest})
		return err
	}
	for _, name := range leads[:60] {
		m.must(say(name))
	}
	m.works(m.issued("alice", "admin"), true)
	m.must(m.extend("alice", req, 600, "not done"))
	var err error
	for _, name := range leads {
		if err = say(name); err != nil {
			break
		}
	}
	m.refused(err, fault.CodeLimit)
	m.must(onlyErr(m.a.Cancel(t.Context(), who("alice"), req)))
	m.state(req, domain.Ended)
}

// A simulation at another time judges conditions at that time.
func TestASimulationJudgesAtItsTime(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.DenyWhen = `now > timestamp("2026-03-02T12:00:00Z")` }, nil)
	s, err := m.a.Simulate(t.Context(), "admin", access.SimulateAsk{
		Entity: id("alice"), At: start.Add(10 * time.Hour), Ask: access.Ask{Justification: "what if"},
	})
	m.must(err)
	if !s.Outcome.Blocked {
		t.Fatalf("%+v", s.Outcome.Rules)
	}
}

// A simulation of what could never be used says so.
func TestASimulationKnowsTheHours(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) {
		r.FreezeWindows = []domain.Freeze{{From: start, Until: start.Add(240 * time.Hour), Reason: "release"}}
	}, nil)
	for at, want := range map[time.Duration]domain.RequestState{time.Hour: "", 241 * time.Hour: domain.Pending} {
		s, err := m.a.Simulate(t.Context(), "admin", access.SimulateAsk{
			Entity: id("alice"), At: start.Add(at), Ask: access.Ask{Justification: "what if"},
		})
		m.must(err)
		if s.State != want {
			t.Errorf("after %s: %q %v", at, s.State, s.Problems)
		}
	}
}

// A run of a series is found by what it names; what has a default need not be.
func TestARunLeavesOutWhatHasADefault(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) {
		r.SeriesMax, r.SeriesWithin = 4, 7200
		r.Params = map[string]domain.Param{
			"db":   {Pattern: "[a-z]+", Required: true},
			"mode": {Pattern: "[a-z]+", Default: "read"},
		}
	}, nil)
	s, err := m.ask("alice", "admin", access.Ask{Series: &access.SeriesAsk{Count: 2, Each: []map[string]string{{"db": "a"}, {"db": "b"}}}})
	m.must(err)
	m.must(m.decide("bob", s.View.Request.ID, domain.Approve))
	read := func(params map[string]string) error {
		_, err := m.a.Creds(t.Context(), who("alice"), "admin", access.CredsAsk{Ask: access.Ask{Params: params}})
		return err
	}
	m.must(read(map[string]string{"db": "b"}))
	m.refused(read(map[string]string{"db": "c"}), fault.CodeNoGrant)
	m.refused(read(map[string]string{"db": "b", "mode": "write"}), fault.CodeNoGrant)
}

// Who owes a review for too long gets no more time either.
func TestWhoOwesAReviewGetsNoMoreTime(t *testing.T) {
	m := newMount(t)
	long := domain.DefaultReviewDeadline + 3600
	emergencyWith(m, func(r *domain.Role) { r.MaxExtension, r.MaxTTL, r.TTL = 7200, long, long })
	rid := m.broken("alice", "INC-1")
	m.returned("alice", rid)
	req := m.granted("alice", "admin")
	m.clk.Advance(domain.DefaultReviewDeadline.Duration())
	m.tick()
	m.refused(m.extend("alice", req, 600, "not done"), fault.CodeReviewOwed)
}
