package access

import (
	"context"
	"errors"

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

// DecideMany decides on several requests in the order of their ids, each as if
// alone: one that is refused does not stop the others.
func (a *Access) DecideMany(ctx context.Context, c Caller, d BulkDecision, ids []domain.RequestID) ([]Decided, error) {
	if _, err := a.actor(ctx, c); err != nil {
		return nil, err
	}
	out := make([]Decided, 0, len(ids))
	for _, id := range ids {
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

// expected tells whether an error is an answer of ours about one request, and
// not a failure that would meet the next one too.
func expected(err error) bool {
	f, ok := errors.AsType[*fault.Error](err)
	return ok && (f.Kind == fault.Conflict || f.Kind == fault.Denied || f.Kind == fault.Invalid || f.Kind == fault.Absent)
}
