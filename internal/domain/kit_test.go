package domain

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// t0 is when the stories of these tests begin.
var t0 = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// at is a moment of a story.
func at(after string) time.Time {
	d, err := time.ParseDuration(after)
	if err != nil {
		panic(err)
	}
	return t0.Add(d)
}

func id(n int) string { return fmt.Sprintf("01jnb%021d", n) }

func uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func party(name string) Party {
	e := entity(name)
	return Party{Entity: e.ID, Person: Person("email:" + name + "@example.com"), Name: name}
}

// entity is a person with a userpass login, in the groups named.
func entity(name string, groups ...string) Entity {
	e := Entity{
		ID: uuid(int(name[0])), Name: name,
		Metadata: map[string]string{"email": name + "@example.com"},
		Aliases:  []Alias{{MountAccessor: "auth_userpass_1", MountType: "userpass", Name: name}},
	}
	for _, g := range groups {
		e.Groups = append(e.Groups, Group{ID: "id-of-" + g, Name: g})
	}
	return e
}

func testRole() Role {
	return Role{
		Name: "prod-admin", Incarnation: "incarnation-1", Target: "prod",
		EligibleGroups: []string{"engineers"}, Approvals: 1, ApproverGroups: []string{"leads"},
		TTL: 3600, MaxTTL: 8 * 3600, RequestTTL: 24 * 3600, MinTTL: 60, Start: StartApproval,
		MaxActive: 1, MaxCredentials: 10, RequireJustification: true,
	}
}

// asked is what alice asks for, one hour of prod-admin, before it is filed.
func asked() Request {
	return Request{
		ID: RequestID(id(1)), Role: "prod-admin", RoleRevision: "r1", Target: "prod", TargetRevision: "t1",
		Requester: party("alice"), Justification: "deploy", TTL: 3600, Digest: "d1",
	}
}

func filed() Request { return File(asked(), 24*3600, t0) }

func met(ttl Seconds) Outcome { return Outcome{Met: true, Have: 1, Need: 1, TTL: ttl} }

// must applies an event that the rules allow.
func must(t *testing.T, r Request, ev Event, now time.Time) Request {
	t.Helper()
	next, err := r.Apply(ev, now)
	if err != nil {
		t.Fatalf("%s at %s: %v", ev.Kind, now, err)
	}
	return next
}

func active(t *testing.T) Request {
	t.Helper()
	return must(t, filed(), Event{Kind: Approved, By: party("bob"), Outcome: met(0)}, at("1h"))
}

// inState is a request in a stored state; its window is from 10:00 to 11:00.
func inState(t *testing.T, s RequestState) Request {
	t.Helper()
	r := filed()
	switch s {
	case Pending:
	case Scheduled:
		r.StartTime = at("2h")
		r = must(t, r, Event{Kind: Planned, Outcome: met(0)}, at("1h"))
	case Active:
		r = active(t)
	case Ended:
		r = must(t, active(t), Event{Kind: GivenBack}, at("1h"))
	case Denied:
		r = must(t, r, Event{Kind: Refused}, at("1h"))
	case Cancelled:
		r = must(t, r, Event{Kind: Withdrawn}, at("1h"))
	case Expired:
		r = must(t, r, Event{Kind: Lapsed}, at("24h"))
	case Revoked:
		r = must(t, r, Event{Kind: Killed}, at("1h"))
	case Void:
		r = must(t, r, Event{Kind: Voided}, at("1h"))
	default:
		t.Fatalf("no request in state %q", s)
	}
	if r.State != s {
		t.Fatalf("the request is %s, not %s", r.State, s)
	}
	return r
}

func wantMoveError(t *testing.T, err error) {
	t.Helper()
	var move *MoveError
	if !errors.As(err, &move) {
		t.Fatalf("got error %v, want a MoveError", err)
	}
	if move.State == "" || move.Event == "" || !strings.Contains(err.Error(), move.Event) {
		t.Fatalf("the error does not say what was refused: %q", err)
	}
}

func testHandle(n int) Handle {
	return Handle{
		Provider: "fake", V: 1, Target: "prod", Place: "place-1", Credential: CredentialID(id(n)),
		Data: []byte(`{"user":"pim-1"}`),
	}
}

func planned(n int) Credential {
	return Credential{
		ID: CredentialID(id(n)), Handle: testHandle(n), Boot: "boot-1", Call: "call-1",
		Expires: at("2h"), Until: at("2h"),
	}
}

func mustCredential(t *testing.T, r Request, n int, now time.Time, events ...CredentialEvent) Request {
	t.Helper()
	for _, ev := range events {
		next, err := r.ApplyCredential(CredentialID(id(n)), ev, "test", now)
		if err != nil {
			t.Fatalf("%s: %v", ev, err)
		}
		r = next
	}
	return r
}

func credential(t *testing.T, r Request, n int) Credential {
	t.Helper()
	c, ok := r.Credential(CredentialID(id(n)))
	if !ok {
		t.Fatalf("the request has no credential %d", n)
	}
	return c
}

func allRequestEvents() []RequestEvent {
	return []RequestEvent{
		Approved, Planned, Started, Refused, Withdrawn, Lapsed, WindowOver, GivenBack, Killed, Voided,
	}
}

func allCredentialEvents() []CredentialEvent {
	return []CredentialEvent{CredIssued, CredFailed, CredEndAsked, CredAccessOff, CredConfirmed}
}

// factsOf are the facts of alice's request an hour after she filed it.
func factsOf(requesterNow Person, standings []Standing) Facts {
	return Facts{Requester: party("alice"), RequesterNow: requesterNow, Standings: standings, Asked: t0, Now: at("1h"), TTL: 3600}
}
