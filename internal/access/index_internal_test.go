package access

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// stored is request number n of a mount that is a hour old, with one live
// credential where it is a grant.
func stored(n int, state domain.RequestState, role, target string) domain.Request {
	filed := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Millisecond)
	r := domain.Request{
		ID: domain.RequestID(fmt.Sprintf("0%025d", n)), Role: role, Target: target, State: state, Rev: 1,
		RoleRevision: "revision of " + role, TargetRevision: "revision of " + target,
		Requester: domain.Party{Entity: fmt.Sprint("entity-", n%8), Person: domain.Person(fmt.Sprint("person-", n%8)), Name: "alice"},
		TTL:       3600, ExpiresAt: filed.Add(24 * time.Hour), WindowEnd: filed.Add(time.Hour), Times: domain.Times{Requested: filed},
	}
	if state == domain.Active {
		r.Credentials = []domain.Credential{{ID: "c", State: domain.CredActive, Expires: r.WindowEnd}}
	}
	return r
}

func anIndex() *index {
	return newIndex("boot", func(domain.Handle) time.Time { return time.Time{} })
}

// The ordered set is what a sorted list is, whatever is added and removed.
func TestOrderedIsSorted(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var set ordered
	want := map[domain.RequestID]bool{}
	for step := range 20_000 {
		id := domain.RequestID(fmt.Sprintf("%06d", rng.IntN(5_000)))
		if step < 3_000 { // the usual way: the newest comes last
			id = domain.RequestID(fmt.Sprintf("%06d", 5_000+step))
		}
		if rng.IntN(3) == 0 {
			set.remove(id)
			delete(want, id)
			continue
		}
		set.add(&row{id: id})
		want[id] = true
	}
	all := slices.Sorted(maps.Keys(want))
	for _, after := range []domain.RequestID{"", "000000", "002500", "005000", "007999", "9"} {
		var got []domain.RequestID
		set.after(after, func(w *row) bool { got = append(got, w.id); return true })
		from, found := slices.BinarySearch(all, after)
		if found {
			from++
		}
		if !slices.Equal(got, all[from:]) {
			t.Errorf("after %q: %d rows, want %d", after, len(got), len(all[from:]))
		}
	}
	for _, id := range all {
		set.remove(id)
	}
	if !set.empty() {
		t.Errorf("%d chunks are left when everything was removed", len(set.chunks))
	}
}

// What the index counts as it goes is what counting everything gives, after any
// sequence of writes, failed writes, unreadable records and removals.
func TestIndexCountsWhatThereIs(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	states := []domain.RequestState{domain.Pending, domain.Active, domain.Scheduled, domain.Ended, domain.Void}
	x, now := anIndex(), time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for range 20_000 {
		n := rng.IntN(300)
		r := stored(n, states[rng.IntN(len(states))], fmt.Sprint("role-", n%5), fmt.Sprint("target-", n%3))
		switch rng.IntN(8) {
		case 0:
			x.drop(r.ID)
		case 1:
			x.doubt(r, now)
		case 2:
			x.unread(r.ID, now)
		case 3:
			x.due(r.Target, now, 3)
		default:
			x.put(r, now)
		}
	}
	opened, live, pending, queued, bares := 0, map[string]int{}, map[string]int{}, 0, 0
	for _, w := range x.rows {
		if !w.known {
			bares++
		}
		if w.queue != nil {
			queued++
		}
		if w.state == "" {
			continue
		}
		if !w.state.Terminal() {
			opened++
		}
		live[w.target()] += int(w.live)
		if w.state == domain.Pending {
			pending[w.role()]++
		}
	}
	if x.bares != bares || bares == 0 {
		t.Errorf("of %d there is but the id, the index says %d", bares, x.bares)
	}
	if x.open() != opened {
		t.Errorf("%d are open, the index says %d", opened, x.open())
	}
	for n := range 3 {
		target := fmt.Sprint("target-", n)
		if x.liveAt(target) != live[target] || x.restAt(target) != live[target] {
			t.Errorf("%d are live at %s, the index says %d and %d", live[target], target, x.liveAt(target), x.restAt(target))
		}
	}
	for n := range 5 {
		role := fmt.Sprint("role-", n)
		rows := x.pendingOf([]waiting{{role: role}}, "", len(x.rows), func(*row) bool { return true })
		if len(rows) != pending[role] {
			t.Errorf("%d wait under %s, the index says %d", pending[role], role, len(rows))
		}
	}
	for _, q := range x.queues {
		queued -= q.Len()
	}
	if queued != 0 {
		t.Errorf("the queues hold %d rows fewer than say that they are queued", queued)
	}
}

// A page of the inbox follows on the one before it, over all roles.
func TestPagesOfPending(t *testing.T) {
	x, now := anIndex(), time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	for n := range 250 {
		x.put(stored(n, domain.Pending, fmt.Sprint("role-", n%7), "site"), now)
	}
	roles := x.pendingAt()
	var seen []domain.RequestID
	var after domain.RequestID
	for {
		page := x.pendingOf(roles, after, 100, func(w *row) bool { return w.person() != "person-3" })
		for i := range page {
			seen = append(seen, page[i].id)
		}
		if len(page) < 100 {
			break
		}
		after = page[len(page)-1].id
	}
	if want := 250 - 31; len(seen) != want || !slices.IsSorted(seen) {
		t.Errorf("%d requests in order %v, want %d in order", len(seen), slices.IsSorted(seen), want)
	}
}

// Each target is due by itself, soonest first, and one that is passed over does
// not say when to look next.
func TestDueByTarget(t *testing.T) {
	x, now := anIndex(), time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	for n := range 6 {
		x.put(stored(n, domain.Active, "role", fmt.Sprint("target-", n%2)), now)
	}
	if got := x.dueTargets(now); len(got) != 0 {
		t.Errorf("before their time %v are due", got)
	}
	later := now.Add(2 * time.Hour)
	if got := x.due("target-0", later, 2); len(got) != 2 || got[0] > got[1] {
		t.Errorf("the first two of target-0 are %v", got)
	}
	if got := len(x.due("target-1", later, 10)); got != 3 {
		t.Errorf("%d are due at target-1, want 3", got)
	}
	if got := x.dueTargets(later); !slices.Equal(got, []string{"target-0"}) {
		t.Errorf("then %v are due", got)
	}
	if at := x.next(func(target string) bool { return target == "target-0" }); !at.IsZero() {
		t.Errorf("with target-0 passed over, the next look is at %v, want none", at)
	}
	if at, want := x.next(func(string) bool { return false }), now.Add(time.Hour+4*time.Millisecond); !at.Equal(want) {
		t.Errorf("the next look is at %v, want %v", at, want)
	}
}

// An instant is never before the time that it was made of.
func TestInstant(t *testing.T) {
	for _, at := range []time.Time{
		{}, time.UnixMilli(1), time.Unix(1_700_000_000, 0), time.Unix(1_700_000_000, 1), time.Unix(1_700_000_000, 999_999),
	} {
		got := instantOf(at).time()
		if got.Before(at) || got.Sub(at) >= time.Millisecond || at.IsZero() != got.IsZero() {
			t.Errorf("%v became %v", at, got)
		}
	}
}
