package access

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// Kill is one pull of the kill switch.
type Kill struct {
	Kind   domain.HoldKind
	Value  string // entity id, role, target or ticket; "" for all
	Reason string
	Hold   *domain.Seconds // life of the hold; nil = the default, 0 = none
}

// Kill first writes a hold, so that nothing new gets through, then ends
// everything the selector covers in the background. It answers at once.
func (a *Access) Kill(ctx context.Context, c Caller, k Kill) (JobView, error) {
	by := a.namedCaller(ctx, c)
	id, err := a.newID()
	if err != nil {
		return JobView{}, err
	}
	sel, err := a.selector(ctx, k, by)
	if err != nil {
		return JobView{}, err
	}
	job := domain.Job{ID: id, Selector: sel, Reason: k.Reason, At: a.now()}
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return JobView{}, err
	}
	hold := cfg.HoldTTL
	if k.Hold != nil {
		hold = *k.Hold
	}
	if hold > 0 {
		h := sel
		h.Until = a.now().Add(hold.Duration())
		if err := a.holds.set(ctx, h); err != nil {
			return JobView{}, err
		}
		job.HoldID = h.ID
	}
	a.step("kill switch held")
	if err := a.indexed(ctx); err != nil {
		return JobView{}, err
	}
	ids, live := a.covered(ctx, sel)
	job.Live = live
	parts, err := a.noteJob(ctx, job, ids)
	if err != nil {
		return JobView{}, err
	}
	a.step("kill switch noted")
	a.startKill(parts, by)
	return JobView{Job: parts[0], Requests: len(ids)}, nil
}

// covered are the requests that a pull covers, and how many credentials of theirs
// may give access. A record that could not be read so far is read once more; who
// means everything means it too.
func (a *Access) covered(ctx context.Context, sel domain.Hold) (ids []domain.RequestID, live int) {
	now := a.now()
	ids = a.index.ids(func(w *row) bool {
		covered := sel.Covers(w.scope(), now)
		if covered {
			live += int(w.live)
		}
		return covered
	})
	for _, id := range a.index.unknown() {
		r, err := a.store.OpenRequest(ctx, id)
		if err != nil {
			a.log.Error("the kill switch cannot read a request", "request", string(id), "error", err)
		}
		if r != nil && sel.Covers(scopeOf(*r), now) || err != nil && sel.Kind == domain.HoldAll {
			ids = append(ids, id)
		}
	}
	return ids, live
}

// maxJobRequests is how many requests one record of a job names: no value comes
// near what Raft storage takes.
const maxJobRequests = 5000

// noteJob writes a pull of the kill switch down. The first record names the
// others and goes last. What is on record is carried out even if the rest could
// not be written: its hold is in force, and it was meant.
func (a *Access) noteJob(ctx context.Context, job domain.Job, ids []domain.RequestID) ([]domain.Job, error) {
	parts := []domain.Job{job}
	for list := range slices.Chunk(ids, maxJobRequests) {
		if parts[0].Requests == nil {
			parts[0].Requests = list
			continue
		}
		id, err := a.newID()
		if err != nil {
			return nil, err
		}
		parts[0].More = append(parts[0].More, id)
		parts = append(parts, domain.Job{
			ID: id, Selector: job.Selector, Reason: job.Reason, HoldID: job.HoldID, At: job.At, Requests: list, PartOf: job.ID,
		})
	}
	for _, part := range slices.Backward(parts) {
		if err := a.store.PutJob(ctx, part); err != nil {
			a.reaper.unfinished.Store(true)
			return nil, err
		}
	}
	return parts, nil
}

// selector turns what was asked into the hold that would cover it.
func (a *Access) selector(ctx context.Context, k Kill, by domain.Party) (domain.Hold, error) {
	id, err := a.newID()
	if err != nil {
		return domain.Hold{}, err
	}
	h := domain.Hold{ID: id, Kind: k.Kind, Value: k.Value, Reason: k.Reason, By: by.Name, ByWho: by.Entity, Set: a.now()}
	if k.Kind != domain.HoldPerson {
		return h, nil
	}
	e, err := a.directory.Entity(ctx, k.Value, false)
	if err != nil {
		return h, err
	}
	if e != nil { // an entity the host forgot is still held by its id
		cfg, err := a.store.Config(ctx)
		if err != nil {
			return h, err
		}
		h.Person, _ = domain.PersonOf(*e, cfg.PersonKey)
	}
	return h, nil
}

