package access

import (
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// dueAt is when somebody has to look at a request next; zero = never.
func dueAt(r domain.Request, boot string, now time.Time) time.Time {
	var due time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	switch {
	case r.Finished():
		return finishedDue(r, now)
	case r.State == domain.Pending, r.State == domain.Scheduled && r.FirstRead:
		sooner(r.ExpiresAt)
		sooner(r.Reconsider)
	case r.State == domain.Scheduled:
		sooner(r.WindowStart)
	case r.State == domain.Active:
		sooner(r.WindowEnd)
	}
	for i := range r.Credentials {
		c := &r.Credentials[i]
		switch c.State {
		case domain.CredIssuing:
			if c.Boot != boot {
				sooner(now)
			} else {
				sooner(c.Due)
			}
		case domain.CredActive:
			sooner(c.Expires)
		case domain.CredRevoking, domain.CredUndoing, domain.CredEnded:
			sooner(c.Due)
		case domain.CredGone:
		}
	}
	return due
}

// dueQueue is a heap of the rows of one target, the first due on top.
type dueQueue struct {
	target string
	rows   []*row
}

// Len implements heap.Interface.
func (q *dueQueue) Len() int { return len(q.rows) }

// Less implements heap.Interface.
func (q *dueQueue) Less(i, j int) bool { return q.rows[i].due < q.rows[j].due }

// Swap implements heap.Interface.
func (q *dueQueue) Swap(i, j int) {
	q.rows[i], q.rows[j] = q.rows[j], q.rows[i]
	q.rows[i].place, q.rows[j].place = int32(i), int32(j) //nolint:gosec // memory ends far below
}

// Push implements heap.Interface.
func (q *dueQueue) Push(x any) {
	w, _ := x.(*row)
	w.queue, w.place = q, int32(len(q.rows)) //nolint:gosec // memory ends far below
	q.rows = append(q.rows, w)
}

// Pop implements heap.Interface.
func (q *dueQueue) Pop() any {
	last := len(q.rows) - 1
	w := q.rows[last]
	q.rows[last] = nil
	q.rows = q.rows[:last]
	w.queue = nil
	return w
}
