package access

import (
	"context"
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

// JobView is how far a pull of the kill switch has come.
type JobView struct {
	Job      domain.Job
	Requests int
	Marked   int
	Live     int // credentials that may still give access
	Gone     int
	Outcome  []CredentialOutcome
}

// CredentialOutcome is what became of one credential.
type CredentialOutcome struct {
	Request    domain.RequestID
	Credential domain.CredentialID
	State      domain.CredentialState
	Problem    string
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
	now := a.now()
	job.Requests = a.index.ids(func(w *row) bool { return sel.Covers(w.scope(), now) })
	if err := a.store.PutJob(ctx, job); err != nil {
		return JobView{}, err
	}
	a.step("kill switch noted")
	a.background.Go(func() {
		defer a.recovered("kill switch")
		a.carryOutKill(a.life, job, by)
	})
	return JobView{Job: job, Requests: len(job.Requests)}, nil
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

// carryOutKill marks every request first, which stops issues in flight. Then it
// ends credentials, where the target can in bulk, and what is left one by one.
// What fails is tried again by the reaper for ever.
func (a *Access) carryOutKill(ctx context.Context, job domain.Job, by domain.Party) {
	why := "revoked"
	if job.Reason != "" {
		why = job.Reason
	}
	if bulky(job.Selector) {
		a.killing.begin(job.Requests)
		defer a.killing.end(job.Requests)
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
	a.step("kill switch marked")
	a.atEachTarget(job.Requests, func(ids []domain.RequestID) {
		if bulky(job.Selector) {
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

// KillJob tells how far a pull of the kill switch has come, credential by
// credential. nil = no such job.
func (a *Access) KillJob(ctx context.Context, id string) (*JobView, error) {
	if !domain.ValidID(id) {
		return nil, nil //nolint:nilnil // unknown
	}
	job, err := a.store.Job(ctx, id)
	if err != nil || job == nil {
		return nil, err
	}
	v := &JobView{Job: *job, Requests: len(job.Requests)}
	for _, rid := range job.Requests {
		r, err := a.store.Request(ctx, rid)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue // retention is over: it was finished long ago
		}
		if r.State.Terminal() {
			v.Marked++
		}
		for _, c := range r.Credentials {
			if c.State.MayExist() {
				v.Live++
			} else {
				v.Gone++
			}
			if len(v.Outcome) < maxOutcome {
				v.Outcome = append(v.Outcome, CredentialOutcome{Request: rid, Credential: c.ID, State: c.State, Problem: c.Problem})
			}
		}
	}
	return v, nil
}

const maxOutcome = 1000
