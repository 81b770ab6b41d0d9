package domain

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// The table that the design promises, written down a second time.
func TestEveryRequestStateAndEvent(t *testing.T) {
	want := map[RequestState]map[RequestEvent]RequestState{
		Pending: {
			Approved: Active, Planned: Scheduled, Refused: Denied, Withdrawn: Cancelled,
			Lapsed: Expired, Killed: Revoked, Voided: Void,
		},
		Scheduled: {Started: Active, Withdrawn: Cancelled, Lapsed: Expired, Killed: Revoked, Voided: Void},
		Active:    {WindowOver: Ended, GivenBack: Ended, Killed: Revoked},
	}
	moves := RequestMoves()
	for _, s := range RequestStates() {
		for _, ev := range allRequestEvents() {
			t.Run(string(s)+" and "+string(ev), func(t *testing.T) {
				if moves[s][ev] != want[s][ev] {
					t.Fatalf("the table leads to %q, want %q", moves[s][ev], want[s][ev])
				}
				r := inState(t, s)
				now := timeFor(&r, ev)
				next, err := r.Apply(Event{Kind: ev, By: party("bob"), Outcome: met(0), Reason: "why"}, now)
				if want[s][ev] == "" {
					wantMoveError(t, err)
					if next.State != s || next.Rev != r.Rev {
						t.Fatal("a refused event changed the request")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if next.State != want[s][ev] || !next.History.Intact() || next.Rev <= r.Rev {
					t.Fatalf("state %s, rev %d after %d, intact %v", next.State, next.Rev, r.Rev, next.History.Intact())
				}
				last := next.History.Entries[len(next.History.Entries)-1]
				if last.What != string(ev) || last.Text == "" || last.Text == string(ev) || last.By != "bob" {
					t.Fatalf("the history does not tell the event: %+v", last)
				}
				if closed := !next.Times.Closed.IsZero(); closed != next.State.Terminal() {
					t.Fatalf("closed %v in state %s", closed, next.State)
				}
			})
		}
	}
}

// timeFor is a moment at which the event is timely, as far as one exists.
func timeFor(r *Request, ev RequestEvent) time.Time {
	switch ev {
	case Planned:
		if r.State == Pending {
			r.StartTime = at("3h")
		}
	case Started:
		return at("2h")
	case Lapsed, WindowOver:
		return at("30h")
	case Approved, Refused, Withdrawn, GivenBack, Killed, Voided:
	}
	return at("90m")
}

func TestWhatTimeBrings(t *testing.T) {
	firstRead := func(t *testing.T) Request {
		t.Helper()
		r := filed()
		r.FirstRead, r.ClaimWithin = true, 7200
		return must(t, r, Event{Kind: Planned, Outcome: met(0)}, at("1h"))
	}
	stored := func(s RequestState) func(*testing.T) Request {
		return func(t *testing.T) Request { t.Helper(); return inState(t, s) }
	}
	rows := []struct {
		name string
		make func(*testing.T) Request
		when string
		want RequestState
	}{
		{"a pending request is pending to the last moment", stored(Pending), "23h59m59s", Pending},
		{"a pending request expires when nobody decided in time", stored(Pending), "24h", Expired},
		{"a scheduled request waits for its start", stored(Scheduled), "1h59m59s", Scheduled},
		{"a scheduled request becomes active at its start", stored(Scheduled), "2h", Active},
		{"a scheduled request is active to the end of its window", stored(Scheduled), "2h59m59s", Active},
		{"a scheduled request that nobody started expires with its window", stored(Scheduled), "3h", Expired},
		{"a request that waits for its first read is scheduled", firstRead, "2h59m", Scheduled},
		{"a request that nobody claimed in time expires", firstRead, "3h", Expired},
		{"an active request is active to the last moment", stored(Active), "1h59m59s", Active},
		{"an active request ends with its window", stored(Active), "2h", Ended},
		{"an ended request stays ended", stored(Ended), "999h", Ended},
		{"a denied request stays denied", stored(Denied), "999h", Denied},
		{"a cancelled request stays cancelled", stored(Cancelled), "999h", Cancelled},
		{"an expired request stays expired", stored(Expired), "999h", Expired},
		{"a revoked request stays revoked", stored(Revoked), "999h", Revoked},
		{"a void request stays void", stored(Void), "999h", Void},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r, now := row.make(t), at(row.when)
			before := r.Rev
			if got := r.At(now); got != row.want {
				t.Fatalf("seen as %s, want %s", got, row.want)
			}
			if r.Open(now) == row.want.Terminal() {
				t.Fatalf("open is %v in %s", r.Open(now), row.want)
			}
			if r.Rev != before {
				t.Fatal("looking changed the request")
			}
			if ev, due := r.Due(now); due {
				if r = must(t, r, Event{Kind: ev}, now); r.State != row.want {
					t.Fatalf("applying %s leads to %s, seen was %s", ev, r.State, row.want)
				}
			}
		})
	}
}

