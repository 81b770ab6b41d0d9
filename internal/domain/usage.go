package domain

import (
	"maps"
	"math/bits"
	"time"
)

// Bounds of what is kept of a person's use of roles.
const (
	UsageKept  = 400 * 24 * time.Hour // what is older than this is forgotten
	MaxUsage   = 200                  // roles of one person; the one unused for longest goes first
	hoursOfDay = 24
)

// Usage is what is known of one person's use of one role, in a fixed size. It
// grows when a request closes, so a grant that is still open is not in it.
type Usage struct {
	First   time.Time `json:"first,omitzero"` // first credential of the first grant that was used
	Last    time.Time `json:"last,omitzero"`  // first credential of the last grant that was used
	Count   int       `json:"count,omitempty"`
	Denials int       `json:"denials,omitempty"`
	Denied  time.Time `json:"denied,omitzero"` // the last denial
	Hours   uint32    `json:"hours,omitempty"` // bit i: a grant was first used in hour i of the day, UTC
}

// DistinctHours counts the hours of the day (UTC) in which grants were first
// used, from 0 to 24.
func (u Usage) DistinctHours() int { return bits.OnesCount32(u.Hours) }

// Used is the usage after one more grant whose first credential was made at a
// time; zero = it had none.
func (u Usage) Used(at time.Time) Usage {
	if at.IsZero() {
		return u
	}
	at = at.UTC()
	if u.First.IsZero() || at.Before(u.First) {
		u.First = at
	}
	if at.After(u.Last) {
		u.Last = at
	}
	u.Count++
	u.Hours |= 1 << (at.Hour() % hoursOfDay)
	return u
}

// Closed is the usage after a request closed.
func (u Usage) Closed(r Request) Usage {
	u = u.Used(r.Times.FirstIssue)
	if r.State == Denied {
		u.Denials++
		u.Denied = r.Times.Closed
	}
	return u
}

// latest is when the person last used the role or was denied it.
func (u Usage) latest() time.Time {
	if u.Denied.After(u.Last) {
		return u.Denied
	}
	return u.Last
}

// Note takes a closed request into what is kept of its person. The receiver's
// map stays as it was.
func (p PersonRecord) Note(r Request, now time.Time) PersonRecord {
	next := p.Usage[r.Role].Closed(r)
	if next == (Usage{}) {
		return p
	}
	kept := maps.Clone(p.Usage)
	if kept == nil {
		kept = map[string]Usage{}
	}
	kept[r.Role] = next
	p.Usage = kept
	return p.Forget(now)
}

// Forget drops what is too old to be kept, and what is too much.
func (p PersonRecord) Forget(now time.Time) PersonRecord {
	kept := maps.Clone(p.Usage)
	maps.DeleteFunc(kept, func(_ string, u Usage) bool { return now.Sub(u.latest()) > UsageKept })
	for len(kept) > MaxUsage {
		oldest := ""
		for role, u := range kept {
			if o := kept[oldest]; oldest == "" || u.latest().Before(o.latest()) || u.latest().Equal(o.latest()) && role < oldest {
				oldest = role
			}
		}
		delete(kept, oldest)
	}
	if len(kept) == 0 {
		kept = nil
	}
	p.Usage = kept
	return p
}
