// Package access holds the use cases: who may do what, in which order records
// are locked and written, and what is called at a target. It knows neither the
// host's SDK nor any provider by name.
package access

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/condition"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Budgets of one call.
const (
	callBudget = 25 * time.Second // a whole Issue or Revoke
	undoBudget = 10 * time.Second // undoing a failed issue within the same call
	// secondLook is how long after it was planned an undone credential is
	// looked at once more: a call that was given up may still have landed.
	secondLook = 60 * time.Second
	// fetchWithin is how long a credential that was prepared in the background
	// waits for its reader.
	fetchWithin = 5 * time.Minute
)

// Directory is the host's identity store, read live.
type Directory interface {
	// Entity returns the entity with its logins in this mount's namespace, or
	// nil when the host does not know it (any more). Groups, inherited ones
	// included, only when asked for.
	Entity(ctx context.Context, id string, groups bool) (*domain.Entity, error)
}

// Host is what the use cases ask of the host besides identity and storage.
type Host interface {
	MaxLeaseTTL() time.Duration
	// Writable tells whether this node may write. An error counts as no.
	Writable() bool
	// Tainted tells whether the mount is being disabled or moved.
	Tainted() bool
}

// Options are the dependencies. All are required but Step and Entropy.
type Options struct {
	Store       *store.Store
	Directory   Directory
	Host        Host
	Descriptors []contract.Descriptor
	Env         contract.Env
	Log         contract.Logger
	Mount       string    // uuid of the mount
	Entropy     io.Reader // for ids; crypto/rand when nil
	// Step is called before and after everything that a crash could separate.
	// Only test builds set it.
	Step func(name string)
}

// Access carries out the use cases. It is safe for concurrent use.
type Access struct {
	store       *store.Store
	directory   Directory
	host        Host
	descriptors map[string]contract.Descriptor
	clock       *clock.Steady
	log         contract.Logger
	mount       string
	boot        string
	entropy     io.Reader
	step        func(string)

	conditions   *condition.Engine
	index        *index
	providers    *providers
	holds        *holds
	rates        *rates
	flights      *flights
	reuse        *reuse
	fields       roleFields
	preparing    *preparing
	rotations    *rotations
	publications *publications
	ledgers      *ledgers
	events       *events
	campaigns    *campaigns
	useReport    useReport
	tidying      atomic.Bool
	sweeping     atomic.Bool
	killing      killing
	reaper       *reaper

	timed      atomic.Bool // the clock was compared with the record
	stale      atomic.Bool // the last sign of life before this start was old
	background sync.WaitGroup
	life       context.Context //nolint:containedctx // of everything that outlives a call; ends with Stop
	end        context.CancelFunc
}

// New wires the use cases. It does no I/O.
func New(o Options) (*Access, error) {
	a := &Access{
		store: o.Store, directory: o.Directory, host: o.Host, clock: clock.NewSteady(o.Env.Clock), log: o.Log,
		mount: o.Mount, entropy: o.Entropy, step: o.Step, descriptors: map[string]contract.Descriptor{},
	}
	if a.entropy == nil {
		a.entropy = rand.Reader
	}
	if a.step == nil {
		a.step = func(string) {}
	}
	for _, d := range o.Descriptors {
		a.descriptors[d.Type] = d
	}
	boot, err := a.newID()
	if err != nil {
		return nil, err
	}
	a.boot = boot
	if a.conditions, err = condition.New(rolesWithConditions); err != nil {
		return nil, err
	}
	a.life, a.end = context.WithCancel(context.Background())
	a.index = newIndex(boot, a.listedUntil)
	o.Env.Clock = a.clock
	a.providers = newProviders(a, o.Env)
	a.holds = newHolds(a.store)
	a.rates = newRates()
	a.flights = newFlights()
	a.reuse = newReuse()
	a.preparing = newPreparing()
	a.publications = newPublications(a)
	a.ledgers = newLedgers(a.store)
	a.events = newEvents(a.store)
	a.campaigns = newCampaigns(a.store)
	a.rotations = &rotations{}
	a.reaper = newReaper(a)
	return a, nil
}

// Start begins the periodic work of the writable node. It does no network call
// and returns at once.
func (a *Access) Start() { a.reaper.start() }

// Stop ends the periodic work and closes what providers hold.
func (a *Access) Stop() {
	a.end()
	a.reaper.stop()
	a.background.Wait()
	a.providers.drop()
	a.store.Drop()
}