// startKill carries records of jobs out in the background, but for those that
// are being marked already.
func (a *Access) startKill(parts []domain.Job, by domain.Party) {
	mine := a.killing.claim(toMark, parts)
	if len(mine) < len(parts) {
		a.reaper.unfinished.Store(true) // whoever is at it may fail
	}
	if len(mine) == 0 {
		return
	}
	a.background.Go(func() {
		defer a.recovered("kill switch")
		a.carryOutKill(a.life, mine, by)
	})
}

// carryOutKill marks every request first, which stops issues in flight. Then it
// ends credentials, where the target can in bulk, and what is left one by one.
// What fails is tried again by the reaper for ever.
func (a *Access) carryOutKill(ctx context.Context, parts []domain.Job, by domain.Party) {
	inBulk, ids := bulky(parts[0].Selector), requestsOf(parts)
	if inBulk {
		a.killing.begin(ids)
		defer a.killing.end(ids)
	}
	a.markAll(ctx, parts, by)
	a.step("kill switch marked")
	// A try that was made earlier may still be at it, if a target does not answer.
	parts = a.killing.claim(toEnd, parts)
	defer a.killing.release(toEnd, parts)
	a.atEachTarget(requestsOf(parts), func(ids []domain.RequestID) {
		if inBulk {
			a.endInBulk(ctx, ids)
			a.killing.end(ids)
		}
		a.parallel(ids, func(id domain.RequestID) {
			if err := a.tend(ctx, id); err != nil {
				a.log.Warn("the kill switch left a request to the reaper", "request", string(id), "error", err)
			}
		})
	})
}

func requestsOf(parts []domain.Job) []domain.RequestID {
	var ids []domain.RequestID
	for _, j := range parts {
		ids = append(ids, j.Requests...)
	}
	return ids
}

func (a *Access) markAll(ctx context.Context, parts []domain.Job, by domain.Party) {
	defer a.killing.release(toMark, parts)
	for _, j := range parts {
		a.mark(ctx, j, by)
	}
}

// mark ends every request that a record of a job names, and says so there.
func (a *Access) mark(ctx context.Context, job domain.Job, by domain.Party) {
	why := "revoked"
	if job.Reason != "" {
		why = job.Reason
	}
	var failed atomic.Bool
	a.parallel(job.Requests, func(id domain.RequestID) {
		if err := a.endRequest(ctx, id, by, why); err != nil {
			failed.Store(true)
			a.log.Warn("the kill switch could not mark a request; it is tried again", "request", string(id), "error", err)
		}
	})
	job.Marked = !failed.Load()
	if err := a.store.PutJob(ctx, job); err != nil {
		job.Marked = false
		a.log.Warn("the outcome of a kill switch could not be written", "error", err)
	}
	if !job.Marked {
		a.reaper.unfinished.Store(true)
	}
}

// atEachTarget does something with the requests of each target by itself: one
// that does not answer delays nobody else's end.
func (a *Access) atEachTarget(ids []domain.RequestID, do func([]domain.RequestID)) {
	var wg sync.WaitGroup
	for _, group := range a.index.byTheirTarget(ids) {
		wg.Go(func() {
			defer a.recovered("kill switch")
			do(group)
		})
	}
	wg.Wait()
}

func (a *Access) parallel(ids []domain.RequestID, do func(domain.RequestID)) {
	inParallel(a, ids, reapWorkers, do)
}

// inParallel does something with each of a list, by so many workers.
func inParallel[T any](a *Access, list []T, workers int, do func(T)) {
	work := make(chan T)
	var wg sync.WaitGroup
	for range min(workers, len(list)) {
		wg.Go(func() {
			for x := range work {
				func() {
					defer a.recovered("worker")
					do(x)
				}()
			}
		})
	}
	for _, x := range list {
		work <- x
	}
	close(work)
	wg.Wait()
}

// indexed waits until every open request is known.
func (a *Access) indexed(ctx context.Context) error {
	select {
	case <-a.index.ready:
		return nil
	default:
	}
	a.reaper.nudge()
	select {
	case <-a.index.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-a.clock.After(10 * time.Second):
		return fault.New(fault.Conflict, fault.CodeBusy, "busy: the index is still being rebuilt after a start; try again shortly", nil).
			With("poll_after_seconds", 5)
	}
}

// namedCaller is who acts on a path that ACL alone guards: maybe nobody the
// host knows, like a root token.
func (a *Access) namedCaller(ctx context.Context, c Caller) domain.Party {
	if c.EntityID == "" {
		return domain.Party{Name: "a token without identity"}
	}
	p := domain.Party{Entity: c.EntityID}
	if e, err := a.directory.Entity(ctx, c.EntityID, false); err == nil && e != nil {
		p.Name = displayName(*e)
		if cfg, err := a.store.Config(ctx); err == nil {
			p.Person, _ = domain.PersonOf(*e, cfg.PersonKey)
		}
	}
	return p
}
