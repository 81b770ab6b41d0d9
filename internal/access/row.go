package access

import (
	"time"
	"unique"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// row is what memory keeps of a request that is not archived: enough to find
// it, to list it, and to know when it is due. There may be as many as requests,
// so what many of them have in common is kept once.
type row struct {
	id        domain.RequestID
	ticket    string
	terms     unique.Handle[terms]
	requester unique.Handle[requester]
	state     domain.RequestState
	ttl       domain.Seconds
	deciders  []unique.Handle[domain.Person]
	filed     instant
	used      instant // first credential
	stage     int     // that it waits at
	expires   instant // end of the pending life
	extending instant // end of an extension that waits for a decision; 0 = none does
	until     instant // end of the window
	due       instant
	rev       uint64
	queue     *dueQueue       // where it is queued; nil = it is not
	listed    []domain.Handle // of credentials being ended that belong on the target's list
	place     int32           // in the queue
	approved  int32
	live      int32
	rest      int32 // credentials that are not gone
	news      news  // what the feed of events has not
	glass     bool  // a break-glass
	known     bool  // its record has been read; otherwise there is but the id
	sure      bool  // rev is what storage holds
}

// terms is under what a request was filed.
type terms struct {
	role, target       string
	roleRev, targetRev string
}

// requester is who filed it, as they were then.
type requester struct {
	person domain.Person
	entity string
	name   string
}

// waiting is what the answer to who may decide depends on.
type waiting struct {
	role  string
	stage int
}

func (w *row) waiting() waiting { return waiting{role: w.role(), stage: w.stage} }

func (w *row) role() string          { return w.terms.Value().role }
func (w *row) target() string        { return w.terms.Value().target }
func (w *row) person() domain.Person { return w.requester.Value().person }

func (w *row) scope() domain.Scope {
	who := w.requester.Value()
	return domain.Scope{Person: who.person, Entity: who.entity, Role: w.role(), Target: w.target(), Ticket: w.ticket}
}

func (w *row) decidedBy(p domain.Person) bool {
	for _, d := range w.deciders {
		if d.Value() == p {
			return true
		}
	}
	return false
}

// describe takes over what a request says of itself and never changes.
func (w *row) describe(r domain.Request) {
	w.known, w.ticket, w.glass = true, r.Ticket, r.BreaksGlass()
	w.terms = unique.Make(terms{role: r.Role, target: r.Target, roleRev: r.RoleRevision, targetRev: r.TargetRevision})
	w.requester = unique.Make(requester{person: r.Requester.Person, entity: r.Requester.Entity, name: r.Requester.Name})
}

// follow takes over what changes with every write.
func (w *row) follow(r domain.Request) {
	w.state, w.ttl = unique.Make(r.State).Value(), r.TTL
	w.filed, w.expires, w.until = instantOf(r.Times.Requested), instantOf(r.ExpiresAt), instantOf(r.WindowEnd)
	w.live, w.rest, w.approved = int32(r.Live()), int32(r.NotGone()), int32(approvals(r)) //nolint:gosec // a record holds far fewer
	w.stage, w.used, w.news = r.Stage, instantOf(r.Times.FirstIssue), newsOf(r)
	w.deciders, w.extending = nil, 0
	if x, ok := r.LastExtension(); ok && x.State == domain.Pending && w.state == domain.Active {
		w.stage, w.extending = x.Stage, instantOf(x.ExpiresAt)
		r.Decisions = x.Decisions
	}
	for _, d := range r.Decisions {
		w.deciders = append(w.deciders, unique.Make(d.By.Person))
	}
	w.rev, w.sure = r.Rev, true
}

// asks tells whether the request, or more time under it, waits for decisions.
func (w *row) asks() bool { return w.state == domain.Pending || w.extending != 0 }

// askedUntil is when nobody can decide any more.
func (w *row) askedUntil() instant {
	if w.extending != 0 {
		return w.extending
	}
	return w.expires
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

// instant is a time in milliseconds since 1970, rounded up; 0 = none. That is
// as fine as the clock of the use cases, in a third of the room.
type instant int64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instant(t.Add(time.Millisecond - 1).UnixMilli())
}

func (i instant) time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(i)).UTC()
}

// come tells whether that time has come; none never does.
func (i instant) come(now time.Time) bool { return i != 0 && int64(i) <= now.UnixMilli() }
