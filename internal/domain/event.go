package domain

import (
	"slices"
	"time"
)

// EventKind is what an event of the feed tells of.
type EventKind string

// The kinds of event, each made from an entry of a request's history.
const (
	EventFiled         EventKind = "filed"
	EventDecided       EventKind = "decided"
	EventGranted       EventKind = "granted"
	EventDenied        EventKind = "denied"
	EventCancelled     EventKind = "cancelled"
	EventExpired       EventKind = "expired"
	EventVoid          EventKind = "void"
	EventEnded         EventKind = "ended"
	EventRevoked       EventKind = "revoked"
	EventBreakGlass    EventKind = "break_glass"
	EventReviewOwed    EventKind = "review_owed"
	EventReviewOverdue EventKind = "review_overdue"
	EventReviewed      EventKind = "reviewed"
	EventRevokeFailed  EventKind = "revoke_failed"
	EventRotateFailed  EventKind = "rotate_failed"
	EventEscalated     EventKind = "escalated" // nobody decided in time: others can
)

// EventKinds lists all kinds in the order in which docs print them.
func EventKinds() []EventKind {
	return []EventKind{
		EventFiled, EventDecided, EventGranted, EventDenied, EventCancelled, EventExpired, EventVoid, EventEnded,
		EventRevoked, EventBreakGlass, EventReviewOwed, EventReviewOverdue, EventReviewed, EventRevokeFailed, EventRotateFailed, EventEscalated,
	}
}

// AlwaysKept tells whether events of a kind are in the feed whatever the
// settings say: those that somebody must hear of.
func (k EventKind) AlwaysKept() bool {
	switch k {
	case EventBreakGlass, EventReviewOwed, EventReviewOverdue, EventReviewed, EventRevokeFailed, EventRotateFailed, EventEscalated:
		return true
	case EventFiled, EventDecided, EventGranted, EventDenied, EventCancelled, EventExpired, EventVoid, EventEnded, EventRevoked:
	}
	return false
}

// EventOf is the kind of event that an entry of a history makes; "" = none.
func EventOf(what string) EventKind {
	switch RequestEvent(what) {
	case Approved, Planned:
		return EventGranted
	case Refused:
		return EventDenied
	case Withdrawn:
		return EventCancelled
	case Lapsed:
		return EventExpired
	case WindowOver, GivenBack:
		return EventEnded
	case Killed:
		return EventRevoked
	case Voided:
		return EventVoid
	case Started:
		return ""
	}
	switch what {
	case string(Approve), string(Deny):
		return EventDecided
	case "revocation_failed":
		return EventRevokeFailed
	case "rotation_failed":
		return EventRotateFailed
	}
	if k := EventKind(what); slices.Contains(EventKinds(), k) {
		return k
	}
	return ""
}

// FeedEvent is one event as it is stored under its id, in at most 300 bytes:
// ids and no text of anybody.
type FeedEvent struct {
	ID      string    `json:"-"`
	At      time.Time `json:"t"`
	Kind    EventKind `json:"k"`
	Request RequestID `json:"r"`
	Role    string    `json:"o"`
	Glass   bool      `json:"g,omitempty"` // of a break-glass request
	N       int       `json:"n"`           // place of the entry in the request's history, from 1
	Head    string    `json:"h"`           // head of the history after that entry
}

// EventKept is how long events stay.
const EventKept = 7 * 24 * time.Hour

// Consumer is a reader of events and how far it has come.
type Consumer struct {
	Name   string    `json:"name"`
	Cursor string    `json:"cursor"`
	At     time.Time `json:"at"`
	Entity string    `json:"entity,omitempty"` // who said so last
	Person Person    `json:"person,omitempty"`
}

// RunBy tells whether a party is who runs the consumer. One that a token without
// identity made is taken over by whoever comes next.
func (c Consumer) RunBy(p Party) bool {
	return c.Entity == "" || c.Entity == p.Entity || c.Person != "" && c.Person == p.Person
}

// Unfed are the events that the history has and the feed has not, as far as
// they are wanted.
func (r Request) Unfed(wanted func(EventKind) bool) []FeedEvent {
	var out []FeedEvent
	head, n := r.History.Base, r.History.Folded
	for _, e := range r.History.Entries {
		head = link(head, e)
		n++
		if k := EventOf(e.What); n > r.Fed && k != "" && wanted(k) {
			out = append(out, FeedEvent{At: e.At, Kind: k, Request: r.ID, Role: r.Role, Glass: r.BreaksGlass(), N: n, Head: head})
		}
	}
	return out
}

// FedAll notes that the feed has everything up to now, and under which id a
// break-glass is there.
func (r Request) FedAll(events []FeedEvent) Request {
	r.Fed = r.History.Folded + len(r.History.Entries)
	r.Rev++
	for _, e := range events {
		if e.Kind == EventBreakGlass {
			r.glass(func(g *Glass) { g.Event = e.ID })
		}
	}
	return r
}

// RevocationFailed notes a failed revocation: the target's code, and when it is
// tried again. Only the first failure in a row is in the history.
func (r Request) RevocationFailed(id CredentialID, code string, again, now time.Time) (Request, error) {
	first := false
	next, err := r.Edit(id, func(c *Credential) {
		first = c.Attempts == 0
		c.Attempts++
		c.Problem, c.Due = code, again
	})
	if err == nil && first {
		next.note(now, Party{}, "revocation_failed", "credential "+string(id)+" could not be ended at the target; it is tried again")
	}
	return next, err
}
