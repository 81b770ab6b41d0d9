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
	missing  map[domain.RequestID]time.Time
	cursor   domain.RequestID
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
	ctx, cancel := context.WithCancel(context.Background())
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
	defer w.a.recovered("reaper")
	for ctx.Err() == nil {
		if w.a.host.Writable() {
			w.round(ctx)
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

// round is one look at everything.
func (w *reaper) round(ctx context.Context) {
	if err := w.prepareIndex(ctx); err != nil {
		w.a.log.Warn("the index is not complete yet", "code", codeOf(err))
		return
	}
	if !w.beat(ctx) {
		return
	}
	w.a.dropStale(ctx)
	w.work(ctx)
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
	jobs, err := a.store.Jobs(ctx)
	if err != nil {
		a.log.Warn("interrupted jobs could not be listed", "code", codeOf(err))
	}
	for _, id := range jobs {
		job, err := a.store.Job(ctx, id)
		if err == nil && job != nil && !job.Marked {
			a.carryOutKill(ctx, *job, domain.Party{Name: job.Selector.By, Entity: job.Selector.ByWho})
		}
	}
	targets, err := a.store.Targets(ctx, "", 0)
	if err != nil {
		a.log.Warn("interrupted rotations could not be listed", "code", codeOf(err))
	}
	for _, name := range targets {
		release, ok := a.rotations.try(name)
		if !ok {
			continue
		}
		if err := a.recoverRotation(ctx, name); err != nil {
			a.log.Warn("an interrupted rotation is cleaned up by the next one", "target", name, "code", codeOf(err))
		}
		release()
	}
}

// prepareIndex reads holds and every open request once after a start. It can
// be interrupted and goes on where it was.
func (w *reaper) prepareIndex(ctx context.Context) error {
	a := w.a
	if err := a.holds.load(ctx); err != nil {
		return err
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
			a.log.Error("a request's record cannot be read", "request", string(id), "code", codeOf(err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	a.index.finished()
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
		w.a.log.Warn("this node cannot write; nothing is ended from here", "code", codeOf(err))
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
		wg.Add(1)
		go func() {
			defer wg.Done()
			for id := range jobs {
				w.one(ctx, id)
			}
		}()
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
		w.a.log.Warn("a request could not be tended to; it is tried again", "request", string(id), "code", codeOf(err))
		w.a.index.postpone(id, w.a.now().Add(backoff(1)))
	}
}

// tend brings one request up to date: writes what time has brought, ends what
// is to end, archives what is finished.
func (a *Access) tend(ctx context.Context, id domain.RequestID) error {
	todo, err := a.catchUp(ctx, id)
	if err != nil {
		return err
	}
	for _, c := range todo {
		// A failure is on record with its next try.
		if err := a.finish(ctx, id, c.ID, c.Why); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return a.archive(ctx, id)
}

// catchUp writes what time has brought and returns the credentials to end.
func (a *Access) catchUp(ctx context.Context, id domain.RequestID) ([]domain.Credential, error) {
	var todo []domain.Credential
	err := a.store.WithRequest(id, func(tx *store.RequestTx) error {
		r, err := a.load(ctx, tx, id, nil)
		if err != nil {
			return err
		}
		if r == nil {
			a.index.drop(id)
			return nil
		}
		next, err := a.settleTime(*r)
		if err != nil {
			return err
		}
		if next, err = a.expire(next); err != nil {
			return err
		}
		if next.Rev != r.Rev {
			if err := a.save(ctx, tx, next, "caught up"); err != nil {
				return err
			}
		}
		now := a.now()
		for _, c := range next.Credentials {
			if c.State != domain.CredGone && c.State != domain.CredActive && c.State != domain.CredIssuing && !c.Due.After(now) {
				todo = append(todo, c)
			}
		}
		return nil
	})
	return todo, err
}

// expire asks for the end of credentials past their time and of those that a
// dead process left half made.
func (a *Access) expire(r domain.Request) (domain.Request, error) {
	now := a.now()
	var err error
	for _, c := range r.Credentials {
		switch {
		case c.State == domain.CredActive && !now.Before(c.Expires):
			r, err = r.ApplyCredential(c.ID, domain.CredEndAsked, "its time is over", now)
		case c.State == domain.CredIssuing && c.Boot != a.boot:
			r, err = r.ApplyCredential(c.ID, domain.CredFailed, "the process that issued it is gone", now)
		case c.State == domain.CredIssuing && !now.Before(c.Due) && a.stuck(r.ID, c.ID):
			r, err = r.ApplyCredential(c.ID, domain.CredFailed, "the issue did not finish", now)
		case c.State == domain.CredIssuing && !now.Before(c.Due):
			r, err = r.Edit(c.ID, func(c *domain.Credential) { c.Due = now.Add(secondLook) })
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// stuck tells whether nobody is working on an issue any more.
func (a *Access) stuck(id domain.RequestID, cred domain.CredentialID) bool {
	if x := a.preparing.get(id); x != nil && x.job.cred.ID == cred {
		return false
	}
	return !a.flights.busy(cred)
}

// archive moves a finished request and repairs the person's record.
func (a *Access) archive(ctx context.Context, id domain.RequestID) error {
	r, err := a.store.OpenRequest(ctx, id)
	if err != nil {
		return err
	}
	if r == nil {
		a.index.drop(id)
		return nil
	}
	if !r.Finished() {
		return nil
	}
	return a.store.WithPerson(r.Requester.Person, func(person *store.PersonTx) error {
		err := a.store.WithRequest(id, func(tx *store.RequestTx) error {
			cur, err := tx.Get(ctx)
			if err != nil || cur == nil || !cur.Finished() {
				return err
			}
			a.step("before archive")
			return tx.Archive(ctx, *cur)
		})
		if err != nil {
			return err
		}
		a.step("after archive")
		a.index.drop(id)
		return closeEntry(ctx, person, *r)
	})
}

// closeEntry marks a request as closed in its person's record, so that reads
// need not look for it. Auto-approved ones leave no mark.
func closeEntry(ctx context.Context, tx *store.PersonTx, r domain.Request) error {
	rec, err := tx.Get(ctx)
	if err != nil {
		return err
	}
	kept := rec.Entries[:0:0]
	for _, e := range rec.Entries {
		if e.ID == r.ID {
			if e.NoBar {
				continue
			}
			e.Closed, e.At = r.State, r.Times.Closed
		}
		kept = append(kept, e)
	}
	rec.Entries = kept
	return tx.Put(ctx, rec)
}

// persons ends the access of those who are disabled at once, and of those who
// are missing or no longer eligible when they are seen so twice.
func (w *reaper) persons(ctx context.Context) {
	rows := w.a.index.pick(func(r row) bool { return !r.state.Terminal() && r.id > w.cursor })
	if len(rows) > personsAtATime {
		rows = rows[:personsAtATime]
		w.cursor = rows[len(rows)-1].id
	} else {
		w.cursor = ""
	}
	seen := map[string]*domain.Entity{}
	for _, r := range rows {
		if ctx.Err() != nil {
			return
		}
		w.person(ctx, r, seen)
	}
	for id := range w.missing {
		if !w.a.index.has(id) {
			delete(w.missing, id)
		}
	}
}

func (w *reaper) person(ctx context.Context, r row, seen map[string]*domain.Entity) {
	a := w.a
	e, known := seen[r.entity]
	if !known {
		var err error
		if e, err = a.directory.Entity(ctx, r.entity, true); err != nil {
			a.log.Warn("an identity could not be read", "code", codeOf(err))
			return
		}
		seen[r.entity] = e
	}
	why, certain := w.lost(ctx, r, e)
	now := a.now()
	first, before := w.missing[r.id]
	switch {
	case why == "":
		delete(w.missing, r.id)
		return
	case certain:
	case !before:
		w.missing[r.id] = now
		return
	case now.Sub(first) < goneAfter:
		return
	}
	delete(w.missing, r.id)
	if err := a.endRequest(ctx, r.id, domain.Party{}, why); err != nil {
		a.log.Warn("ending the access of a person failed; it is tried again", "request", string(r.id), "code", codeOf(err))
	}
}

// lost says why a person may not keep what they have; certain ends it at once.
func (w *reaper) lost(ctx context.Context, r row, e *domain.Entity) (why string, certain bool) {
	if e == nil {
		return "the requester is unknown to the host", false
	}
	if e.Disabled {
		return "the requester is disabled", true
	}
	cfg, err := w.a.store.Config(ctx)
	if err != nil || !cfg.EndOnIneligible {
		return "", false
	}
	role, err := w.a.store.Role(ctx, r.role)
	if err != nil || role == nil || role.Revision() != r.roleRev {
		return "", false // an edit decides by itself what happens to live access
	}
	if !role.Eligible(*e).OK {
		return "the requester is not eligible any more", false
	}
	return "", false
}

// endRequest ends a request in whatever state it is open, and all its
// credentials. Ending a closed one changes nothing.
func (a *Access) endRequest(ctx context.Context, id domain.RequestID, by domain.Party, why string) error {
	err := a.store.WithRequest(id, func(tx *store.RequestTx) error {
		r, err := a.load(ctx, tx, id, nil)
		if err != nil || r == nil {
			return err
		}
		cur, err := a.settleTime(*r)
		if err != nil {
			return err
		}
		if cur.State.Terminal() {
			if cur.Rev == r.Rev {
				return nil
			}
			return a.save(ctx, tx, cur, "caught up")
		}
		next, err := cur.Apply(domain.Event{Kind: domain.Killed, By: by, Reason: why}, a.now())
		if err != nil {
			return err
		}
		return a.save(ctx, tx, next, "request ended")
	})
	a.reaper.nudge()
	return err
}

// EndAll ends everything inline, due or not: the mount is going away and its
// storage with it.
func (a *Access) EndAll(ctx context.Context) error {
	ids, err := a.store.OpenIDs(ctx)
	if err != nil {
		return err
	}
	var first error
	for _, s := range ids {
		id, err := domain.ParseRequestID(s)
		if err != nil {
			continue
		}
		if err := a.endRequest(ctx, id, domain.Party{}, "the mount is being disabled"); err != nil && first == nil {
			first = err
		}
		if err := a.tend(ctx, id); err != nil && first == nil {
			first = err
		}
	}
	return first
}
