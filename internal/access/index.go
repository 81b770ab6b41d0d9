package access

import (
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// index is rebuilt from the records after every start. What is not indexed yet
// is still found by id.
type index struct {
	boot  string
	until func(domain.Handle) time.Time // how long a handle belongs on its target's list

	mu       sync.Mutex
	rows     map[domain.RequestID]*row
	all      ordered
	byPerson map[domain.Person]*ordered
	byRole   map[string]*ordered
	pending  map[waiting]*ordered
	byTarget map[string]*atTarget
	opened   int                           // requests that can still become or be a grant
	bares    int                           // rows of which there is but the id
	entering map[domain.RequestID]struct{} // that are about to be written
	queues   map[string]*dueQueue
	wanted   news // kinds of events that go to the feed
	unfed    map[domain.RequestID]struct{}
	waiting  map[domain.RequestID]chan struct{}
	complete bool
	ready    chan struct{}
}

// atTarget is what there is at one target.
type atTarget struct {
	rows ordered
	live int // credentials that may give access
	rest int // credentials that are not gone
}

func newIndex(boot string, until func(domain.Handle) time.Time) *index {
	return &index{
		boot: boot, until: until, rows: map[domain.RequestID]*row{},
		byPerson: map[domain.Person]*ordered{},
		entering: map[domain.RequestID]struct{}{},
		byRole:   map[string]*ordered{},
		pending:  map[waiting]*ordered{},
		byTarget: map[string]*atTarget{},
		queues:   map[string]*dueQueue{},
		wanted:   alwaysKept(),
		unfed:    map[domain.RequestID]struct{}{},
		waiting:  map[domain.RequestID]chan struct{}{},
		ready:    make(chan struct{}),
	}
}

// put takes a request as it was just read or written.
func (x *index) put(r domain.Request, now time.Time) {
	listed := x.listedOf(r)
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.row(r)
	x.count(w, -1)
	w.follow(r)
	w.listed = listed
	x.count(w, 1)
	delete(x.entering, r.ID) // it counts as what it is
	x.refeed(w)
	x.requeue(w, instantOf(dueAt(r, x.boot, now)))
	x.wake(r.ID)
}

// count adds a row to everything that is counted, or takes it out again (-1),
// which must happen before the row changes.
func (x *index) count(w *row, by int) {
	if w.state == "" {
		return // only its id, or who asked for what, is known
	}
	if !w.state.Terminal() {
		x.opened += by
	}
	t := x.byTarget[w.target()]
	t.live += by * int(w.live)
	t.rest += by * int(w.rest)
	switch {
	case !w.asks():
	case by > 0:
		link(x.pending, w.waiting(), w)
	default:
		unlink(x.pending, w.waiting(), w.id)
	}
}

// listedOf are the handles that belong on the target's list: of everything that
// is being ended, and of what has ended and left a remainder.
func (x *index) listedOf(r domain.Request) []domain.Handle {
	var out []domain.Handle
	for i := range r.Credentials {
		c := &r.Credentials[i]
		switch c.State {
		case domain.CredRevoking, domain.CredUndoing, domain.CredEnded:
			if !x.until(c.Handle).IsZero() {
				out = append(out, c.Handle)
			}
		case domain.CredIssuing, domain.CredActive, domain.CredGone:
		}
	}
	return out
}

// row finds or makes the row of a request. The caller holds mu.
func (x *index) row(r domain.Request) *row {
	w := x.bare(r.ID)
	if w.known {
		return w
	}
	w.describe(r)
	x.bares--
	link(x.byPerson, w.person(), w)
	link(x.byRole, w.role(), w)
	t := x.byTarget[w.target()]
	if t == nil {
		t = &atTarget{}
		x.byTarget[w.target()] = t
	}
	t.rows.add(w)
	return w
}

// bare finds or makes the row of an id. The caller holds mu.
func (x *index) bare(id domain.RequestID) *row {
	w, ok := x.rows[id]
	if !ok {
		w = &row{id: id}
		x.rows[id] = w
		x.bares++
		x.all.add(w)
	}
	return w
}

// doubt says that a write failed without a clear outcome: the record may exist
// although nobody knows of it. It is due at once, so that it is read again.
func (x *index) doubt(r domain.Request, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.row(r)
	w.sure = false
	x.requeue(w, instantOf(now))
}

// unread notes a request whose record could not be read, so that somebody tries
// again.
func (x *index) unread(id domain.RequestID, again time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.requeue(x.bare(id), instantOf(again))
}

// current tells whether a copy with that revision is what storage holds.
func (x *index) current(id domain.RequestID, rev uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	w, ok := x.rows[id]
	return ok && w.sure && w.rev == rev
}

// drop forgets a request that was archived.
func (x *index) drop(id domain.RequestID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w, ok := x.rows[id]
	if !ok {
		return
	}
	x.requeue(w, 0)
	x.count(w, -1)
	delete(x.rows, id)
	delete(x.unfed, id)
	x.all.remove(id)
	if !w.known {
		x.bares--
	} else {
		unlink(x.byPerson, w.person(), id)
		unlink(x.byRole, w.role(), id)
		t := x.byTarget[w.target()]
		if t.rows.remove(id); t.rows.empty() {
			delete(x.byTarget, w.target())
		}
	}
	x.wake(id)
}

func link[K comparable](m map[K]*ordered, k K, w *row) {
	if m[k] == nil {
		m[k] = &ordered{}
	}
	m[k].add(w)
}

func unlink[K comparable](m map[K]*ordered, k K, id domain.RequestID) {
	if m[k] == nil {
		return
	}
	if m[k].remove(id); m[k].empty() {
		delete(m, k)
	}
}

// has tells whether a request is indexed.
func (x *index) has(id domain.RequestID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.rows[id]
	return ok
}

// absent tells whether a request is surely not open: every record has been
// indexed, and it is not among them.
func (x *index) absent(id domain.RequestID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.rows[id]
	return x.complete && !ok
}

// finished says that every record has been indexed.
func (x *index) finished() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.complete {
		x.complete = true
		close(x.ready)
	}
}

// changed returns a channel that is closed at the next change of a request.
func (x *index) changed(id domain.RequestID) <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	ch, ok := x.waiting[id]
	if !ok {
		ch = make(chan struct{})
		x.waiting[id] = ch
	}
	return ch
}

func (x *index) wake(id domain.RequestID) {
	if ch, ok := x.waiting[id]; ok {
		close(ch)
		delete(x.waiting, id)
	}
}