func TestWhatIsNotTimelyIsRefused(t *testing.T) {
	later := func(r Request) Request { r.StartTime = at("5h"); return r }
	rows := []struct {
		name string
		r    Request
		ev   RequestEvent
		when string
	}{
		{"an approval after the request lapsed", filed(), Approved, "24h"},
		{"a plan after the request lapsed", later(filed()), Planned, "24h"},
		{"immediate access before the asked start", later(filed()), Approved, "1h"},
		{"a plan without a start time", filed(), Planned, "1h"},
		{"a lapse before the time", filed(), Lapsed, "1h"},
		{"a start before the start time", inState(t, Scheduled), Started, "1h30m"},
		{"a start after the window", inState(t, Scheduled), Started, "3h"},
		{"a lapse while the window runs", inState(t, Scheduled), Lapsed, "2h"},
		{"a window end before the time", active(t), WindowOver, "1h30m"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			next, err := row.r.Apply(Event{Kind: row.ev, Outcome: met(0)}, at(row.when))
			wantMoveError(t, err)
			if next.State != row.r.State || next.Rev != row.r.Rev {
				t.Fatal("a refused event changed the request")
			}
		})
	}
}

func TestAccessNeedsAQuorum(t *testing.T) {
	for _, ev := range []RequestEvent{Approved, Planned} {
		r := filed()
		if ev == Planned {
			r.StartTime = at("5h")
		}
		next, err := r.Apply(Event{Kind: ev, Outcome: Outcome{Have: 1, Need: 2}}, at("1h"))
		if !errors.Is(err, ErrNoQuorum) || next.State != Pending {
			t.Fatalf("%s without a quorum: state %s, error %v", ev, next.State, err)
		}
	}
}

func TestAccessWindow(t *testing.T) {
	rows := []struct {
		name       string
		start, ttl string // asked start ("" = at once); shortened ttl
		when       string // approval
		from, to   string
		state      RequestState
	}{
		{"opens at the approval for the asked time", "", "0s", "1h", "1h", "2h", Active},
		{"is shortened by an approver", "", "10m", "1h", "1h", "1h10m", Active},
		{"is never lengthened by an approver", "", "8h", "1h", "1h", "2h", Active},
		{"opens at the asked start", "3h", "0s", "1h", "3h", "4h", Scheduled},
		{"opens late and ends as asked when the approval is late", "1h", "0s", "1h30m", "1h30m", "2h", Active},
		{"is over when a late approval shortened it to the past", "1h", "10m", "1h30m", "1h10m", "1h10m", Active},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r, now := filed(), at(row.when)
			if row.start != "" {
				r.StartTime = at(row.start)
			}
			short, err := time.ParseDuration(row.ttl)
			if err != nil {
				t.Fatal(err)
			}
			r = must(t, r, r.Grant(met(Seconds(short/time.Second)), now), now)
			if r.State != row.state || !r.WindowStart.Equal(at(row.from)) || !r.WindowEnd.Equal(at(row.to)) {
				t.Fatalf("%s from %s to %s", r.State, r.WindowStart, r.WindowEnd)
			}
			if !r.Times.Quorum.Equal(now) {
				t.Fatalf("quorum at %s, want %s", r.Times.Quorum, now)
			}
		})
	}
}

func TestWindowThatStartsAtTheFirstRead(t *testing.T) {
	r := filed()
	r.FirstRead, r.ClaimWithin = true, 7200
	r = must(t, r, r.Grant(met(0), at("1h")), at("1h"))
	if r.State != Scheduled || !r.ExpiresAt.Equal(at("3h")) || !r.WindowEnd.IsZero() {
		t.Fatalf("%s, claim until %s, window end %s", r.State, r.ExpiresAt, r.WindowEnd)
	}
	r = must(t, r, Event{Kind: Started}, at("2h30m"))
	if r.State != Active || !r.WindowStart.Equal(at("2h30m")) || !r.WindowEnd.Equal(at("3h30m")) {
		t.Fatalf("%s from %s to %s", r.State, r.WindowStart, r.WindowEnd)
	}
}

func TestFiledRequest(t *testing.T) {
	r := filed()
	if r.State != Pending || r.Kind != KindNormal || !r.ExpiresAt.Equal(at("24h")) || !r.Times.Requested.Equal(t0) {
		t.Fatalf("filed as %+v", r)
	}
	if r.Rev != 1 || len(r.History.Entries) != 1 || !r.History.Intact() {
		t.Fatalf("history %+v", r.History)
	}
	early := asked()
	early.StartTime = at("30m")
	if got := File(early, 24*3600, t0).ExpiresAt; !got.Equal(at("1h30m")) {
		t.Fatalf("expires at %s: nobody can grant a window that is over", got)
	}
}

