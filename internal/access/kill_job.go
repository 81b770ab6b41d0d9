package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

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

// maxOutcome bounds what one look at a job reads and lists.
const maxOutcome = 1000

// KillJob tells how far a pull of the kill switch has come, credential by
// credential. Of a big one it reads only what may still give access, and counts
// the rest in memory: people look at it again and again. nil = no such job.
func (a *Access) KillJob(ctx context.Context, id string) (*JobView, error) {
	if !domain.ValidID(id) {
		return nil, nil //nolint:nilnil // unknown
	}
	job, err := a.store.Job(ctx, id)
	if err != nil || job == nil {
		return nil, err
	}
	ids := job.Requests
	for _, more := range job.More {
		part, err := a.store.Job(ctx, more)
		if err != nil {
			return nil, err
		}
		if part == nil {
			continue // retention is over
		}
		ids = append(ids, part.Requests...)
		job.Marked = job.Marked && part.Marked
	}
	v := &JobView{Job: *job, Requests: len(ids)}
	if len(ids) <= maxOutcome {
		return v, a.readOutcome(ctx, v, ids)
	}
	return v, a.countOutcome(ctx, v, ids)
}

// readOutcome reads what became of every request.
func (a *Access) readOutcome(ctx context.Context, v *JobView, ids []domain.RequestID) error {
	for _, id := range ids {
		r, err := a.store.Request(ctx, id)
		if err != nil {
			return err
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
		}
		v.list(*r)
	}
	return nil
}

// countOutcome counts what became of many requests, and reads some of those that
// may still give access.
func (a *Access) countOutcome(ctx context.Context, v *JobView, ids []domain.RequestID) error {
	if err := a.indexed(ctx); err != nil {
		return err // who is not known yet would count as ended
	}
	var open []domain.RequestID
	v.Marked, v.Live, open = a.index.ended(ids, maxOutcome)
	v.Gone = max(v.Job.Live-v.Live, 0)
	for _, id := range open {
		r, err := a.store.OpenRequest(ctx, id)
		if err != nil {
			return err
		}
		if r != nil {
			v.list(*r)
		}
	}
	return nil
}

func (v *JobView) list(r domain.Request) {
	for _, c := range r.Credentials {
		if len(v.Outcome) < maxOutcome {
			v.Outcome = append(v.Outcome, CredentialOutcome{Request: r.ID, Credential: c.ID, State: c.State, Problem: c.Problem})
		}
	}
}

// ended counts the requests among some that have ended and the credentials of
// all that may give access, and names the first n requests that have any. What
// is not known any more is archived.
func (x *index) ended(ids []domain.RequestID, n int) (ended, live int, open []domain.RequestID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range ids {
		w, ok := x.rows[id]
		if !ok || w.known && w.state.Terminal() {
			ended++
		}
		if !ok || w.live == 0 {
			continue
		}
		live += int(w.live)
		if len(open) < n {
			open = append(open, id)
		}
	}
	return ended, live, open
}
