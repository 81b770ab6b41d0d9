package domain

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// KindExtension is the kind under which more time is asked for a grant.
const KindExtension = "extension"

// LimitExtensions is how often one request can ask for more time.
const LimitExtensions = 16

// Extension is an ask for more time under an active request: a decision of its
// own, over the same grant.
type Extension struct {
	TTL           Seconds      `json:"ttl"` // that is asked on top
	Justification string       `json:"justification,omitempty"`
	Digest        string       `json:"digest"`
	FiledAt       time.Time    `json:"filed_at"`
	ExpiresAt     time.Time    `json:"expires_at"` // when nobody can decide any more
	State         RequestState `json:"state"`      // pending, active (granted), denied, cancelled
	Stage         int          `json:"stage,omitempty"`
	Decisions     []Decision   `json:"decisions,omitempty"`
	From          time.Time    `json:"from,omitzero"`     // end of the window before it was granted
	Granted       Seconds      `json:"granted,omitempty"` // seconds that were added
}

// Errors of extensions.
var (
	ErrNotActive      = errors.New("only an active grant can be extended")
	ErrExtending      = errors.New("an extension is being decided on already")
	ErrExtendedEnough = errors.New("the role's max_extension allows no more")
)

// Extending is the extension that waits for decisions at a moment, as a request
// of its own: what decides requests decides it.
func (r Request) Extending(now time.Time) (Request, bool) {
	if r.At(now) != Active || len(r.Extensions) == 0 {
		return Request{}, false
	}
	e := r.Extensions[len(r.Extensions)-1]
	if e.State != Pending || !now.Before(e.ExpiresAt) {
		return Request{}, false
	}
	return r.extension(e), true
}

func (r Request) extension(e Extension) Request {
	x := r
	x.Kind, x.State, x.TTL, x.Justification, x.Digest = KindExtension, Pending, e.TTL, e.Justification, e.Digest
	x.ExpiresAt, x.Stage, x.Decisions = e.ExpiresAt, e.Stage, e.Decisions
	x.StartTime, x.WindowStart, x.WindowEnd, x.Granted = r.WindowEnd, time.Time{}, time.Time{}, 0
	x.FirstRead, x.Extensions, x.Credentials, x.ReviewOwed, x.Observed = false, nil, nil, "", ""
	x.Times = Times{Requested: e.FiledAt}
	if e.State == Active {
		x.StartTime, x.Times.Quorum = e.From, e.FiledAt
		if n := len(e.Decisions); n > 0 {
			x.Times.Quorum = e.Decisions[n-1].At
		}
	}
	return x
}

// Extended are the granted extensions, each as a request with its decisions. Its
// start is the end of the window before it was granted.
func (r Request) Extended() []Request {
	var out []Request
	for _, e := range r.Extensions {
		if e.State == Active {
			out = append(out, r.extension(e))
		}
	}
	return out
}

// LastExtension is the one that was asked for last.
func (r Request) LastExtension() (Extension, bool) {
	if len(r.Extensions) == 0 {
		return Extension{}, false
	}
	return r.Extensions[len(r.Extensions)-1], true
}

// ExtendedBy is how much time was added so far.
func (r Request) ExtendedBy() Seconds {
	var sum Seconds
	for _, e := range r.Extensions {
		sum += e.Granted
	}
	return sum
}

// AskExtension files an extension. most is the role's max_extension.
func (r Request) AskExtension(e Extension, most Seconds, now time.Time) (Request, error) {
	switch _, open := r.Extending(now); {
	case r.At(now) != Active:
		return r, ErrNotActive
	case open:
		return r, ErrExtending
	case r.ExtendedBy()+e.TTL > most, len(r.Extensions) >= LimitExtensions:
		return r, ErrExtendedEnough
	}
	e.State, e.FiledAt = Pending, now
	if e.ExpiresAt.After(r.WindowEnd) {
		e.ExpiresAt = r.WindowEnd // what is over is not extended
	}
	r.Extensions = append(slices.Clone(r.Extensions), e)
	r.note(now, r.Requester, "extension asked", fmt.Sprintf("asked for %s more", e.TTL.Duration()))
	return r, nil
}

// DecideExtension puts a decision on the open extension on record, and what
// follows from it: x is the extension as Extending gave it, with the decision.
func (r Request) DecideExtension(x Request, by Party, o Outcome, now time.Time) (Request, error) {
	if _, open := r.Extending(now); !open {
		return r, ErrNotPending
	}
	r.Extensions = slices.Clone(r.Extensions)
	e := &r.Extensions[len(r.Extensions)-1]
	said := x.Decisions[len(e.Decisions):]
	e.Decisions, e.Stage = x.Decisions, o.Stage
	for _, d := range said {
		r.note(now, d.By, "extension "+string(d.Verdict), "decided on more time: "+string(d.Verdict))
	}
	switch {
	case o.Denied:
		e.State = Denied
		r.note(now, by, "extension denied", "more time was denied; the window still ends at "+stamp(r.WindowEnd))
	case o.Met && !o.Fallback: // nobody gets more time because nobody answered
		e.State, e.From, e.Granted = Active, r.WindowEnd, e.TTL
		if o.TTL > 0 {
			e.Granted = min(e.Granted, o.TTL)
		}
		r.WindowEnd = r.WindowEnd.Add(e.Granted.Duration())
		r.note(now, by, "extended", fmt.Sprintf("%s more; access until %s", e.Granted.Duration(), stamp(r.WindowEnd)))
	}
	r.Rev++
	return r, nil
}
