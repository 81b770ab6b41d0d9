package access

import (
	"context"
	"errors"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// MaxBulk is how many requests one write may decide on.
const MaxBulk = 50

// BulkDecision is the same decision on several requests, each bound to its own
// digest.
type BulkDecision struct {
	Decision
	Digests map[domain.RequestID]string
}

// Decided is what became of one request of many.
type Decided struct {
	Request domain.RequestID
	State   domain.RequestState
	Have    int
	Need    int
	Problem error // why nothing was decided on it
}

// bulkBudget is how long one write goes on deciding. Deciding on one request may
// take another 10 s: so it is answered before clients and hosts give up.
const bulkBudget = 15 * time.Second

// DecideMany decides on several requests in the order of their ids, each as if
// alone: one that is refused does not stop the others. What there is no time left
// for is answered busy, and nothing was decided on it.
func (a *Access) DecideMany(ctx context.Context, c Caller, d BulkDecision, ids []domain.RequestID) ([]Decided, error) {
	if _, err := a.actor(ctx, c); err != nil {
		return nil, err
	}
	out, end := make([]Decided, 0, len(ids)), a.now().Add(bulkBudget)
	for _, id := range ids {
		if !a.now().Before(end) {
			out = append(out, Decided{Request: id, Problem: errNoTime()})
			continue
		}
		one := d.Decision
		one.Digest = d.Digests[id]
		done := Decided{Request: id}
		v, err := a.Decide(ctx, c, id, one)
		if err != nil {
			if ctx.Err() != nil || !expected(err) {
				return out, err
			}
			done.Problem = err
		} else {
			done.State, done.Have, done.Need = v.State, v.Have, v.Need
		}
		out = append(out, done)
	}
	return out, nil
}

func errNoTime() error {
	return fault.New(fault.Conflict, fault.CodeBusy, "busy: there was no time left to decide on this one; send it again", nil).
		With("poll_after_seconds", 1)
}

// expected tells whether an error is an answer about one request, as its target's
// failure is, and not a failure that would meet the next one too.
func expected(err error) bool {
	f, ok := errors.AsType[*fault.Error](err)
	return ok && (f.Kind == fault.Conflict || f.Kind == fault.Denied || f.Kind == fault.Invalid || f.Kind == fault.Absent || f.Kind == fault.Upstream)
}
