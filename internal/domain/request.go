package domain

import (
	"fmt"
	"time"
)

// KindNormal is the kind of a request that went the ordinary way.
const KindNormal = "normal"

// Party is somebody in a request as they were at that time.
type Party struct {
	Entity  string `json:"entity"`
	Person  Person `json:"person"`
	Name    string `json:"name"` // display only
	Machine bool   `json:"machine,omitempty"`
}

// Decision is one approver's approve or deny, bound to the digest.
type Decision struct {
	By      Party     `json:"by"`
	Verdict Verdict   `json:"verdict"`
	Comment string    `json:"comment,omitempty"`
	TTL     Seconds   `json:"ttl,omitempty"` // shortened window; 0 = as asked
	At      time.Time `json:"at"`
	Digest  string    `json:"digest"`
	Stage   int       `json:"stage,omitempty"` // at which it was given; the first is 0
}

// Times are the moments that service levels need. Zero = has not happened.
type Times struct {
	Requested       time.Time `json:"requested"`
	FirstDecision   time.Time `json:"first_decision,omitzero"`
	Quorum          time.Time `json:"quorum,omitzero"`
	FirstIssue      time.Time `json:"first_issue,omitzero"`
	RevokeAsked     time.Time `json:"revoke_asked,omitzero"`
	TargetConfirmed time.Time `json:"target_confirmed,omitzero"`
	FirstRefused    time.Time `json:"first_refused,omitzero"`
	Closed          time.Time `json:"closed,omitzero"`
}

// Request is one person's ask for one role, with its decisions, credentials
// and history. What it asks is immutable; everything else changes only through
// Apply, Decide and ApplyCredential.
type Request struct {
	ID             RequestID         `json:"id"`
	Kind           string            `json:"kind"`
	Role           string            `json:"role"`
	RoleRevision   string            `json:"role_revision"`
	Target         string            `json:"target"`
	TargetRevision string            `json:"target_revision"`
	Requester      Party             `json:"requester"`
	Justification  string            `json:"justification,omitempty"`
	Ticket         string            `json:"ticket,omitempty"`
	Params         map[string]string `json:"params,omitempty"`
	Principal      string            `json:"principal,omitempty"`
	TTL            Seconds           `json:"ttl"`
	StartTime      time.Time         `json:"start_time,omitzero"`
	Digest         string            `json:"digest"`
	Auto           bool              `json:"auto,omitempty"`       // the role approved by itself
	FirstRead      bool              `json:"first_read,omitempty"` // the window starts at the first read
	ClaimWithin    Seconds           `json:"claim_within,omitempty"`

	State       RequestState `json:"state"`
	ExpiresAt   time.Time    `json:"expires_at"`            // end of the pending life, or of the time to claim
	WindowStart time.Time    `json:"window_start,omitzero"` // once approved
	WindowEnd   time.Time    `json:"window_end,omitzero"`
	Granted     Seconds      `json:"granted,omitempty"` // window that was approved
	Decisions   []Decision   `json:"decisions,omitempty"`
	Stage       int          `json:"stage,omitempty"`       // that it waits at, as last derived: for lists
	Reconsider  time.Time    `json:"reconsider,omitzero"`   // when a stage will have waited in vain
	ReviewOwed  string       `json:"review_owed,omitempty"` // why somebody has to look at it afterwards
	Observed    string       `json:"observed,omitempty"`    // what the policy would have said, when it was only observed
	Extensions  []Extension  `json:"extensions,omitempty"`  // asks for more time, in their order
	Series      *Series      `json:"series,omitempty"`      // several runs approved at once
	Reason      string       `json:"reason,omitempty"`      // why it ended early, in our words or the revoker's
	Issued      int          `json:"issued,omitempty"`      // credentials ever planned
	Glass       *Glass       `json:"glass,omitempty"`       // of a break-glass
	Review      *Review      `json:"review,omitempty"`      // owed, or given
	Fed         int          `json:"fed,omitempty"`         // entries of the history that the feed of events has
	Times       Times        `json:"times"`
	Rev         uint64       `json:"rev"` // counts writes; compared when a lock was given up in between

	// What grows, at the end: Render renders it.
	Credentials []Credential `json:"credentials,omitempty"`
	History     History      `json:"history"`
}

// At is the state as it is seen at a moment: what lapsed counts as lapsed
// before anybody wrote it down. It never changes anything.
func (r Request) At(now time.Time) RequestState {
	if ev, due := r.Due(now); due {
		return requestMoves[r.State][ev]
	}
	return r.State
}

