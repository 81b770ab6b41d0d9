package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

var filedAt = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func newID(t *testing.T) string {
	t.Helper()
	id, err := domain.NewID(filedAt, rand.Reader)
	must(t, err)
	return id
}

// filed is a pending request with a history of that many entries.
func filed(t *testing.T, entries int) domain.Request {
	t.Helper()
	r := domain.File(domain.Request{
		ID: domain.RequestID(newID(t)), Role: "a", TTL: 3600, Requester: domain.Party{Entity: "e", Person: "p", Name: "alice"},
	}, 3600, filedAt)
	for len(r.History.Entries) < entries {
		r = r.Plan(domain.Credential{ID: domain.CredentialID(newID(t))}, filedAt)
		r.Credentials = nil
	}
	return r
}

func (st *Store) putRequest(ctx context.Context, r domain.Request) error {
	return st.WithRequest(r.ID, func(tx *RequestTx) error { return tx.Put(ctx, r) })
}

func closed(r domain.Request, state domain.RequestState) domain.Request {
	r.State = state
	return r
}

// Which record is the truth while an archiving is cut in two.
func TestWhichRecordIsTheTruth(t *testing.T) {
	ctx := t.Context()
	rows := []struct {
		name       string
		open, arch domain.RequestState // "" = no such record
		want       domain.RequestState
		wantOpen   bool
	}{
		{"neither", "", "", "", false},
		{"open", domain.Pending, "", domain.Pending, true},
		{"finished, not archived yet", domain.Denied, "", domain.Denied, true},
		{"archived, and the open record is still there", domain.Denied, domain.Cancelled, domain.Cancelled, true},
		{"archived", "", domain.Denied, domain.Denied, false},
		{"open, whatever an old copy says", domain.Active, domain.Denied, domain.Active, true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			st := New(newDisk())
			r := filed(t, 1)
			if row.open != "" {
				must(t, st.putRequest(ctx, closed(r, row.open)))
			}
			if row.arch != "" {
				must(t, st.WithRequest(r.ID, func(tx *RequestTx) error { return tx.Archive(ctx, closed(r, row.arch)) }))
			}
			got, err := st.Request(ctx, r.ID)
			must(t, err)
			if (got == nil) != (row.want == "") || got != nil && got.State != row.want {
				t.Errorf("the truth is %+v, want %q", got, row.want)
			}
			open, err := st.OpenRequest(ctx, r.ID)
			must(t, err)
			if (open != nil) != row.wantOpen {
				t.Errorf("open: %v", open)
			}
		})
	}
}

// Archiving is archive, then drop; each alone is safe, both twice are too.
func TestArchiveAndDrop(t *testing.T) {
	ctx := t.Context()
	st := New(newDisk())
	r := closed(filed(t, 3), domain.Denied)
	must(t, st.putRequest(ctx, r))
	for range 2 {
		must(t, st.WithRequest(r.ID, func(tx *RequestTx) error { return tx.Archive(ctx, r) }))
		ids, err := st.OpenIDs(ctx)
		must(t, err)
		if len(ids) != 1 {
			t.Fatalf("archived, and already dropped: %v", ids)
		}
	}
	for range 2 {
		must(t, st.WithRequest(r.ID, func(tx *RequestTx) error { return tx.Drop(ctx) }))
	}
	got, err := st.Request(ctx, r.ID)
	must(t, err)
	if got == nil || got.History.Head != r.History.Head {
		t.Fatalf("archived: %+v", got)
	}
	must(t, st.DropArchived(ctx, r.ID))
	if got, err = st.Request(ctx, r.ID); err != nil || got != nil {
		t.Errorf("after its retention: %+v, %v", got, err)
	}
}

// A request that outgrows a record gives up old history, never its end; what
// adds to it is refused before that.
func TestSizeOfARecord(t *testing.T) {
	ctx := t.Context()
	sized := func(t *testing.T, bytes int) domain.Request { // beyond its history
		t.Helper()
		r := filed(t, domain.MaxHistory)
		r.Reason = strings.Repeat("x", bytes)
		return r
	}
	history := len(fmt.Sprint(filed(t, domain.MaxHistory).History.Entries))
	rows := []struct {
		name  string
		bytes int
		put   bool // a write that ends something
		grow  bool // a write that adds something
		fold  bool // of the write that ends
	}{
		{"small", 1 << 10, true, true, false},
		{"half", MaxRecord / 2, true, true, false},
		{"nearly three quarters", MaxRecord/4*3 - 8<<10, true, true, false},
		{"more than three quarters", MaxRecord/4*3 + 1<<10, true, false, false},
		{"full but for the newest history", MaxRecord - 12<<10, true, false, true},
		{"too large in any case", MaxRecord + 1, false, false, true},
	}
	t.Logf("a full history has about %d bytes", history)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			st := New(newDisk())
			r := sized(t, row.bytes)
			err := st.WithRequest(r.ID, func(tx *RequestTx) error { return tx.Grow(ctx, r) })
			if (err == nil) != row.grow || err != nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("growing: %v", err)
			}
			err = st.putRequest(ctx, r)
			if (err == nil) != row.put || err != nil && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("ending: %v", err)
			}
			if !row.put {
				return
			}
			got, err := st.OpenRequest(ctx, r.ID)
			must(t, err)
			if !got.History.Intact() || got.History.Head != r.History.Head || got.Reason != r.Reason {
				t.Error("something else than old history was given up")
			}
			if folded := got.History.Folded > 0; folded != row.fold {
				t.Errorf("%d entries were folded, %d are left", got.History.Folded, len(got.History.Entries))
			}
		})
	}
}

