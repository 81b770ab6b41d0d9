package access

import (
	"context"
	"errors"
	"maps"
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
	id     domain.RequestID
	job    *job // the background's own until done
	done   chan struct{}
	issued contract.Issued
	err    error
	fetch  time.Time // until when somebody may fetch it
}

var errBroke = errors.New("the issue did not finish")

func newPreparing() *preparing { return &preparing{jobs: map[domain.RequestID]*preparation{}} }

func (p *preparing) get(id domain.RequestID) *preparation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.jobs[id]
}

// put starts a preparation unless there is one under that request; it returns
// the one that counts.
func (p *preparing) put(id domain.RequestID, x *preparation) *preparation {
	p.mu.Lock()
	defer p.mu.Unlock()
	if other, ok := p.jobs[id]; ok {
		return other
	}
	p.jobs[id] = x
	return x
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
	x := &preparation{id: j.req.ID, job: j, done: make(chan struct{}), err: errBroke}
	role, compose := j.role, j.ask.Compose
	if first := a.preparing.put(x.id, x); first != x {
		// Another read was quicker: both get the same one.
		j.land()
		_ = a.undo(ctx, j, errMeanwhile()) // it answers with the reason it was given
		return a.deliver(ctx, first, role, compose)
	}
	a.background.Go(func() {
		defer a.recovered("issue in the background")
		defer close(x.done)
		defer j.land()
		issued, err := a.issueAt(a.life, j, true)
		if err != nil {
			j.land() // a revocation waits for it
			err = a.undo(a.life, j, err)
		}
		x.issued, x.err, x.fetch = issued, err, a.now().Add(fetchWithin)
	})
	return a.deliver(ctx, x, role, compose)
}

// prepared looks for an issue that is on its way under a grant.
func (a *Access) prepared(ctx context.Context, role *domain.Role, r *domain.Request, ask CredsAsk) (*Answer, bool, error) {
	x := a.preparing.get(r.ID)
	if x == nil {
		return nil, false, nil
	}
	if r.Series != nil && !maps.Equal(x.job.in.Params, ask.Params) {
		return nil, true, fault.New(fault.Conflict, fault.CodeBusy, "busy: another run of this series is being prepared", nil).With("poll_after_seconds", 10)
	}
	ans, err := a.deliver(ctx, x, role, ask.Compose)
	return ans, true, err
}

// deliver waits for a preparation within the call's budget.
func (a *Access) deliver(ctx context.Context, x *preparation, role *domain.Role, compose bool) (*Answer, error) {
	select {
	case <-x.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.clock.After(callBudget - 5*time.Second):
		return nil, errPreparing(role, x.id)
	}
	if !a.preparing.take(x.id, x) {
		return nil, errPreparing(role, x.id)
	}
	if x.err != nil {
		return nil, x.err
	}
	x.job.role, x.job.ask.Compose = role, compose
	return a.settle(ctx, x.job, x.issued)
}

func errPreparing(role *domain.Role, id domain.RequestID) error {
	return fault.New(fault.Conflict, fault.CodePreparing,
		"credential preparing: the target is still making it; read again", nil).
		With("poll_after_seconds", 10).With("request_id", string(id)).With("role", role.Name).With("state", string(domain.Active))
}

// dropStale undoes what was prepared and never fetched.
func (a *Access) dropStale(ctx context.Context) {
	for _, x := range a.preparing.stale(a.now()) {
		if x.err == nil {
			a.log.Warn("nobody fetched a prepared credential; it is undone", "request", string(x.id))
			// It answers with the reason it was given.
			_ = a.undo(ctx, x.job, errMeanwhile())
		}
	}
}
