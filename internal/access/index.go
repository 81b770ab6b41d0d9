package access

import (
	"container/heap"
	"sort"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// row is what memory keeps of a request that is not archived: enough to find
// it, to list it, and to know when it is due.
type row struct {
	id        domain.RequestID
	role      string
	target    string
	ticket    string
	person    domain.Person
	entity    string
	name      string
	machine   bool
	state     domain.RequestState
	ttl       domain.Seconds
	approved  int
	deciders  []domain.Person
	filed     time.Time
	used      time.Time // first credential
	expires   time.Time // end of the pending life
	until     time.Time // end of the window
	roleRev   string
	targetRev string
	due       time.Time
	live      int
	rest      int // credentials that are not gone
	rev       uint64
	sure      bool            // rev is what storage holds
	place     int             // in the queue; -1 = not queued
	listed    []domain.Handle // of credentials being ended that belong on the target's list
}

// index is rebuilt from the records after every start. What is not indexed yet
// is still found by id.
type index struct {
	boot  string
	until func(domain.Handle) time.Time // how long a handle belongs on its target's list

	mu       sync.Mutex
	rows     map[domain.RequestID]*row
	byPerson map[domain.Person]map[domain.RequestID]*row
	byRole   map[string]map[domain.RequestID]*row
	byTarget map[string]map[domain.RequestID]*row
	queue    dueQueue
	waiting  map[domain.RequestID]chan struct{}
	complete bool
	ready    chan struct{}
}

func newIndex(boot string, until func(domain.Handle) time.Time) *index {
	return &index{
		boot: boot, until: until, rows: map[domain.RequestID]*row{},
		byPerson: map[domain.Person]map[domain.RequestID]*row{},
		byRole:   map[string]map[domain.RequestID]*row{},
		byTarget: map[string]map[domain.RequestID]*row{},
		waiting:  map[domain.RequestID]chan struct{}{},
		ready:    make(chan struct{}),
	}
}

// put takes a request as it was just read or written.
func (x *index) put(r domain.Request, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.row(r)
	w.state, w.ttl, w.filed, w.expires, w.until = r.State, r.TTL, r.Times.Requested, r.ExpiresAt, r.WindowEnd
	w.roleRev, w.targetRev, w.live, w.rest = r.RoleRevision, r.TargetRevision, r.Live(), r.NotGone()
	w.approved, w.used = approvals(r), r.Times.FirstIssue
	w.deciders = nil
	for _, d := range r.Decisions {
		w.deciders = append(w.deciders, d.By.Person)
	}
	w.listed = x.listedOf(r)
	w.rev, w.sure = r.Rev, true
	w.due = dueAt(r, x.boot, now)
	x.requeue(w)
	x.wake(r.ID)
}

// listedOf are the handles that belong on the target's list: of everything that
// is being ended, and of what has ended and left a remainder.
func (x *index) listedOf(r domain.Request) []domain.Handle {
	var out []domain.Handle
	for _, c := range r.Credentials {
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

// listedAt copies what belongs on a target's list.
func (x *index) listedAt(target string) []domain.Handle {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []domain.Handle
	for _, w := range x.byTarget[target] {
		out = append(out, w.listed...)
	}
	return out
}

// row finds or makes the row of a request. What it says of who asked for what
// never changes. The caller holds mu.
func (x *index) row(r domain.Request) *row {
	w, ok := x.rows[r.ID]
	if ok && w.role != "" {
		return w
	}
	if !ok {
		w = &row{id: r.ID, place: -1}
		x.rows[r.ID] = w
	}
	w.role, w.target, w.ticket, w.person = r.Role, r.Target, r.Ticket, r.Requester.Person
	w.entity, w.name, w.machine = r.Requester.Entity, r.Requester.Name, r.Requester.Machine
	link(x.byPerson, w.person, w)
	link(x.byRole, w.role, w)
	link(x.byTarget, w.target, w)
	return w
}

func approvals(r domain.Request) int {
	n := 0
	for _, d := range r.Decisions {
		if d.Verdict == domain.Approve {
			n++
		}
	}
	return n
}

// doubt says that a write failed without a clear outcome: the record may exist
// although nobody knows of it. It is due at once, so that it is read again.
func (x *index) doubt(r domain.Request, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.row(r)
	w.sure, w.due = false, now
	x.requeue(w)
}

// unread notes a request whose record could not be read, so that somebody tries
// again.
func (x *index) unread(id domain.RequestID, again time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w, ok := x.rows[id]
	if !ok {
		w = &row{id: id, place: -1}
		x.rows[id] = w
	}
	w.due = again
	x.requeue(w)
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
	delete(x.rows, id)
	unlink(x.byPerson, w.person, id)
	unlink(x.byRole, w.role, id)
	unlink(x.byTarget, w.target, id)
	if w.place >= 0 {
		heap.Remove(&x.queue, w.place)
	}
	x.wake(id)
}

func link[K comparable](m map[K]map[domain.RequestID]*row, k K, w *row) {
	if m[k] == nil {
		m[k] = map[domain.RequestID]*row{}
	}
	m[k][w.id] = w
}

func unlink[K comparable](m map[K]map[domain.RequestID]*row, k K, id domain.RequestID) {
	delete(m[k], id)
	if len(m[k]) == 0 {
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

// due takes, in order, up to n requests whose time has come. They are queued
// again when they are next read or written; postpone does that for one that
// was not.
func (x *index) due(now time.Time, n int) []domain.RequestID {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []domain.RequestID
	for len(out) < n && x.queue.Len() > 0 && !x.queue[0].due.After(now) {
		w, _ := heap.Pop(&x.queue).(*row)
		out = append(out, w.id)
	}
	return out
}

// postpone queues a request again that could not be worked on.
func (x *index) postpone(id domain.RequestID, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w, ok := x.rows[id]; ok {
		w.due = at
		x.requeue(w)
	}
}

func (x *index) requeue(w *row) {
	switch {
	case w.due.IsZero() && w.place >= 0:
		heap.Remove(&x.queue, w.place)
	case w.due.IsZero():
	case w.place >= 0:
		heap.Fix(&x.queue, w.place)
	default:
		heap.Push(&x.queue, w)
	}
}

// next tells when the first request is due; zero = none is queued.
func (x *index) next() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.queue.Len() == 0 {
		return time.Time{}
	}
	return x.queue[0].due
}

// pick copies the rows that keep accepts, in order of their ids.
func (x *index) pick(keep func(row) bool) []row {
	x.mu.Lock()
	defer x.mu.Unlock()
	return sorted(x.rows, keep)
}

// ofPerson copies a person's rows, in order of their ids.
func (x *index) ofPerson(p domain.Person) []row {
	x.mu.Lock()
	defer x.mu.Unlock()
	return sorted(x.byPerson[p], nil)
}

// ofRole copies a role's rows, in order of their ids.
func (x *index) ofRole(role string) []row {
	x.mu.Lock()
	defer x.mu.Unlock()
	return sorted(x.byRole[role], nil)
}

// ofTarget copies a target's rows, in order of their ids.
func (x *index) ofTarget(target string) []row {
	x.mu.Lock()
	defer x.mu.Unlock()
	return sorted(x.byTarget[target], nil)
}

func sorted(rows map[domain.RequestID]*row, keep func(row) bool) []row {
	out := make([]row, 0, len(rows))
	for _, w := range rows {
		if keep == nil || keep(*w) {
			out = append(out, *w)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].id < out[j].id })
	return out
}

// open counts the requests of the mount that can still become or be a grant.
func (x *index) open() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, w := range x.rows {
		if !w.state.Terminal() {
			n++
		}
	}
	return n
}

// liveAt counts the credentials of a target that may give access.
func (x *index) liveAt(target string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, w := range x.byTarget[target] {
		n += w.live
	}
	return n
}

// restAt counts the credentials of a target that are not gone.
func (x *index) restAt(target string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, w := range x.byTarget[target] {
		n += w.rest
	}
	return n
}

// restBefore counts the credentials of a target that are not gone, under
// requests that were filed until a time.
func (x *index) restBefore(target string, at time.Time) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, w := range x.byTarget[target] {
		if !w.filed.After(at) {
			n += w.rest
		}
	}
	return n
}
