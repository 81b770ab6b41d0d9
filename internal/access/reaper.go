package access

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Bounds of the reaper.
const (
	reapWorkers = 16
	reapBatch   = 2000
	beatEvery   = time.Minute
	tidyEvery   = time.Hour
	// goneAfter is how far apart a person has to be seen missing or not
	// eligible twice before the access is ended: one failed look ends nothing.
	goneAfter      = 60 * time.Second
	personsAtATime = 500
)

// reaper is the one goroutine of the writable node that ends everything past
// its time. It holds no lock of the host.
type reaper struct {
	a      *Access
	kick   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex

	lastBeat time.Time
	unswept  atomic.Pointer[map[string]bool] // targets that rotate-epoch has not finished with
	tidied   time.Time
	// unfinished says that a pull of the kill switch has requests left to mark.
	unfinished atomic.Bool
	missing    map[domain.RequestID]time.Time
	cursor     domain.RequestID
}

func newReaper(a *Access) *reaper {
	return &reaper{a: a, kick: make(chan struct{}, 1), missing: map[domain.RequestID]time.Time{}}
}

func (w *reaper) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(w.a.life)
	w.cancel, w.done = cancel, make(chan struct{})
	go w.run(ctx, w.done)
}

func (w *reaper) stop() {
	w.mu.Lock()
	cancel, done := w.cancel, w.done
	w.cancel = nil
	w.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

func (w *reaper) nudge() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *reaper) setUnswept(targets map[string]bool) {
	own := maps.Clone(targets)
	w.unswept.Store(&own)
}

func (w *reaper) unsweptTargets() map[string]bool {
	if p := w.unswept.Load(); p != nil {
		return *p
	}
	return nil
}

func (w *reaper) run(ctx context.Context, done chan struct{}) {
	defer close(done)
	for ctx.Err() == nil {
		if w.a.host.Writable() {
			w.look(ctx)
		}
		select {
		case <-ctx.Done():
		case <-w.kick:
		case <-w.a.clock.After(w.pause(ctx)):
		}
	}
}

// recovered keeps a panic in one of our goroutines from taking down the
// process that other mounts share.
func (a *Access) recovered(where string) {
	if p := recover(); p != nil {
		a.log.Error("panic", "where", where)
	}
}

// pause is the reap interval, or less when something is due sooner.
func (w *reaper) pause(ctx context.Context) time.Duration {
	every := domain.DefaultConfig().ReapInterval.Duration()
	if cfg, err := w.a.store.Config(ctx); err == nil && cfg.ReapInterval > 0 {
		every = cfg.ReapInterval.Duration()
	}
	if next := w.a.index.next(); !next.IsZero() {
		every = min(every, max(next.Sub(w.a.now()), 100*time.Millisecond))
	}
	return every
}

// look is one round that cannot end the reaper: whatever breaks in it is tried
// again by the next one.
func (w *reaper) look(ctx context.Context) {
	defer w.a.recovered("reaper")
	w.round(ctx)
}

// round is one look at everything.
func (w *reaper) round(ctx context.Context) {
	if err := w.prepareIndex(ctx); err != nil {
		w.a.log.Warn("the index is not complete yet", "error", err)
		return
	}
	if !w.beat(ctx) {
		return
	}
	w.a.dropStale(ctx)
	if w.unfinished.CompareAndSwap(true, false) {
		w.a.resumeKills(ctx)
	}
	w.work(ctx)
	w.a.publications.tick(ctx)
	w.persons(ctx)
	w.a.continueEpoch(ctx)
	now := w.a.now()
	w.a.reuse.sweep(now)
	w.a.rates.sweep(now)
	if now.Sub(w.tidied) >= tidyEvery {
		w.tidied = now
		w.a.Tidy(ctx)
	}
}

// resume goes on with what a crash interrupted: pulls of the kill switch and
// rotations of root credentials.
func (a *Access) resume(ctx context.Context) {
	a.resumeKills(ctx)
	a.resumeRotations(ctx)
}

