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
	reapWorkers = 16 // at each target
	reapBatch   = 2000
	// beatEvery bounds how much time a node whose clock is behind can give back.
	beatEvery = 30 * time.Second
	tidyEvery = time.Hour
	// goneAfter is how far apart a person has to be seen missing or not
	// eligible twice before the access is ended: one failed look ends nothing.
	goneAfter = 60 * time.Second
	// personsAtATime bounds how many people one walk asks the host about, and
	// rowsAtATime how many requests it copies at once.
	personsAtATime = 500
	rowsAtATime    = 500
	// workFor is how long a round waits for the targets. Those that are not
	// done by then go on by themselves, and the next round passes them over.
	workFor = 4 * time.Second
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
	// unfinished says that a pull of the kill switch has requests left to mark;
	// remark is when that may be tried again.
	unfinished atomic.Bool
	remark     time.Time
	missing    map[domain.RequestID]time.Time
	cursor     domain.RequestID
	// idle says that the last round could not work: what is due is no reason then
	// to try again ten times a second.
	idle    bool
	walked  time.Time // when everybody was last looked at
	ending  sync.Map  // targets at which due requests are being worked on
	settled bool      // the ledgers have been compared with the records since the start
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
	w.walked = time.Time{}
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
		every := w.every(ctx)
		if w.a.host.Writable() {
			// A nudge is about something that is due. Who looks at everybody each
			// time would be busy with nothing else where much is decided.
			w.look(ctx, w.a.now().Sub(w.walked) >= every)
		}
		select {
		case <-ctx.Done():
		case <-w.kick:
		case <-w.a.clock.After(w.pause(every)):
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

// every is the reap interval.
func (w *reaper) every(ctx context.Context) time.Duration {
	if cfg, err := w.a.store.Config(ctx); err == nil && cfg.ReapInterval > 0 {
		return cfg.ReapInterval.Duration()
	}
	return domain.DefaultConfig().ReapInterval.Duration()
}

// pause is the reap interval, or less when something is due sooner.
func (w *reaper) pause(every time.Duration) time.Duration {
	next := w.a.index.next(w.busy)
	switch {
	case w.idle:
		every = min(every, time.Second)
	case !next.IsZero():
		every = min(every, max(next.Sub(w.a.now()), 100*time.Millisecond))
	}
	return every
}

// busy tells whether due requests of a target are being worked on.
func (w *reaper) busy(target string) bool {
	_, busy := w.ending.Load(target)
	return busy
}

// look is one round that cannot end the reaper: whatever breaks in it is tried
// again by the next one.
func (w *reaper) look(ctx context.Context, everybody bool) {
	defer w.a.recovered("reaper")
	w.idle = !w.able(ctx)
	if !w.idle {
		w.round(ctx, everybody)
	}
}

// able tells whether this node knows what is due and may end it.
func (w *reaper) able(ctx context.Context) bool {
	if err := w.prepareIndex(ctx); err != nil {
		w.a.log.Warn("the index is not complete yet", "error", err)
		return false
	}
	return w.beat(ctx)
}

// round is one look at everything that is due, and at everybody who has
// something.
func (w *reaper) round(ctx context.Context, everybody bool) {
	w.a.dropStale(ctx)
	w.finishKills(ctx)
	w.work(ctx)
	w.a.publications.tick(ctx)
	w.feedAll(ctx)
	w.lookBack(ctx)
	now := w.a.now()
	if everybody {
		w.walked = now
		w.persons(ctx)
	}
	w.a.continueEpoch(ctx)
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

// remarkEvery is how often marking is tried again: what cannot be marked must not
// keep a round busy with all that is marked.
const remarkEvery = 10 * time.Second

// finishKills goes on with pulls of the kill switch that could not mark
// everything.
func (w *reaper) finishKills(ctx context.Context) {
	now := w.a.now()
	if now.Before(w.remark) || !w.unfinished.CompareAndSwap(true, false) {
		return
	}
	w.remark = now.Add(remarkEvery)
	w.a.resumeKills(ctx)
}

// resumeKills carries out what is left, in the background: a target that does
// not answer must not keep the reaper from all others.
func (a *Access) resumeKills(ctx context.Context) {
	jobs, err := a.store.Jobs(ctx)
	if err != nil {
		a.log.Warn("interrupted jobs could not be listed", "error", err)
	}
	for _, id := range jobs {
		job, err := a.store.Job(ctx, id)
		if err == nil && job != nil && !job.Marked {
			a.startKill([]domain.Job{*job}, domain.Party{Name: job.Selector.By, Entity: job.Selector.ByWho})
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
	if err := a.punctual(ctx); err != nil {
		return err
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
	if err := w.readAll(ctx, ids); err != nil {
		return err
	}
	a.index.finished()
	a.publications.all(ctx)
	a.resume(ctx)
	return nil
}

// readAll indexes every request that is not indexed yet. It reads in parallel:
// each read waits for the host far longer than it computes.
func (w *reaper) readAll(ctx context.Context, ids []string) error {
	a := w.a
	todo := make([]domain.RequestID, 0, len(ids))
	for _, s := range ids {
		if id, err := domain.ParseRequestID(s); err == nil && !a.index.has(id) {
			todo = append(todo, id)
		}
	}
	a.parallel(todo, func(id domain.RequestID) {
		if ctx.Err() != nil {
			return
		}
		if err := a.indexOne(ctx, id); err != nil {
			// One unreadable record must not hide the others.
			a.log.Error("a request's record cannot be read; it is tried again", "request", string(id), "error", err)
			a.index.unread(id, a.now().Add(backoff(1)))
		}
	})
	return ctx.Err()
}

// indexOne reads what the index needs of a request.
func (a *Access) indexOne(ctx context.Context, id domain.RequestID) error {
	return a.store.WithRequest(id, func(tx *store.RequestTx) error {
		if a.index.has(id) {
			return nil // somebody has used it meanwhile
		}
		r, err := tx.Outline(ctx)
		if err == nil && r != nil {
			a.index.put(*r, a.now())
		}
		return err
	})
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

// work ends what is due. Every target has workers of its own, so that one that
// does not answer delays nobody else's end; and a round waits for them only so
// long.
func (w *reaper) work(ctx context.Context) {
	var wg sync.WaitGroup
	var late atomic.Bool
	now := w.a.now()
	for _, target := range w.a.index.dueTargets(now) {
		if _, busy := w.ending.LoadOrStore(target, true); busy {
			continue
		}
		wg.Add(1)
		w.a.background.Go(func() {
			defer wg.Done()
			defer w.ending.Delete(target)
			w.workAt(ctx, target, now)
		})
	}
	done := make(chan struct{})
	w.a.background.Go(func() {
		wg.Wait()
		if close(done); late.Load() {
			w.nudge()
		}
	})
	select {
	case <-done:
	case <-w.a.clock.After(workFor):
		late.Store(true)
		w.a.log.Debug("some targets take longer; the reaper goes on with the others")
	case <-ctx.Done():
	}
}

// workAt ends what is due at one target, in bounded parallel workers.
func (w *reaper) workAt(ctx context.Context, target string, now time.Time) {
	w.a.parallel(w.a.index.due(target, now, reapBatch), func(id domain.RequestID) { w.one(ctx, id) })
}

func (w *reaper) one(ctx context.Context, id domain.RequestID) {
	defer w.a.recovered("reaper worker")
	if w.a.killing.has(id) {
		w.a.index.postpone(id, w.a.now().Add(time.Second)) // whoever pulled the kill switch is at it
		return
	}
	if err := w.a.tend(ctx, id); err != nil {
		w.a.log.Warn("a request could not be tended to; it is tried again", "request", string(id), "error", err)
		w.a.index.postpone(id, w.a.now().Add(backoff(1)))
	}
}