// Lists are sorted, and cut to what follows at most so many.
func TestPage(t *testing.T) {
	keys := []string{"a", "b", "c", "d"}
	rows := []struct {
		after string
		limit int
		want  string
	}{
		{"", 0, "abcd"},
		{"", 2, "ab"},
		{"b", 0, "cd"},
		{"b", 1, "c"},
		{"bb", 1, "c"}, // a key that is gone meanwhile
		{"d", 0, ""},
		{"z", 5, ""},
		{"", 99, "abcd"},
	}
	for _, row := range rows {
		if got := strings.Join(Page(slices.Clone(keys), row.after, row.limit), ""); got != row.want {
			t.Errorf("after %q at most %d: %q, want %q", row.after, row.limit, got, row.want)
		}
	}
	ctx := t.Context()
	st := New(newDisk())
	for _, name := range []string{"c", "a", "b"} {
		must(t, st.WithRole(name, func(tx *RoleTx) error { return tx.Put(ctx, domain.Role{Name: name}) }))
	}
	for after, want := range map[string]string{"": "a b", "a": "b c", "c": ""} {
		got, err := st.Roles(ctx, after, 2)
		must(t, err)
		if s := strings.Join(got, " "); s != want {
			t.Errorf("roles after %q: %q", after, s)
		}
	}
}

// A record that says nothing is not kept.
func TestEmptyRecordsAreDeleted(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	st := New(d)
	entry := domain.PersonRecord{Person: "p", Entries: []domain.PersonEntry{{ID: "x", Role: "a"}}}
	for _, r := range []domain.PersonRecord{entry, {Person: "p"}, {Person: "p"}} {
		must(t, st.WithPerson("p", func(tx *PersonTx) error { return tx.Put(ctx, r) }))
	}
	for _, c := range []domain.Claim{
		{Key: "k", Holders: []domain.CredentialID{"c"}},
		{Key: "k", Releasing: "c"}, // nobody holds it, and that is not confirmed
	} {
		must(t, st.WithClaim("t", "k", func(tx *ClaimTx) error { return tx.Put(ctx, c) }))
		if len(d.data) != 1 {
			t.Fatalf("records: %d", len(d.data))
		}
	}
	must(t, st.WithClaim("t", "k", func(tx *ClaimTx) error { return tx.Put(ctx, domain.Claim{Key: "k"}) }))
	if len(d.data) != 0 {
		t.Errorf("%d records say nothing", len(d.data))
	}
}

// Persons and shared objects are not legible in keys, and none is another's.
func TestKeysTellNothing(t *testing.T) {
	seen := map[string]bool{}
	for _, key := range []string{
		keyPerson("alice@example.com"), keyPerson("bob@example.com"), keyClaim("t", "alice"), keyClaim("u", "alice"), keyClaim("t", "bob"),
	} {
		if strings.Contains(key, "alice") || strings.Contains(key, "example") || seen[key] {
			t.Errorf("key %s", key)
		}
		seen[key] = true
	}
}

// Root credentials are sealed where the host can, and go with their target.
func TestSecretsOfATarget(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	st := New(d)
	s := Secrets{Current: map[string]string{"password": "hunter2"}}
	must(t, st.WithTarget("a", func(tx *TargetTx) error { return tx.Put(ctx, domain.Target{Name: "a"}, &s) }))
	for key, raw := range d.data {
		sealed := slices.ContainsFunc(SealWrapped(), func(p string) bool { return strings.HasPrefix(key, p) })
		if strings.Contains(string(raw), "hunter2") != sealed {
			t.Errorf("%s: sealed %v, %s", key, sealed, raw)
		}
	}
	must(t, st.WithTarget("a", func(tx *TargetTx) error { return tx.Put(ctx, domain.Target{Name: "a", Place: "x"}, nil) }))
	got, err := st.Secrets(ctx, "a")
	must(t, err)
	if Reveal(got.Current)["password"].Reveal() != "hunter2" || Conceal(Reveal(got.Current))["password"] != "hunter2" {
		t.Error("a write without secrets lost them")
	}
	must(t, st.WithTarget("a", func(tx *TargetTx) error { return tx.Delete(ctx) }))
	if len(d.data) != 0 {
		t.Errorf("%d records outlive their target", len(d.data))
	}
}