func TestDecide(t *testing.T) {
	yes := func(name string) Decision { return Decision{By: party(name), Verdict: Approve, Digest: "d1"} }
	sameEntity, samePerson := yes("bob"), yes("carol")
	sameEntity.By.Person = "email:other@example.com"
	samePerson.By.Person = party("bob").Person
	ownEntity, ownPerson := yes("alice"), yes("carol")
	ownEntity.By.Person = "email:other@example.com"
	ownPerson.By.Person = party("alice").Person
	decided, err := filed().Decide(yes("bob"), at("1h"))
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name string
		r    Request
		d    Decision
		when string
		want error
	}{
		{"another person decides", filed(), yes("bob"), "1h", nil},
		{"a second person decides", decided, yes("carol"), "1h", nil},
		{"nobody decides on their own request", filed(), yes("alice"), "1h", ErrOwnRequest},
		{"nor through another login of the same entity", filed(), ownEntity, "1h", ErrOwnRequest},
		{"nor through another entity of the same person", filed(), ownPerson, "1h", ErrOwnRequest},
		{"nobody decides twice", decided, yes("bob"), "1h", ErrAlreadyDecided},
		{"nor as the same entity with another person value", decided, sameEntity, "1h", ErrAlreadyDecided},
		{"nor as another entity of the same person", decided, samePerson, "1h", ErrAlreadyDecided},
		{"nobody decides on a lapsed request", filed(), yes("bob"), "24h", ErrNotPending},
		{"nobody decides on an active request", active(t), yes("carol"), "90m", ErrNotPending},
		{"nobody decides on a cancelled request", inState(t, Cancelled), yes("bob"), "90m", ErrNotPending},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			next, err := row.r.Decide(row.d, at(row.when))
			if !errors.Is(err, row.want) {
				t.Fatalf("got %v, want %v", err, row.want)
			}
			if grew := len(next.Decisions) - len(row.r.Decisions); (grew == 1) != (row.want == nil) || grew > 1 {
				t.Fatalf("%d decisions were added", grew)
			}
		})
	}
}

func TestDecisionInHistoryAndTimes(t *testing.T) {
	rows := []struct {
		name    string
		verdict Verdict
		ttl     Seconds
		text    string
	}{
		{"an approval", Approve, 0, "approved"},
		{"a shortened approval", Approve, 600, "approved for at most 10m0s"},
		{"a denial", Deny, 0, "denied"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			d := Decision{By: party("bob"), Verdict: row.verdict, TTL: row.ttl, Comment: "not for the history"}
			r, err := filed().Decide(d, at("1h"))
			if err != nil {
				t.Fatal(err)
			}
			last := r.History.Entries[len(r.History.Entries)-1]
			if last.Text != row.text || last.What != string(row.verdict) || last.Who != party("bob").Entity {
				t.Fatalf("history says %+v", last)
			}
			again, err := r.Decide(Decision{By: party("carol"), Verdict: Approve}, at("2h"))
			if err != nil {
				t.Fatal(err)
			}
			if !again.Times.FirstDecision.Equal(at("1h")) || !again.Decisions[1].At.Equal(at("2h")) {
				t.Fatalf("first decision %s, second at %s", again.Times.FirstDecision, again.Decisions[1].At)
			}
			if len(r.Decisions) != 1 {
				t.Fatal("the earlier value changed")
			}
		})
	}
}

func TestNamesInHistoryShowWhatTheyHide(t *testing.T) {
	ask := asked()
	ask.Requester.Name = "alice\u202egnp"
	if by := File(ask, 60, t0).History.Entries[0].By; strings.ContainsRune(by, '\u202e') {
		t.Fatalf("the history shows %q", by)
	}
}

func TestEndAsksForTheEndOfCredentials(t *testing.T) {
	r := active(t)
	for n := 10; n <= 14; n++ {
		r = r.Plan(planned(n), at("61m"))
	}
	r = mustCredential(t, r, 11, at("62m"), CredIssued)
	r = mustCredential(t, r, 12, at("62m"), CredIssued, CredEndAsked, CredAccessOff)
	r = mustCredential(t, r, 13, at("62m"), CredIssued, CredEndAsked, CredConfirmed)
	r = mustCredential(t, r, 14, at("62m"), CredFailed)
	r, err := r.Edit(CredentialID(id(12)), func(c *Credential) { c.Due = at("9h") })
	if err != nil {
		t.Fatal(err)
	}
	before := r
	r = must(t, r, Event{Kind: Killed, Reason: "incident"}, at("63m"))
	rows := []struct {
		name  string
		n     int
		state CredentialState
		due   time.Time
	}{
		{"one that is being issued is undone", 10, CredUndoing, at("63m")},
		{"an active one is revoked", 11, CredRevoking, at("63m")},
		{"one whose access is gone keeps the time of its remainder", 12, CredEnded, at("9h")},
		{"one that is gone stays gone", 13, CredGone, time.Time{}},
		{"one that is being undone is looked at now", 14, CredUndoing, at("63m")},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if c := credential(t, r, row.n); c.State != row.state || !c.Due.Equal(row.due) {
				t.Fatalf("%s, due %s", c.State, c.Due)
			}
		})
	}
	if credential(t, before, 11).State != CredActive {
		t.Fatal("the earlier value changed")
	}
	if r.Reason != "incident" || r.Live() != 3 || r.Finished() {
		t.Fatalf("reason %q, %d live, finished %v", r.Reason, r.Live(), r.Finished())
	}
}

func TestFinished(t *testing.T) {
	r := inState(t, Ended)
	if !r.Finished() {
		t.Fatal("an ended request without credentials is not finished")
	}
	if active(t).Finished() {
		t.Fatal("an active request is finished")
	}
}
