package access

import (
	"context"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// preparing keeps issues that take longer than a call may take. Work goes on in
// the background and the next read delivers; what nobody fetches is undone.
// Like the secrets it holds, it lives in memory alone: after a restart the
// record's boot id makes the reaper undo it.
type preparing struct {
	mu   sync.Mutex
	jobs map[domain.RequestID]*preparation
}

type preparation struct {
	job    *job
	done   chan struct{}
	issued contract.Issued
	err    error
	fetch  time.Time // until when somebody may fetch it
}

func newPreparing() *preparing { return &preparing{jobs: map[domain.RequestID]*preparation{}} }

func (p *preparing) get(id domain.RequestID) *preparation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.jobs[id]
}

func (p *preparing) put(id domain.RequestID, x *preparation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs[id] = x
}

// take removes a preparation; only one caller gets it.
func (p *preparing) take(id domain.RequestID, x *preparation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.jobs[id] != x {
		return false
	}
	delete(p.jobs, id)
	return true
}

// stale lists finished preparations that nobody fetched in time.
func (p *preparing) stale(now time.Time) []*preparation {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*preparation
	for id, x := range p.jobs {
		select {
		case <-x.done:
			if now.After(x.fetch) {
				delete(p.jobs, id)
				out = append(out, x)
			}
		default:
		}
	}
	return out
}

// prepare starts a slow issue and waits as long as the call may take.
func (a *Access) prepare(ctx context.Context, j *job) (*Answer, error) {
	x := &preparation{job: j, done: make(chan struct{}), fetch: a.now().Add(24 * time.Hour)}
	a.preparing.put(j.req.ID, x)
	a.background.Add(1)
	go func() {
		defer a.background.Done()
		issued, err := a.issueAt(context.WithoutCancel(ctx), j)
		if err != nil {
			err = a.undo(context.WithoutCancel(ctx), j, err)
		}
		x.issued, x.err, x.fetch = issued, err, a.now().Add(fetchWithin)
		close(x.done)
	}()
	return a.deliver(ctx, x)
}

// prepared looks for an issue that is on its way under a grant.
func (a *Access) prepared(ctx context.Context, role domain.Role, r domain.Request, ask CredsAsk) (*Answer, bool, error) {
	x := a.preparing.get(r.ID)
	if x == nil {
		return nil, false, nil
	}
	x.job.ask.Compose = ask.Compose
	x.job.role = role
	ans, err := a.deliver(ctx, x)
	return ans, true, err
}

// deliver waits for a preparation within the call's budget.
func (a *Access) deliver(ctx context.Context, x *preparation) (*Answer, error) {
	select {
	case <-x.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.clock.After(callBudget - 5*time.Second):
		return nil, errPreparing(x.job)
	}
	if !a.preparing.take(x.job.req.ID, x) {
		return nil, errPreparing(x.job)
	}
	if x.err != nil {
		return nil, x.err
	}
	return a.settle(ctx, x.job, x.issued, true)
}

func errPreparing(j *job) error {
	return fault.New(fault.Conflict, fault.CodePreparing,
		"credential preparing: the target is still making it; read again", nil).
		With("poll_after_seconds", 10).With("request_id", string(j.req.ID)).With("role", j.role.Name).With("state", string(domain.Active))
}

// dropStale undoes what was prepared and never fetched.
func (a *Access) dropStale(ctx context.Context) {
	for _, x := range a.preparing.stale(a.now()) {
		if x.err == nil {
			a.log.Warn("nobody fetched a prepared credential", "request", string(x.job.req.ID),
				"code", codeOf(a.undo(ctx, x.job, errMeanwhile())))
		}
	}
}
