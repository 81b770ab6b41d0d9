package access

import (
	"context"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// killing are the requests that a pull of the kill switch is about to end in
// bulk: the reaper leaves them alone until that has been tried, so that many
// sessions come to one call and not to many.
type killing struct {
	mu   sync.Mutex
	ids  map[domain.RequestID]bool
	jobs map[jobWork]bool // under way
}

// jobWork is one thing that is done with a record of a job.
type jobWork struct{ what, job string }

// What is done with a record of a job.
const (
	toMark = "mark" // its requests have ended
	toEnd  = "end"  // their credentials end at the targets
)

// claim takes on what nobody is at.
func (k *killing) claim(what string, jobs []domain.Job) []domain.Job {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.jobs == nil {
		k.jobs = map[jobWork]bool{}
	}
	var out []domain.Job
	for _, j := range jobs {
		if w := (jobWork{what, j.ID}); !k.jobs[w] {
			k.jobs[w] = true
			out = append(out, j)
		}
	}
	return out
}

func (k *killing) release(what string, jobs []domain.Job) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, j := range jobs {
		delete(k.jobs, jobWork{what, j.ID})
	}
}

func (k *killing) begin(ids []domain.RequestID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ids == nil {
		k.ids = map[domain.RequestID]bool{}
	}
	for _, id := range ids {
		k.ids[id] = true
	}
}

func (k *killing) end(ids []domain.RequestID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range ids {
		delete(k.ids, id)
	}
}

func (k *killing) has(id domain.RequestID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ids[id]
}

// bulky tells whether a pull may end credentials in bulk. A provider may deny
// more than what it was given, such as all sessions of a role: right for a
// role, a target and everything, and not for one person.
func bulky(sel domain.Hold) bool {
	switch sel.Kind {
	case domain.HoldRole, domain.HoldTarget, domain.HoldAll:
		return true
	case domain.HoldPerson, domain.HoldTicket:
	}
	return false
}

// marked is a credential whose end is on record.
type marked struct {
	request domain.RequestID
	cred    domain.Credential
}

// endInBulk ends the marked credentials of some requests in as few calls as
// their targets allow. Whatever it does not end is ended one by one after it.
func (a *Access) endInBulk(ctx context.Context, ids []domain.RequestID) {
	var mu sync.Mutex
	byTarget := map[string][]marked{}
	a.parallel(ids, func(id domain.RequestID) {
		list, err := a.markedOf(ctx, id)
		if err != nil {
			a.log.Warn("the kill switch could not read a request; it is ended by itself", "request", string(id), "error", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, m := range list {
			byTarget[m.cred.Handle.Target] = append(byTarget[m.cred.Handle.Target], m)
		}
	})
	var wg sync.WaitGroup
	for name, list := range byTarget {
		if len(list) > 1 {
			wg.Go(func() {
				defer a.recovered("kill switch")
				a.bulkAt(ctx, name, list)
			})
		}
	}
	wg.Wait()
}

// markedOf are the credentials of a request whose end is on record and not yet
// confirmed. What is still in flight, shared or published is left to the
// careful way.
func (a *Access) markedOf(ctx context.Context, id domain.RequestID) ([]marked, error) {
	r, err := a.store.OpenRequest(ctx, id)
	if err != nil || r == nil {
		return nil, err
	}
	var out []marked
	for _, c := range r.Credentials {
		ending := c.State == domain.CredRevoking || c.State == domain.CredUndoing
		if ending && c.Handle.Shared == "" && !a.flights.busy(c.ID) && a.listedUntil(c.Handle).IsZero() {
			out = append(out, marked{request: id, cred: c})
		}
	}
	return out, nil
}

// bulkAt ends what is marked at one target, if that can end many at once.
func (a *Access) bulkAt(ctx context.Context, name string, list []marked) {
	p, err := a.providers.of(ctx, name)
	if err != nil {
		return // one by one it is said, and tried again
	}
	bulk, ok := p.Provider.(contract.BulkRevoker)
	if !ok {
		return
	}
	hs := make([]domain.Handle, 0, len(list))
	for _, m := range list {
		if p.target.Place == "" || m.cred.Handle.Place == p.target.Place {
			hs = append(hs, m.cred.Handle)
		}
	}
	budget, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	a.step("before provider revoke")
	ended, err := bulk.RevokeBulk(budget, hs)
	a.step("after provider revoke")
	if err != nil {
		a.log.Warn("the kill switch could not end everything at once; what is left is ended one by one", "target", name, "error", err)
	}
	inParallel(a, list, reapWorkers, func(m marked) {
		if e, ok := ended[m.cred.ID]; ok {
			a.settleBulk(ctx, m, e)
		}
	})
}

// settleBulk writes down what a target said of one credential, unless somebody
// who ended it alone has done so already.
func (a *Access) settleBulk(ctx context.Context, m marked, ended contract.Ended) {
	err := a.flights.end(ctx, m.cred.ID, func() error {
		var s sight
		c, err := a.handleOf(ctx, m.request, m.cred, &s)
		if err != nil || (c.State != domain.CredRevoking && c.State != domain.CredUndoing) {
			return err
		}
		a.reuse.drop(m.request, c.ID)
		return a.settleEnd(ctx, m.request, c, a.lookTwice(c, ended), nil, &s)
	})
	if err != nil {
		a.log.Warn("the end of a credential could not be written; it is ended once more", "credential", string(m.cred.ID), "error", err)
	}
}
