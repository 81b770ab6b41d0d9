package access

import (
	"context"
	"slices"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// ledgers are in memory on the writable node, so that asking whether somebody
// owes a review costs nothing. The ledger is written before the request that
// it names; an entry whose request was never written counts for nothing, and
// is dropped when it would matter.
type ledgers struct {
	store *store.Store

	mu     sync.Mutex
	loaded bool
	byRole map[string]domain.Ledger
	flying map[domain.RequestID]bool // noted, and their request is being written
}

func newLedgers(s *store.Store) *ledgers {
	return &ledgers{store: s, byRole: map[string]domain.Ledger{}, flying: map[domain.RequestID]bool{}}
}

// load reads the ledgers unless they are known. The caller holds mu.
func (l *ledgers) load(ctx context.Context) error {
	if l.loaded {
		return nil
	}
	list, err := l.store.Ledgers(ctx)
	if err != nil {
		return err
	}
	l.byRole = make(map[string]domain.Ledger, len(list))
	for _, x := range list {
		l.byRole[x.Role] = x
	}
	l.loaded = true
	return nil
}

// of is the ledger of a role as it is known. The result is shared: callers do
// not change it.
func (l *ledgers) of(ctx context.Context, role string) (domain.Ledger, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return domain.Ledger{}, err
	}
	if x, ok := l.byRole[role]; ok {
		return x, nil
	}
	return domain.Ledger{Role: role}, nil
}

// all are the ledgers of all roles, in order.
func (l *ledgers) all(ctx context.Context) ([]domain.Ledger, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return nil, err
	}
	out := make([]domain.Ledger, 0, len(l.byRole))
	for _, x := range l.byRole {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b domain.Ledger) int {
		if a.Role < b.Role {
			return -1
		}
		return 1
	})
	return out, nil
}

// change writes a role's ledger. f answers false to write nothing.
func (l *ledgers) change(ctx context.Context, role string, f func(domain.Ledger) (domain.Ledger, bool, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return err
	}
	cur, ok := l.byRole[role]
	if !ok {
		cur = domain.Ledger{Role: role}
	}
	cur.Uses = slices.Clone(cur.Uses)
	next, write, err := f(cur)
	if err != nil || !write {
		return err
	}
	if err := l.store.PutLedger(ctx, next); err != nil {
		l.loaded = false // it may have been written
		return err
	}
	l.byRole[role] = next
	return nil
}

// use changes one entry of a role's ledger, or drops it with nil.
func (l *ledgers) use(ctx context.Context, role string, id domain.RequestID, f func(domain.GlassUse) *domain.GlassUse) error {
	return l.change(ctx, role, func(x domain.Ledger) (domain.Ledger, bool, error) {
		i := slices.IndexFunc(x.Uses, func(u domain.GlassUse) bool { return u.ID == id })
		if i < 0 {
			return x, false, nil
		}
		next := f(x.Uses[i])
		if next == nil {
			x.Uses = slices.Delete(x.Uses, i, i+1)
			return x, true, nil
		}
		if *next == x.Uses[i] {
			return x, false, nil
		}
		x.Uses[i] = *next
		return x, true, nil
	})
}

func (l *ledgers) fly(id domain.RequestID) (land func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flying[id] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.flying, id)
	}
}

func (l *ledgers) flies(id domain.RequestID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flying[id]
}

// settleLedgers is settleLedger for all roles.
func (a *Access) settleLedgers(ctx context.Context) error {
	all, err := a.ledgers.all(ctx)
	if err != nil {
		return err
	}
	for _, l := range all {
		if err := a.settleLedger(ctx, l.Role); err != nil {
			return err
		}
	}
	return nil
}

// settleLedger compares a role's ledger with the requests that it names, which
// are the truth: what a crash or a failed write cut off is repaired.
func (a *Access) settleLedger(ctx context.Context, role string) error {
	l, err := a.ledgers.of(ctx, role)
	if err != nil {
		return err
	}
	for _, u := range l.Uses {
		if !u.Owed() && u.Heard {
			continue
		}
		if err := a.settleUse(ctx, role, u); err != nil {
			return err
		}
	}
	return nil
}

func (a *Access) settleUse(ctx context.Context, role string, u domain.GlassUse) error {
	// Asked before the record is read: one that is being written lands only after
	// that, and what is read then is the truth.
	if a.ledgers.flies(u.ID) {
		return nil
	}
	r, err := a.store.Request(ctx, u.ID)
	if err != nil {
		return err
	}
	if r != nil && r.Review != nil && len(r.Unfed(a.wanted(ctx))) > 0 {
		if err := a.feed(ctx, r.ID); err != nil {
			return err
		}
	}
	return a.ledgers.use(ctx, role, u.ID, func(u domain.GlassUse) *domain.GlassUse {
		if r == nil {
			return nil // it was never written
		}
		if r.Review != nil {
			u.Signed = r.Review.At
		}
		u.Heard = u.Heard || r.Heard()
		return &u
	})
}

// noDebt refuses a request of who has not had an emergency reviewed in time.
// What memory says is compared with the records before it bars anybody.
func (a *Access) noDebt(ctx context.Context, who actor, role string) error {
	l, err := a.ledgers.of(ctx, role)
	if err != nil {
		return err
	}
	if _, overdue := l.Overdue(who.person, who.ID, a.now()); !overdue {
		return nil
	}
	if err := a.settleLedger(ctx, role); err != nil {
		return err
	}
	if l, err = a.ledgers.of(ctx, role); err != nil {
		return err
	}
	if u, overdue := l.Overdue(who.person, who.ID, a.now()); overdue {
		return errOwed(role, u.ID, "it is overdue")
	}
	return nil
}

// unbarred refuses a new request that a hold blocks, or whose person owes a
// review for too long.
func (a *Access) unbarred(ctx context.Context, who actor, r domain.Request) error {
	if err := a.free(ctx, scopeOf(r)); err != nil {
		return err
	}
	return a.noDebt(ctx, who, r.Role)
}
