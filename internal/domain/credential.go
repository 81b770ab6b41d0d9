package domain

import (
	"errors"
	"fmt"
	"time"
)

// Errors of moves that the rules refuse.
var (
	ErrNotPending     = errors.New("the request is not pending")
	ErrOwnRequest     = errors.New("nobody decides on their own request")
	ErrAlreadyDecided = errors.New("this person has already decided")
	ErrNoQuorum       = errors.New("the quorum is not met")
	ErrNoCredential   = errors.New("no such credential")
)

// MoveError is an event that the table does not know in that state.
type MoveError struct{ State, Event string }

// Error implements error.
func (e *MoveError) Error() string { return fmt.Sprintf("%s: not possible while %s", e.Event, e.State) }

// Nonce is one lease on a shared credential.
type Nonce struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until"`
}

// Credential is one thing issued under a grant, with the handle that names all
// that may exist at the target.
type Credential struct {
	ID       CredentialID    `json:"id"`
	State    CredentialState `json:"state"`
	Handle   Handle          `json:"handle"`
	Boot     string          `json:"boot,omitempty"` // process that is issuing it; another one undoes it
	Call     string          `json:"call,omitempty"` // host's id of the call that is issuing it
	Planned  time.Time       `json:"planned"`        // when it was written down
	Expires  time.Time       `json:"expires"`        // when it ends by itself for us
	Until    time.Time       `json:"until"`          // no life at the target beyond this, as far as the target can carry one
	Due      time.Time       `json:"due,omitzero"`   // when the reaper looks next
	Attempts int             `json:"attempts,omitempty"`
	Problem  string          `json:"problem,omitempty"` // last failure of a revocation: the target's code, no text
	Why      string          `json:"why,omitempty"`     // why it ends
	Nonces   []Nonce         `json:"nonces,omitempty"`
	AccessAt time.Time       `json:"access_ended_at,omitzero"`
	GoneAt   time.Time       `json:"gone_at,omitzero"`
	// RefusedAfter is how long after the end a probe was first refused, in
	// milliseconds; 0 = not probed.
	RefusedAfter int64 `json:"refused_after_ms,omitempty"`
}

// MayExist tells whether something may still give access at the target.
func (s CredentialState) MayExist() bool { return s != CredGone && s != CredEnded }

func (c *Credential) move(ev CredentialEvent) bool {
	next, ok := credentialMoves[c.State][ev]
	if ok {
		c.State = next
	}
	return ok
}

// Credential finds a credential of the request.
func (r Request) Credential(id CredentialID) (Credential, bool) {
	for i := range r.Credentials {
		if r.Credentials[i].ID == id {
			return r.Credentials[i], true
		}
	}
	return Credential{}, false
}

// Live counts the credentials that may give access.
func (r Request) Live() int {
	n := 0
	for i := range r.Credentials {
		if r.Credentials[i].State.MayExist() {
			n++
		}
	}
	return n
}

// NotGone counts the credentials of which the target still holds something.
func (r Request) NotGone() int {
	n := 0
	for i := range r.Credentials {
		if r.Credentials[i].State != CredGone {
			n++
		}
	}
	return n
}

// keptGone is how many credentials that are gone a record keeps besides their
// lines in the history.
const keptGone = 32

// Plan writes down a credential before anything of it exists.
func (r Request) Plan(c Credential, now time.Time) Request {
	c.State, c.Planned = CredIssuing, now
	kept, over := make([]Credential, 0, len(r.Credentials)+1), len(r.Credentials)-r.NotGone()-keptGone
	for i := range r.Credentials { // the oldest of those that are gone come first
		if r.Credentials[i].State == CredGone && over > 0 {
			over--
			continue
		}
		kept = append(kept, r.Credentials[i])
	}
	r.Credentials = append(kept, c)
	r.Issued++
	r.note(now, Party{}, "planned_credential", "credential "+string(c.ID)+" is being issued")
	return r
}

// Edit changes bookkeeping of a credential: handle after a checkpoint, nonces,
// due time. It cannot change the state.
func (r Request) Edit(id CredentialID, edit func(*Credential)) (Request, error) {
	return r.change(id, func(c *Credential) error {
		state := c.State
		edit(c)
		c.State = state
		return nil
	})
}

func (r Request) change(id CredentialID, f func(*Credential) error) (Request, error) {
	r.Credentials = append([]Credential(nil), r.Credentials...)
	for i := range r.Credentials {
		if r.Credentials[i].ID != id {
			continue
		}
		r.Credentials[i].Nonces = append([]Nonce(nil), r.Credentials[i].Nonces...)
		if err := f(&r.Credentials[i]); err != nil {
			return r, err
		}
		r.Rev++
		return r, nil
	}
	return r, ErrNoCredential
}

// ApplyCredential is the only way to change a credential's state. Bookkeeping of
// it may change with it, as by Edit.
func (r Request) ApplyCredential(id CredentialID, ev CredentialEvent, why string, now time.Time, edits ...func(*Credential)) (Request, error) {
	before, _ := r.Credential(id)
	next, err := r.change(id, func(c *Credential) error {
		if !c.move(ev) {
			return &MoveError{State: string(c.State), Event: string(ev)}
		}
		c.Attempts, c.Problem = 0, ""
		switch ev {
		case CredFailed, CredEndAsked:
			if c.State != CredEnded { // its remainder is cleared in its own time, see askEnd
				c.Why, c.Due = why, now
			}
		case CredAccessOff, CredConfirmed:
			if c.AccessAt.IsZero() {
				c.AccessAt = now
			}
			if ev == CredConfirmed {
				c.GoneAt, c.Due = now, time.Time{}
			}
		case CredIssued:
			c.Boot, c.Call = "", "" // nobody is issuing it any more
		}
		state := c.State
		for _, edit := range edits {
			edit(c)
		}
		c.State = state
		return nil
	})
	if err != nil {
		return r, err
	}
	if before.AccessAt.IsZero() { // clearing a remainder is outside the service levels
		next.stampTimes(ev, now)
	}
	if after, _ := next.Credential(id); after.State != before.State {
		next.note(now, Party{}, string(ev), credentialSentence(id, ev, why))
	}
	return next, nil
}

func (r *Request) stampTimes(ev CredentialEvent, now time.Time) {
	switch ev {
	case CredIssued:
		if r.Times.FirstIssue.IsZero() {
			r.Times.FirstIssue = now
		}
	case CredEndAsked:
		if r.Times.RevokeAsked.IsZero() {
			r.Times.RevokeAsked = now
		}
	case CredAccessOff, CredConfirmed:
		r.Times.TargetConfirmed = now
	case CredFailed:
	}
}

func credentialSentence(id CredentialID, ev CredentialEvent, why string) string {
	switch ev {
	case CredIssued:
		return "credential " + string(id) + " was issued"
	case CredFailed:
		return "credential " + string(id) + " could not be issued and is undone"
	case CredEndAsked:
		return "credential " + string(id) + " is being ended: " + why
	case CredAccessOff:
		return "the access of credential " + string(id) + " ended at the target"
	case CredConfirmed:
		return "the target confirmed that credential " + string(id) + " is gone"
	}
	return string(ev)
}
