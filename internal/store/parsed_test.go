package store

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// What a record means is remembered, but the storage is asked each time, and
// what it says counts.
func TestParsedNeverStandsInForARead(t *testing.T) {
	d := newDisk()
	st, r := New(d), filed(t, 3)
	write := func(st *Store, r domain.Request) {
		t.Helper()
		if err := st.WithRequest(r.ID, func(tx *RequestTx) error { return tx.Put(t.Context(), r) }); err != nil {
			t.Fatal(err)
		}
	}
	read := func() *domain.Request {
		t.Helper()
		before := d.reads
		got, err := st.OpenRequest(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if d.reads != before+1 {
			t.Errorf("%d reads of the storage, want one", d.reads-before)
		}
		return got
	}
	write(st, r)
	first := read()
	first.Reason, first.State = "changed by who read it", domain.Void
	if again := read(); again.Reason != "" || again.State != r.State {
		t.Errorf("what one reader changed, the next one sees: %q, %s", again.Reason, again.State)
	}
	other := r
	other.Rev, other.Ticket = r.Rev+1, "OPS-2"
	write(New(d), other) // another process
	if got := read(); got.Ticket != "OPS-2" {
		t.Errorf("the record was written by another process, and this one still reads %q", got.Ticket)
	}
	d.data[keyRequest(r.ID)] = []byte("{}")
	if _, err := st.OpenRequest(t.Context(), r.ID); err == nil {
		t.Error("a record that is broken now is still read")
	}
	delete(d.data, keyRequest(r.ID))
	if got := read(); got != nil {
		t.Error("a record that is gone now is still read")
	}
	d.fail = true
	if _, err := st.OpenRequest(t.Context(), r.ID); err == nil {
		t.Error("the storage fails, and the record is still read")
	}
}

// A reader may change what it got of a person: nobody else sees that.
func TestPersonsAreTheReadersOwn(t *testing.T) {
	st := New(newDisk())
	want := domain.PersonRecord{
		Person: "alice", Entries: []domain.PersonEntry{{ID: "1", Role: "admin"}}, Usage: map[string]domain.Usage{"admin": {Count: 1}},
	}
	if err := st.WithPerson("alice", func(tx *PersonTx) error { return tx.Put(t.Context(), want) }); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the first one is parsed, the others are not
		got, err := st.Person(t.Context(), "alice")
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v (%v), want %+v", got, err, want)
		}
		got.Entries[0].Closed = domain.Denied
		got.Usage["admin"] = domain.Usage{}
		got.Usage["other"] = domain.Usage{}
	}
}

// What is remembered is bounded, and what was used last stays.
func TestParsedIsBounded(t *testing.T) {
	var p parsed
	raw := make([]byte, maxParsed/10)
	for n := range 50 {
		key := fmt.Sprint(n)
		p.keep(&meaning{key: key, raw: raw, v: &domain.Request{}})
		if p.size > maxParsed || len(p.byKey) != p.order.Len() || p.size != len(p.byKey)*len(raw) {
			t.Fatalf("after %d: %d bytes in %d records, listed %d", n, p.size, len(p.byKey), p.order.Len())
		}
		if p.of("0", raw) == nil {
			t.Fatalf("after %d, what was used last is forgotten", n)
		}
	}
	p.forget("0")
	if p.of("0", raw) != nil {
		t.Error("what was forgotten is remembered")
	}
	if p.clear(); p.of("49", raw) != nil || p.size != 0 {
		t.Error("something is left after all was dropped")
	}
	p.keep(&meaning{key: "1", raw: make([]byte, maxParsed+1), v: &domain.Request{}})
	if p.size != 0 {
		t.Error("one that is larger than the bound is kept")
	}
}

// What is on record after each move is what the request is then, however much of
// its text was taken over from the version before.
func TestEachVersionIsWrittenAsItIs(t *testing.T) {
	type move = func(domain.Request, domain.CredentialID, time.Time) (domain.Request, error)
	credential := func(ev domain.CredentialEvent) move {
		return func(r domain.Request, id domain.CredentialID, now time.Time) (domain.Request, error) {
			return r.ApplyCredential(id, ev, "because", now)
		}
	}
	moves := []move{
		credential(domain.CredIssued), credential(domain.CredFailed), credential(domain.CredEndAsked),
		credential(domain.CredAccessOff), credential(domain.CredConfirmed),
		func(r domain.Request, id domain.CredentialID, now time.Time) (domain.Request, error) {
			return r.Edit(id, func(c *domain.Credential) {
				c.Nonces, c.Attempts = append(c.Nonces, domain.Nonce{ID: "n", Until: now}), c.Attempts+1
			})
		},
		func(r domain.Request, id domain.CredentialID, _ time.Time) (domain.Request, error) {
			return r.Edit(id, func(c *domain.Credential) { c.Nonces, c.Problem = nil, "Timeout" })
		},
		func(r domain.Request, _ domain.CredentialID, now time.Time) (domain.Request, error) {
			return r.Apply(domain.Event{Kind: domain.Killed, Reason: "incident"}, now)
		},
	}
	rapid.Check(t, func(rt *rapid.T) {
		d := newDisk()
		st, r, now := New(d), filed(t, 1), filedAt
		r.State = domain.Active
		for range rapid.IntRange(1, 60).Draw(rt, "moves") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(rt, "ms")) * time.Millisecond)
			switch n := rapid.IntRange(-3, 20*len(moves)).Draw(rt, "move"); {
			case n < 0 || len(r.Credentials) == 0:
				r = r.Plan(domain.Credential{ID: domain.CredentialID(newID(t)), Boot: "b", Call: "c", Expires: now}, now)
			default:
				which := rapid.IntRange(0, len(r.Credentials)-1).Draw(rt, "of")
				if next, err := moves[n%len(moves)](r, r.Credentials[which].ID, now); err == nil {
					r = next
				}
			}
			if rapid.IntRange(0, 9).Draw(rt, "other") == 0 {
				must(t, New(d).putRequest(t.Context(), r)) // another process
			}
			must(t, st.putRequest(t.Context(), r))
			body, err := json.Marshal(r)
			must(t, err)
			if want := string(head) + string(body) + "}"; string(d.data[keyRequest(r.ID)]) != want {
				rt.Fatalf("on record is\n%s\nwant\n%s", d.data[keyRequest(r.ID)], want)
			}
		}
	})
}

func TestAChangeInPlaceIsFound(t *testing.T) {
	st := New(newDisk())
	st.Recheck()
	r := filed(t, 1).Plan(domain.Credential{ID: domain.CredentialID(newID(t))}, filedAt)
	must(t, st.putRequest(t.Context(), r))
	r.Credentials[0].Problem = "Timeout"
	if err := st.putRequest(t.Context(), r); err == nil {
		t.Error("a request was changed in place, and that goes unnoticed")
	}
}