func (a *Access) resumeKills(ctx context.Context) {
	jobs, err := a.store.Jobs(ctx)
	if err != nil {
		a.log.Warn("interrupted jobs could not be listed", "error", err)
	}
	for _, id := range jobs {
		job, err := a.store.Job(ctx, id)
		if err == nil && job != nil && !job.Marked {
			a.carryOutKill(ctx, *job, domain.Party{Name: job.Selector.By, Entity: job.Selector.ByWho})
		}
	}
}

func (a *Access) resumeRotations(ctx context.Context) {
	targets, err := a.store.Targets(ctx, "", 0)
	if err != nil {
		a.log.Warn("interrupted rotations could not be listed", "error", err)
	}
	for _, name := range targets {
		release, ok := a.rotations.try(name)
		if !ok {
			continue
		}
		if err := a.recoverRotation(ctx, name); err != nil {
			a.log.Warn("an interrupted rotation is cleaned up by the next one", "target", name, "error", err)
		}
		release()
	}
}

// prepareIndex reads holds and every open request once after a start. It can
// be interrupted and goes on where it was.
func (w *reaper) prepareIndex(ctx context.Context) error {
	a := w.a
	if err := a.holds.load(ctx); err != nil {
		// Whoever asks for something new waits for them; what ends does not.
		a.log.Error("the holds cannot be read; nothing is issued until they can", "error", err)
	}
	a.index.mu.Lock()
	complete := a.index.complete
	a.index.mu.Unlock()
	if complete {
		return nil
	}
	st, err := a.store.State(ctx)
	if err != nil {
		return err
	}
	w.setUnswept(st.Unswept)
	a.stale.Store(!st.Beat.IsZero() && a.now().Sub(st.Beat) > time.Hour)
	ids, err := a.store.OpenIDs(ctx)
	if err != nil {
		return err
	}
	for _, s := range ids {
		id, err := domain.ParseRequestID(s)
		if err != nil || a.index.has(id) {
			continue
		}
		err = a.store.WithRequest(id, func(tx *store.RequestTx) error {
			_, err := a.load(ctx, tx, id, nil)
			return err
		})
		if err != nil {
			// One unreadable record must not hide the others.
			a.log.Error("a request's record cannot be read; it is tried again", "request", string(id), "error", err)
			a.index.unread(id, a.now().Add(backoff(1)))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	a.index.finished()
	a.publications.all(ctx)
	a.resume(ctx)
	return nil
}

// beat writes that we are alive, at most once a minute. Only who can write is
// the owner of the storage: the host's word alone is not enough.
func (w *reaper) beat(ctx context.Context) bool {
	now := w.a.now()
	if now.Sub(w.lastBeat) < beatEvery {
		return true
	}
	if _, err := w.a.store.UpdateState(ctx, func(s *domain.State) { s.Beat = now }); err != nil {
		w.a.log.Warn("this node cannot write; nothing is ended from here", "error", err)
		return false
	}
	w.lastBeat = now
	return true
}

// work ends what is due, in bounded parallel workers.
func (w *reaper) work(ctx context.Context) {
	ids := w.a.index.due(w.a.now(), reapBatch)
	jobs := make(chan domain.RequestID)
	var wg sync.WaitGroup
	for range min(reapWorkers, len(ids)) {
		wg.Go(func() {
			for id := range jobs {
				w.one(ctx, id)
			}
		})
	}
	for _, id := range ids {
		jobs <- id
	}
	close(jobs)
	wg.Wait()
}

func (w *reaper) one(ctx context.Context, id domain.RequestID) {
	defer w.a.recovered("reaper worker")
	if err := w.a.tend(ctx, id); err != nil {
		w.a.log.Warn("a request could not be tended to; it is tried again", "request", string(id), "error", err)
		w.a.index.postpone(id, w.a.now().Add(backoff(1)))
	}
}
