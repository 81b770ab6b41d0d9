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
		return now
	case r.State == domain.Pending, r.State == domain.Scheduled && r.FirstRead:
		sooner(r.ExpiresAt)
	case r.State == domain.Scheduled:
		sooner(r.WindowStart)
	case r.State == domain.Active:
		sooner(r.WindowEnd)
	}
	for _, c := range r.Credentials {
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

// dueQueue is a heap of rows, the first due on top.
type dueQueue []*row

func (q dueQueue) Len() int { return len(q) }

func (q dueQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *dueQueue) Push(x any) {
	w, _ := x.(*row)
	w.place = len(*q)
	*q = append(*q, w)
}

// Pop implements heap.Interface.
func (q *dueQueue) Pop() any {
	old := *q
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	w.place = -1
	return w
}