// Due is the event that time alone brings, if any is due.
func (r Request) Due(now time.Time) (RequestEvent, bool) {
	switch r.State {
	case Pending:
		if !now.Before(r.ExpiresAt) {
			return Lapsed, true
		}
	case Scheduled:
		switch {
		case r.FirstRead && !now.Before(r.ExpiresAt), !r.FirstRead && !now.Before(r.WindowEnd):
			return Lapsed, true
		case !r.FirstRead && !now.Before(r.WindowStart):
			return Started, true
		}
	case Active:
		if !now.Before(r.WindowEnd) {
			return WindowOver, true
		}
	case Ended, Denied, Cancelled, Expired, Revoked, Void:
	}
	return "", false
}

// File makes a new request out of what was asked. The caller has filled every
// field that is asked; File adds state and history.
func File(r Request, requestTTL Seconds, now time.Time) Request {
	r.State = Pending
	if r.Kind == "" {
		r.Kind = KindNormal
	}
	r.ExpiresAt = now.Add(requestTTL.Duration())
	// Nobody can grant a window that is over.
	if end := r.StartTime.Add(r.TTL.Duration()); !r.StartTime.IsZero() && !r.FirstRead && end.Before(r.ExpiresAt) {
		r.ExpiresAt = end
	}
	r.Times = Times{Requested: now}
	r.note(now, r.Requester, "filed", fmt.Sprintf("asked for role %s for %s", r.Role, r.TTL.Duration()))
	if r.Observed != "" {
		r.note(now, Party{}, "observed", "the policy is only observed: "+r.Observed)
	}
	return r
}

func (r *Request) note(now time.Time, by Party, what, text string) {
	r.History = r.History.add(Entry{At: now, By: Printable(by.Name), Who: by.Entity, What: what, Text: text})
	r.Rev++
}

// Decide adds one person's decision. It refuses a second one of the same
// person, the requester's own, and any on a request that is not pending.
func (r Request) Decide(d Decision, now time.Time) (Request, error) {
	if r.At(now) != Pending {
		return r, ErrNotPending
	}
	if d.By.Person == r.Requester.Person || d.By.Entity == r.Requester.Entity {
		return r, ErrOwnRequest
	}
	for _, old := range r.Decisions {
		if old.By.Person == d.By.Person || old.By.Entity == d.By.Entity {
			return r, ErrAlreadyDecided
		}
	}
	d.At = now
	r.Decisions = append(append([]Decision(nil), r.Decisions...), d)
	if r.Times.FirstDecision.IsZero() {
		r.Times.FirstDecision = now
	}
	text := "approved"
	if d.Verdict == Deny {
		text = "denied"
	} else if d.TTL > 0 {
		text = fmt.Sprintf("approved for at most %s", d.TTL.Duration())
	}
	r.note(now, d.By, string(d.Verdict), text)
	return r, nil
}

// Event is something that happens to a request, with who did it and why.
type Event struct {
	Kind    RequestEvent
	By      Party
	Reason  string  // shown to those who may see the request
	Outcome Outcome // for Approved and Planned: the quorum as derived
}

// Grant picks the event that a met quorum brings and carries the quorum along.
func (r Request) Grant(o Outcome, now time.Time) Event {
	ev := Event{Kind: Approved, Outcome: o}
	if r.FirstRead || r.StartTime.After(now) {
		ev.Kind = Planned
	}
	return ev
}

// Apply is the only way to change a request's state. It looks the move up in
// the table, refuses what is not there, and writes the history.
func (r Request) Apply(ev Event, now time.Time) (Request, error) {
	next, ok := requestMoves[r.State][ev.Kind]
	if !ok || !r.timely(ev.Kind, now) {
		return r, &MoveError{State: string(r.At(now)), Event: string(ev.Kind)}
	}
	if ev.Kind == Approved || ev.Kind == Planned {
		if !ev.Outcome.Met {
			return r, ErrNoQuorum
		}
		r.openWindow(ev, now)
	}
	if ev.Kind == Started {
		r.startWindow(now)
	}
	r.State = next
	if next.Terminal() {
		r.Times.Closed = now
		r.Reason = ev.Reason
		r.askEnd(now)
	}
	r.note(now, ev.By, string(ev.Kind), sentence(ev, r))
	return r, nil
}

