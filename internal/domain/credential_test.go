package domain

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestEveryCredentialStateAndEvent(t *testing.T) {
	want := map[CredentialState]map[CredentialEvent]CredentialState{
		CredIssuing:  {CredIssued: CredActive, CredFailed: CredUndoing, CredEndAsked: CredUndoing},
		CredActive:   {CredEndAsked: CredRevoking},
		CredRevoking: {CredEndAsked: CredRevoking, CredAccessOff: CredEnded, CredConfirmed: CredGone},
		CredUndoing:  {CredEndAsked: CredUndoing, CredAccessOff: CredEnded, CredConfirmed: CredGone},
		CredEnded:    {CredAccessOff: CredEnded, CredConfirmed: CredGone, CredEndAsked: CredEnded},
		CredGone:     {},
	}
	moves := CredentialMoves()
	for _, s := range CredentialStates() {
		for _, ev := range allCredentialEvents() {
			t.Run(string(s)+" and "+string(ev), func(t *testing.T) {
				if moves[s][ev] != want[s][ev] {
					t.Fatalf("the table leads to %q, want %q", moves[s][ev], want[s][ev])
				}
				r := withCredential(t, s)
				next, err := r.ApplyCredential(CredentialID(id(10)), ev, "why", at("90m"))
				if want[s][ev] == "" {
					wantMoveError(t, err)
					if credential(t, next, 10).State != s || next.Rev != r.Rev {
						t.Fatal("a refused event changed the credential")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := credential(t, next, 10).State; got != want[s][ev] {
					t.Fatalf("leads to %s, want %s", got, want[s][ev])
				}
				grew := len(next.History.Entries) - len(r.History.Entries)
				if noted := s != want[s][ev]; (grew == 1) != noted || !next.History.Intact() {
					t.Fatalf("history grew by %d, intact %v", grew, next.History.Intact())
				}
			})
		}
	}
}

// withCredential is an active request with credential 10 in a state.
func withCredential(t *testing.T, s CredentialState) Request {
	t.Helper()
	r := active(t).Plan(planned(10), at("1h"))
	path := map[CredentialState][]CredentialEvent{
		CredIssuing: nil, CredActive: {CredIssued}, CredRevoking: {CredIssued, CredEndAsked}, CredUndoing: {CredFailed},
		CredEnded: {CredIssued, CredEndAsked, CredAccessOff}, CredGone: {CredIssued, CredEndAsked, CredConfirmed},
	}
	return mustCredential(t, r, 10, at("70m"), path[s]...)
}

func TestGoneOnlyThroughTheTargetsWord(t *testing.T) {
	for s, row := range CredentialMoves() {
		for ev, next := range row {
			if next == CredGone && ev != CredConfirmed {
				t.Errorf("%s and %s lead to gone", s, ev)
			}
		}
	}
	for _, s := range CredentialStates() {
		if ended := len(CredentialMoves()[s]) == 0; ended != (s == CredGone) {
			t.Errorf("%s is terminal: %v", s, ended)
		}
	}
}

func TestCredentialMoments(t *testing.T) {
	r := active(t).Plan(planned(10), at("60m"))
	c := credential(t, r, 10)
	if c.State != CredIssuing || !c.Planned.Equal(at("60m")) || r.Issued != 1 {
		t.Fatalf("planned as %+v, issued %d", c, r.Issued)
	}
	r = mustCredential(t, r, 10, at("61m"), CredIssued)
	r = mustCredential(t, r, 10, at("62m"), CredEndAsked)
	r = mustCredential(t, r, 10, at("63m"), CredAccessOff)
	r = mustCredential(t, r, 10, at("64m"), CredAccessOff)
	r = mustCredential(t, r, 10, at("65m"), CredEndAsked)
	r = mustCredential(t, r, 10, at("66m"), CredConfirmed)
	c = credential(t, r, 10)
	rows := []struct {
		name      string
		got, want time.Time
	}{
		{"first issue", r.Times.FirstIssue, at("61m")},
		{"revoke asked", r.Times.RevokeAsked, at("62m")},
		{"the target confirmed when the access ended, not when the remainder was cleared", r.Times.TargetConfirmed, at("63m")},
		{"access ended once", c.AccessAt, at("63m")},
		{"gone", c.GoneAt, at("66m")},
		{"nothing is due any more", c.Due, time.Time{}},
	}
	for _, row := range rows {
		if !row.got.Equal(row.want) {
			t.Errorf("%s: %s, want %s", row.name, row.got, row.want)
		}
	}
	if c.Why != "test" {
		t.Errorf("why is %q", c.Why)
	}
}

func TestGoneAtOnceEndsTheAccessToo(t *testing.T) {
	r := mustCredential(t, withCredential(t, CredRevoking), 10, at("80m"), CredConfirmed)
	if c := credential(t, r, 10); !c.AccessAt.Equal(at("80m")) || !r.Times.TargetConfirmed.Equal(at("80m")) {
		t.Fatalf("access ended at %s, target confirmed at %s", c.AccessAt, r.Times.TargetConfirmed)
	}
}

func TestAskingTheEndOfAnEndedOneKeepsItsTime(t *testing.T) {
	r := withCredential(t, CredEnded)
	r, err := r.Edit(CredentialID(id(10)), func(c *Credential) { c.Due = at("9h") })
	if err != nil {
		t.Fatal(err)
	}
	r = mustCredential(t, r, 10, at("80m"), CredEndAsked)
	if c := credential(t, r, 10); !c.Due.Equal(at("9h")) {
		t.Fatalf("the remainder is cleared at %s: a deny entry could go before what it denies", c.Due)
	}
}

func TestANewTryForgetsOldFailures(t *testing.T) {
	r := withCredential(t, CredRevoking)
	r, err := r.Edit(CredentialID(id(10)), func(c *Credential) { c.Attempts, c.Problem, c.Due = 7, "Timeout", at("5h") })
	if err != nil {
		t.Fatal(err)
	}
	r = mustCredential(t, r, 10, at("80m"), CredEndAsked)
	if c := credential(t, r, 10); c.Attempts != 0 || c.Problem != "" || !c.Due.Equal(at("80m")) {
		t.Fatalf("%d attempts, problem %q, due %s", c.Attempts, c.Problem, c.Due)
	}
}

func TestEditCannotChangeTheState(t *testing.T) {
	r := withCredential(t, CredActive)
	next, err := r.Edit(CredentialID(id(10)), func(c *Credential) { c.State, c.Expires = CredGone, at("3h") })
	if err != nil {
		t.Fatal(err)
	}
	if c := credential(t, next, 10); c.State != CredActive || !c.Expires.Equal(at("3h")) || next.Rev != r.Rev+1 {
		t.Fatalf("%s until %s, rev %d after %d", c.State, c.Expires, next.Rev, r.Rev)
	}
}

func TestEditsOfOneValueDoNotMeet(t *testing.T) {
	base := withCredential(t, CredActive)
	add := func(r Request, nonce string) Request {
		next, err := r.Edit(CredentialID(id(10)), func(c *Credential) { c.Nonces = append(c.Nonces, Nonce{ID: nonce}) })
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	base = add(add(add(base, "n1"), "n2"), "n3")
	left, right := add(base, "left"), add(base, "right")
	if l, r := credential(t, left, 10).Nonces, credential(t, right, 10).Nonces; l[3].ID != "left" || r[3].ID != "right" {
		t.Fatalf("%v and %v", l, r)
	}
}

func TestUnknownCredential(t *testing.T) {
	r := active(t)
	if _, err := r.ApplyCredential(CredentialID(id(99)), CredIssued, "", at("1h")); !errors.Is(err, ErrNoCredential) {
		t.Errorf("an event gives %v", err)
	}
	if _, err := r.Edit(CredentialID(id(99)), func(*Credential) {}); !errors.Is(err, ErrNoCredential) {
		t.Errorf("an edit gives %v", err)
	}
	if _, ok := r.Credential(CredentialID(id(99))); ok {
		t.Error("it was found")
	}
}

func TestARecordKeepsTheLastThatAreGone(t *testing.T) {
	r := active(t).Plan(planned(10), at("1h"))
	for n := 11; n < 11+keptGone+5; n++ {
		r = mustCredential(t, r.Plan(planned(n), at("1h")), n, at("1h"), CredIssued, CredEndAsked, CredConfirmed)
	}
	r = r.Plan(planned(99), at("1h"))
	if len(r.Credentials) != 1+keptGone+1 || r.Issued != keptGone+7 {
		t.Fatalf("%d kept of %d", len(r.Credentials), r.Issued)
	}
	ids := make([]CredentialID, 0, len(r.Credentials))
	for _, c := range r.Credentials {
		ids = append(ids, c.ID)
	}
	if !slices.IsSorted(ids) || ids[0] != CredentialID(id(10)) || ids[1] != CredentialID(id(16)) {
		t.Fatalf("kept %v", ids)
	}
}

func TestWhatMayExist(t *testing.T) {
	want := map[CredentialState]bool{
		CredIssuing: true, CredActive: true, CredRevoking: true, CredUndoing: true, CredEnded: false, CredGone: false,
	}
	for _, s := range CredentialStates() {
		if s.MayExist() != want[s] {
			t.Errorf("%s: may give access is %v", s, s.MayExist())
		}
	}
}
