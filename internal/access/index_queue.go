package access

import (
	"container/heap"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// dueTargets are the targets at which the time of a request has come; "" is
// that of requests whose record could not be read.
func (x *index) dueTargets(now time.Time) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []string
	for target, q := range x.queues {
		if q.rows[0].due.come(now) {
			out = append(out, target)
		}
	}
	return out
}

// due takes, in order, up to n requests of a target whose time has come. They
// are queued again when they are next read or written; postpone does that for
// one that was not.
func (x *index) due(target string, now time.Time, n int) []domain.RequestID {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []domain.RequestID
	for len(out) < n {
		q := x.queues[target]
		if q == nil || !q.rows[0].due.come(now) {
			break
		}
		w := q.rows[0]
		out = append(out, w.id)
		x.requeue(w, 0)
	}
	return out
}

// postpone queues a request again that could not be worked on.
func (x *index) postpone(id domain.RequestID, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w, ok := x.rows[id]; ok {
		x.requeue(w, instantOf(at))
	}
}

// requeue puts a row where its due time belongs; 0 = nowhere. Each target has a
// queue of its own: one at which everything is stuck hides nobody else's end.
func (x *index) requeue(w *row, due instant) {
	target := ""
	if w.known {
		target = w.target()
	}
	if q := w.queue; q != nil && (due == 0 || q.target != target) {
		if heap.Remove(q, int(w.place)); q.Len() == 0 {
			delete(x.queues, q.target)
		}
	}
	w.due = due
	switch {
	case due == 0:
	case w.queue != nil:
		heap.Fix(w.queue, int(w.place))
	default:
		q := x.queues[target]
		if q == nil {
			q = &dueQueue{target: target}
			x.queues[target] = q
		}
		heap.Push(q, w)
	}
}

// next tells when the first request is due at a target that is not passed over;
// zero = none is queued.
func (x *index) next(pass func(target string) bool) time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	var first instant
	for target, q := range x.queues {
		if due := q.rows[0].due; (first == 0 || due < first) && !pass(target) {
			first = due
		}
	}
	return first.time()
}
