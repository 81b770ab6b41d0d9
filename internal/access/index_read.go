package access

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// listedAt copies what belongs on a target's list.
func (x *index) listedAt(target string) []domain.Handle {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []domain.Handle
	if t := x.byTarget[target]; t != nil {
		t.rows.after("", func(w *row) bool {
			out = append(out, w.listed...)
			return true
		})
	}
	return out
}

// scan visits every row whose record was read, in order of their ids, until
// visit says to stop. It must neither keep nor change a row, nor call anybody.
func (x *index) scan(after domain.RequestID, visit func(*row) (more bool)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all.after(after, func(w *row) bool { return !w.known || visit(w) })
}

// ids are those of the rows that keep accepts, in order.
func (x *index) ids(keep func(*row) bool) []domain.RequestID {
	var out []domain.RequestID
	x.scan("", func(w *row) bool {
		if keep(w) {
			out = append(out, w.id)
		}
		return true
	})
	return out
}

// unknown are the requests of which there is but the id: their records could not be
// read so far.
func (x *index) unknown() []domain.RequestID {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []domain.RequestID
	x.all.after("", func(w *row) bool {
		if !w.known {
			out = append(out, w.id)
		}
		return true
	})
	return out
}

// held is what the walk over people looks at in a request.
type held struct {
	id        domain.RequestID
	undecided bool
	stake
}

// stake is on what it depends whether somebody may keep a request. Many share one.
type stake struct {
	terms     unique.Handle[terms]
	requester unique.Handle[requester]
	glass     bool
}

// openAfter copies into what it is given, as far as that has room, the rows after
// an id that can still become or be a grant.
func (x *index) openAfter(after domain.RequestID, into []held) []held {
	into = into[:0]
	x.scan(after, func(w *row) bool {
		if !w.state.Terminal() {
			into = append(into, held{w.id, w.state.Undecided(), stake{w.terms, w.requester, w.glass}})
		}
		return len(into) < cap(into)
	})
	return into
}

// unsettledAt are the requests that may name credentials of a target that are
// not gone. One whose record could not be read might name any.
func (x *index) unsettledAt(target string) []domain.RequestID {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []domain.RequestID
	x.all.after("", func(w *row) bool {
		if !w.known || w.target() == target && (w.rest > 0 || !w.sure) {
			out = append(out, w.id)
		}
		return true
	})
	return out
}

// byTheirTarget groups requests by target, in the order given; those that are
// not known any more are a group of their own.
func (x *index) byTheirTarget(ids []domain.RequestID) map[string][]domain.RequestID {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[string][]domain.RequestID{}
	for _, id := range ids {
		target := ""
		if w, ok := x.rows[id]; ok && w.known {
			target = w.target()
		}
		out[target] = append(out[target], id)
	}
	return out
}

// ofPerson copies a person's rows, in order of their ids.
func (x *index) ofPerson(p domain.Person) []row {
	x.mu.Lock()
	defer x.mu.Unlock()
	return copied(x.byPerson[p])
}

// only is the one request of a person that is, or is about to be, their grant for
// a role. Not ok where memory knows of none or of several, may not know them all,
// or would have to look at many.
func (x *index) only(p domain.Person, role string) (id domain.RequestID, ok bool) {
	const most = 32 // more than people may have open, unless the settings allow it
	x.mu.Lock()
	defer x.mu.Unlock()
	rows := x.byPerson[p]
	if !x.complete || x.bares > 0 || rows == nil {
		return "", false
	}
	seen, found := 0, 0
	rows.after("", func(w *row) bool {
		seen++
		if w.role() == role && (w.state == domain.Active || w.state == domain.Scheduled || !w.sure) {
			id, ok = w.id, w.sure
			found++
		}
		return seen <= most
	})
	return id, ok && found == 1 && seen <= most
}

// ofRole copies a role's rows, in order of their ids.
func (x *index) ofRole(role string) []row {
	x.mu.Lock()
	defer x.mu.Unlock()
	return copied(x.byRole[role])
}

// ofTarget copies a target's rows, in order of their ids.
func (x *index) ofTarget(target string) []row {
	x.mu.Lock()
	defer x.mu.Unlock()
	if t := x.byTarget[target]; t != nil {
		return copied(&t.rows)
	}
	return nil
}

func copied(rows *ordered) []row {
	var out []row
	rows.after("", func(w *row) bool {
		out = append(out, *w)
		return true
	})
	return out
}

// pendingAt tells for what requests wait for a decision.
func (x *index) pendingAt() []waiting {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Collect(maps.Keys(x.pending))
}

// pendingOf copies the first n requests after an id that wait for these
// decisions and that keep accepts, in order of their ids. No more than n are
// kept of each.
func (x *index) pendingOf(what []waiting, after domain.RequestID, n int, keep func(*row) bool) []row {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []row
	for _, one := range what {
		taken := 0
		x.pending[one].after(after, func(w *row) bool {
			if keep(w) {
				out = append(out, *w)
				taken++
			}
			return taken < n
		})
	}
	slices.SortFunc(out, func(a, b row) int { return strings.Compare(string(a.id), string(b.id)) })
	return out[:min(n, len(out))]
}

// open counts the requests of the mount that can still become or be a grant.
func (x *index) open() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.opened
}

// enter keeps a place for a request that is about to be written, if fewer than most
// are open or about to be: people who file at once are under no lock in common.
func (x *index) enter(id domain.RequestID, most int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.opened+len(x.entering) >= most {
		return false
	}
	x.entering[id] = struct{}{}
	return true
}

// leave gives the place back of a request that was not written after all.
func (x *index) leave(id domain.RequestID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.entering, id)
}

// liveAt counts the credentials of a target that may give access.
func (x *index) liveAt(target string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	if t := x.byTarget[target]; t != nil {
		return t.live
	}
	return 0
}

// restAt counts the credentials of a target that are not gone.
func (x *index) restAt(target string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	if t := x.byTarget[target]; t != nil {
		return t.rest
	}
	return 0
}

// restBefore counts the credentials of a target that are not gone, under
// requests that were filed until a time.
func (x *index) restBefore(target string, at time.Time) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	if t := x.byTarget[target]; t != nil {
		t.rows.after("", func(w *row) bool {
			if !w.filed.time().After(at) {
				n += int(w.rest)
			}
			return true
		})
	}
	return n
}
