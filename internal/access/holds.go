package access

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// holds are in memory on the writable node, so that asking costs nothing.
// Until they are loaded after a start, whoever asks waits for them: no hold is
// ever overlooked.
type holds struct {
	store *store.Store

	mu     sync.Mutex
	loaded bool
	byID   map[string]domain.Hold
}

func newHolds(s *store.Store) *holds { return &holds{store: s, byID: map[string]domain.Hold{}} }

// load reads the holds unless they are known.
func (h *holds) load(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.loadLocked(ctx)
}

// loadLocked is load for who holds mu, and goes on holding it while looking.
func (h *holds) loadLocked(ctx context.Context) error {
	if h.loaded {
		return nil
	}
	list, err := h.store.Holds(ctx)
	if err != nil {
		return err
	}
	h.byID = make(map[string]domain.Hold, len(list))
	for _, x := range list {
		h.byID[x.ID] = x
	}
	h.loaded = true
	return nil
}

// doubt has the holds read again: a write that failed may have been written.
func (h *holds) doubt() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loaded = false
}

// covering returns the hold that blocks something, if any.
func (h *holds) covering(ctx context.Context, s domain.Scope, now time.Time) (*domain.Hold, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.loadLocked(ctx); err != nil {
		return nil, err
	}
	for _, x := range h.byID {
		if x.Covers(s, now) {
			return &x, nil
		}
	}
	return nil, nil //nolint:nilnil // no hold is the ordinary answer
}

// set puts a hold in force, in memory only after it is on record.
func (h *holds) set(ctx context.Context, x domain.Hold) error {
	if err := h.load(ctx); err != nil {
		return err
	}
	if err := h.store.PutHold(ctx, x); err != nil {
		h.doubt()
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byID[x.ID] = x
	return nil
}

func (h *holds) lift(ctx context.Context, id string) error {
	if err := h.store.DeleteHold(ctx, id); err != nil {
		h.doubt()
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byID, id)
	return nil
}

func (h *holds) list(ctx context.Context) ([]domain.Hold, error) {
	if err := h.load(ctx); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]domain.Hold, 0, len(h.byID))
	for _, x := range h.byID {
		out = append(out, x)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

func (h *holds) get(ctx context.Context, id string) (*domain.Hold, error) {
	if err := h.load(ctx); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if x, ok := h.byID[id]; ok {
		return &x, nil
	}
	return nil, nil //nolint:nilnil // no hold is the ordinary answer
}

// free refuses whatever a hold blocks. Whoever asks for something new comes by here.
func (a *Access) free(ctx context.Context, s domain.Scope) error {
	if err := a.punctual(ctx); err != nil {
		return err
	}
	h, err := a.holds.covering(ctx, s, a.now())
	if err != nil || h == nil {
		return err
	}
	return fault.New(fault.Denied, fault.CodeHeld,
		"access denied: a hold is in force for this "+string(h.Kind)+"; a security officer can lift it", nil).
		With("hold_id", h.ID)
}

// scopeOf is what holds are compared with for a request.
func scopeOf(r domain.Request) domain.Scope {
	return domain.Scope{
		Person: r.Requester.Person, Entity: r.Requester.Entity, Role: r.Role, Target: r.Target, Ticket: r.Ticket,
	}
}

// Holds lists the holds in force and those that ran out but were not lifted.
func (a *Access) Holds(ctx context.Context) ([]domain.Hold, error) { return a.holds.list(ctx) }

// Hold reads one hold; nil = none.
func (a *Access) Hold(ctx context.Context, id string) (*domain.Hold, error) {
	return a.holds.get(ctx, id)
}

// SetHold blocks a person, role, target or ticket until a time or until it is
// lifted.
func (a *Access) SetHold(ctx context.Context, c Caller, k Kill) (domain.Hold, error) {
	h, err := a.selector(ctx, k, a.namedCaller(ctx, c))
	if err != nil {
		return h, err
	}
	if k.Hold != nil && *k.Hold > 0 {
		h.Until = a.now().Add(k.Hold.Duration())
	}
	return h, a.holds.set(ctx, h)
}

// HoldEdit changes a hold; nil = leave as it is.
type HoldEdit struct {
	TTL    *domain.Seconds // from now on; 0 = until it is lifted
	Reason *string
}

// ChangeHold changes how long a hold lasts; not by the person held.
func (a *Access) ChangeHold(ctx context.Context, c Caller, id string, e HoldEdit) (domain.Hold, error) {
	h, err := a.holds.get(ctx, id)
	if err != nil {
		return domain.Hold{}, err
	}
	if h == nil {
		return domain.Hold{}, fault.New(fault.Absent, fault.CodeInvalid, "no such hold", nil)
	}
	if err := a.notHeld(ctx, c, *h); err != nil {
		return domain.Hold{}, err
	}
	next := *h
	if e.Reason != nil {
		if why := domain.CheckText(*e.Reason, domain.MaxComment); why != "" {
			return domain.Hold{}, fault.New(fault.Invalid, fault.CodeInvalid, "invalid input: reason: "+why, nil)
		}
		next.Reason = *e.Reason
	}
	if e.TTL != nil {
		next.Until = time.Time{}
		if *e.TTL > 0 {
			next.Until = a.now().Add(e.TTL.Duration())
		}
	}
	return next, a.holds.set(ctx, next)
}

// notHeld refuses the person that a hold is about, and whoever might be that person
// for all that is known of them.
func (a *Access) notHeld(ctx context.Context, c Caller, h domain.Hold) error {
	if h.Kind != domain.HoldPerson {
		return nil
	}
	by := a.editor(ctx, c)
	switch held := by.Entity != "" && (by.Entity == h.Value || by.Person != "" && by.Person == h.Person); {
	case held:
		return fault.New(fault.Denied, fault.CodeHeld, "access denied: a hold is not lifted by the person held", nil)
	case by.unfit != nil:
		return by.unfit
	}
	return nil
}

// LiftHold removes a hold; not by the person held. Lifting an unknown one
// changes nothing.
func (a *Access) LiftHold(ctx context.Context, c Caller, id string) error {
	h, err := a.holds.get(ctx, id)
	if err != nil || h == nil {
		return err
	}
	if err := a.notHeld(ctx, c, *h); err != nil {
		return err
	}
	return a.holds.lift(ctx, id)
}