// Escalated is the request after nobody decided in time: it waits on, and others
// can decide now.
func (r Request) Escalated(waitingFor string, now time.Time) Request {
	r.note(now, Party{}, string(EventEscalated), "nobody decided in time; it waits for "+waitingFor)
	return r
}

// Considered is the request after its policy was looked at once more: where it
// waits, and when a stage will have waited in vain.
func (r Request) Considered(role Role, o Outcome, now time.Time) Request {
	r.Stage = min(o.Stage, max(len(role.Staged())-1, 0))
	r.Reconsider = role.Reconsider(r.Times.Requested, now)
	if o.Met && o.Fallback {
		r.ReviewOwed = "nobody answered in time; the requester was on call"
	}
	r.Rev++
	return r
}

// timely tells whether an event may happen at that moment. What opens access
// needs a request that has not lapsed unseen, and the one event that its start
// asks for; what only time brings needs that time. What ends access always may.
func (r Request) timely(kind RequestEvent, now time.Time) bool {
	due, _ := r.Due(now)
	switch kind {
	case Approved, Planned:
		return due == "" && kind == r.Grant(Outcome{}, now).Kind
	case Started:
		return due == Started || r.FirstRead && due == ""
	case Lapsed, WindowOver:
		return due == kind
	case Refused, Withdrawn, GivenBack, Killed, Voided:
	}
	return true
}

// openWindow computes the access window from the quorum. An approval after the
// asked start opens the window at once and leaves its end where it was.
func (r *Request) openWindow(ev Event, now time.Time) {
	r.Granted = r.TTL
	if t := ev.Outcome.TTL; t > 0 && t < r.Granted {
		r.Granted = t
	}
	r.Times.Quorum = now
	if r.FirstRead {
		r.ExpiresAt = now.Add(r.ClaimWithin.Duration())
		return
	}
	from := now
	if !r.StartTime.IsZero() {
		from = r.StartTime
	}
	r.WindowStart, r.WindowEnd = from, from.Add(r.Granted.Duration())
	if from.Before(now) {
		r.WindowStart = now
	}
	if r.WindowEnd.Before(r.WindowStart) { // shortened to before now: over before it began
		r.WindowStart = r.WindowEnd
	}
}

func (r *Request) startWindow(now time.Time) {
	if r.FirstRead {
		r.WindowStart, r.WindowEnd = now, now.Add(r.Granted.Duration())
	}
}

// askEnd moves every credential that may exist towards its end. One whose
// access is gone keeps its time: clearing its remainder early could give the
// access back (a deny entry that outlived nothing).
func (r *Request) askEnd(now time.Time) {
	r.Credentials = append([]Credential(nil), r.Credentials...)
	for i := range r.Credentials {
		c := &r.Credentials[i]
		if !c.State.MayExist() {
			continue
		}
		if r.Times.RevokeAsked.IsZero() {
			r.Times.RevokeAsked = now
		}
		c.move(CredEndAsked)
		c.Due = now
	}
}

func sentence(ev Event, r Request) string {
	switch ev.Kind {
	case Approved:
		if r.Auto {
			return fmt.Sprintf("approved by the role itself until %s", stamp(r.WindowEnd))
		}
		return fmt.Sprintf("quorum of %d met; access until %s", ev.Outcome.Need, stamp(r.WindowEnd))
	case Planned:
		if r.FirstRead {
			return fmt.Sprintf("approved; the window of %s starts at the first read, until %s at the latest", r.Granted.Duration(), stamp(r.ExpiresAt))
		}
		return fmt.Sprintf("approved; access from %s until %s", stamp(r.WindowStart), stamp(r.WindowEnd))
	case Started:
		return fmt.Sprintf("the access window started and ends at %s", stamp(r.WindowEnd))
	case Refused:
		return "the request was denied"
	case Withdrawn:
		return "the requester withdrew the request"
	case Lapsed:
		return "nobody acted in time"
	case WindowOver:
		return "the access window ended"
	case GivenBack:
		return "the requester gave the access back"
	case Killed:
		return "the access was revoked"
	case Voided:
		return "role, target or person changed; the request is void"
	}
	return string(ev.Kind)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Open tells whether the request can still become or be a grant.
func (r Request) Open(now time.Time) bool { return !r.At(now).Terminal() }

// Finished tells whether nothing is left to do: terminal, and every credential
// gone.
func (r Request) Finished() bool {
	if !r.State.Terminal() {
		return false
	}
	for _, c := range r.Credentials {
		if c.State != CredGone {
			return false
		}
	}
	return true
}