// Nudge makes the reaper look now.
func (a *Access) Nudge() { a.reaper.nudge() }

// Invalidate drops what may be cached of a key that somebody else wrote.
func (a *Access) Invalidate(key string) {
	if store.Cached(key) {
		a.store.Drop()
		a.providers.drop()
	}
}

// rotations lets one rotation run per target.
type rotations struct{ busy sync.Map }

func (r *rotations) try(name string) (release func(), ok bool) {
	if _, taken := r.busy.LoadOrStore(name, true); taken {
		return nil, false
	}
	return func() { r.busy.Delete(name) }, true
}

func (a *Access) now() time.Time { return a.clock.Now().UTC().Truncate(time.Millisecond) }

func (a *Access) newID() (string, error) {
	id, err := domain.NewID(a.now(), a.entropy)
	if err != nil {
		return "", fmt.Errorf("new id: %w", err)
	}
	return id, nil
}

// save writes a request under its lock and keeps the index in step.
func (a *Access) save(ctx context.Context, tx *store.RequestTx, r domain.Request, step string) error {
	return a.write(ctx, r, step, tx.Put)
}

// grow is save for what adds something that will have to be ended: it leaves
// room on the record for that.
func (a *Access) grow(ctx context.Context, tx *store.RequestTx, r domain.Request, step string) error {
	err := a.write(ctx, r, step, tx.Grow)
	if errors.Is(err, store.ErrTooLarge) {
		return fault.New(fault.Conflict, fault.CodeLimit,
			"limit reached: the record of request "+string(r.ID)+" is full; give it back and file another one", err).
			With("request_id", string(r.ID))
	}
	return err
}

func (a *Access) write(ctx context.Context, r domain.Request, step string, put func(context.Context, domain.Request) error) error {
	a.step("before put " + step)
	if err := put(ctx, r); err != nil {
		// A failed write may still have been written: what memory holds is not
		// to be trusted until the record has been read again, which the reaper
		// does now.
		a.index.doubt(r, a.now())
		return err
	}
	a.index.put(r, a.now())
	a.step("after put " + step)
	return nil
}

// load reads an open request under its lock. A copy seen before is as good when
// nobody has written since: this process is the only writer.
func (a *Access) load(ctx context.Context, tx *store.RequestTx, id domain.RequestID, seen *domain.Request) (*domain.Request, error) {
	if seen != nil && a.index.current(id, seen.Rev) {
		return seen, nil
	}
	r, err := tx.Get(ctx)
	if err != nil || r == nil {
		return nil, err
	}
	a.index.put(*r, a.now())
	return r, nil
}

// sight is the copy of a request that one piece of work saw last, from step to
// step.
type sight struct{ r *domain.Request }

// look is load with the copy that this work saw last: ending a credential takes
// several steps, and one read as long as nobody else writes in between.
func (a *Access) look(ctx context.Context, tx *store.RequestTx, id domain.RequestID, s *sight) (*domain.Request, error) {
	r, err := a.load(ctx, tx, id, s.r)
	s.r = r
	return r, err
}

// glance is look for who changes nothing.
func (a *Access) glance(ctx context.Context, id domain.RequestID, s *sight) (*domain.Request, error) {
	err := a.store.WithRequest(id, func(tx *store.RequestTx) error {
		_, err := a.look(ctx, tx, id, s)
		return err
	})
	return s.r, err
}

// saveSeen is save, and the next look finds what was written.
func (a *Access) saveSeen(ctx context.Context, tx *store.RequestTx, r domain.Request, step string, s *sight) error {
	s.r = nil
	if err := a.save(ctx, tx, r, step); err != nil {
		return err
	}
	s.r = &r
	return nil
}

// errUnknown is the answer for an id that does not exist and for one that the
// caller may not know of.
func errUnknown() error {
	return fault.New(fault.Absent, fault.CodeInvalid, "no such request", nil)
}

// descriptorOf finds the provider code of a target's type.
func (a *Access) descriptorOf(t *domain.Target) (contract.Descriptor, error) {
	d, ok := a.descriptors[t.Type]
	if !ok {
		return d, fault.Newf(fault.Internal, fault.CodeInternal, "target type %s is not part of this build", t.Type)
	}
	return d, nil
}

// Now is the time that the use cases go by.
func (a *Access) Now() time.Time { return a.now() }
