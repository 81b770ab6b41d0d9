package domain

import "maps"

// RequestState is where a request stands.
type RequestState string

// The states of a request.
const (
	Pending   RequestState = "pending"
	Scheduled RequestState = "scheduled"
	Active    RequestState = "active"
	Ended     RequestState = "ended"
	Denied    RequestState = "denied"
	Cancelled RequestState = "cancelled"
	Expired   RequestState = "expired"
	Revoked   RequestState = "revoked"
	Void      RequestState = "void"
)

// RequestStates lists all states in the order in which docs print them.
func RequestStates() []RequestState {
	return []RequestState{Pending, Scheduled, Active, Ended, Denied, Cancelled, Expired, Revoked, Void}
}

// Undecided tells whether nothing has been opened under a request in s: it can
// still become void.
func (s RequestState) Undecided() bool { return s == Pending || s == Scheduled }

// Terminal tells whether nothing can follow s.
func (s RequestState) Terminal() bool { return len(requestMoves[s]) == 0 }

// RequestEvent is something that happens to a request.
type RequestEvent string

// The events of a request.
const (
	Approved   RequestEvent = "approved"  // the quorum is met and the window starts now
	Planned    RequestEvent = "planned"   // the quorum is met and the window starts later
	Started    RequestEvent = "started"   // the start time came, or the first read
	Refused    RequestEvent = "refused"   // an approver denied
	Withdrawn  RequestEvent = "withdrawn" // the requester cancelled
	Lapsed     RequestEvent = "lapsed"    // nobody decided, or nobody claimed, in time
	WindowOver RequestEvent = "window_over"
	GivenBack  RequestEvent = "given_back"
	Killed     RequestEvent = "killed" // somebody revoked it
	Voided     RequestEvent = "voided" // role, target or person changed under it
)

// requestMoves and credentialMoves are the whole life of a request and of a
// credential. Apply is their only reader; docs/concepts.md prints from them.
var requestMoves = map[RequestState]map[RequestEvent]RequestState{
	Pending: {
		Approved: Active, Planned: Scheduled, Refused: Denied, Withdrawn: Cancelled,
		Lapsed: Expired, Killed: Revoked, Voided: Void,
	},
	Scheduled: {Started: Active, Withdrawn: Cancelled, Lapsed: Expired, Killed: Revoked, Voided: Void},
	Active:    {WindowOver: Ended, GivenBack: Ended, Killed: Revoked},
}

// CredentialState is where a credential stands. One that may exist at the
// target is never in a terminal state.
type CredentialState string

// The states of a credential.
const (
	CredIssuing  CredentialState = "issuing"
	CredActive   CredentialState = "active"
	CredRevoking CredentialState = "revoking"
	CredUndoing  CredentialState = "undoing" // after a failed issue
	CredEnded    CredentialState = "ended"   // access is gone, a remainder is still to be cleared
	CredGone     CredentialState = "gone"    // the target confirmed
)

// CredentialStates lists all states in print order.
func CredentialStates() []CredentialState {
	return []CredentialState{CredIssuing, CredActive, CredRevoking, CredUndoing, CredEnded, CredGone}
}

// CredentialEvent is something that happens to a credential.
type CredentialEvent string

// The events of a credential.
const (
	CredIssued    CredentialEvent = "issued"
	CredFailed    CredentialEvent = "failed"
	CredEndAsked  CredentialEvent = "end_asked"
	CredAccessOff CredentialEvent = "access_off" // the target ended the access; a remainder is left
	CredConfirmed CredentialEvent = "confirmed"  // the target confirmed that nothing is left
)

var credentialMoves = map[CredentialState]map[CredentialEvent]CredentialState{
	CredIssuing:  {CredIssued: CredActive, CredFailed: CredUndoing, CredEndAsked: CredUndoing},
	CredActive:   {CredEndAsked: CredRevoking},
	CredRevoking: {CredEndAsked: CredRevoking, CredAccessOff: CredEnded, CredConfirmed: CredGone},
	CredUndoing:  {CredEndAsked: CredUndoing, CredAccessOff: CredEnded, CredConfirmed: CredGone},
	CredEnded:    {CredAccessOff: CredEnded, CredConfirmed: CredGone, CredEndAsked: CredEnded},
}

// RequestMoves returns a copy of the table, for docs and tests.
func RequestMoves() map[RequestState]map[RequestEvent]RequestState { return copyMoves(requestMoves) }

// CredentialMoves returns a copy of the table, for docs and tests.
func CredentialMoves() map[CredentialState]map[CredentialEvent]CredentialState {
	return copyMoves(credentialMoves)
}

func copyMoves[S, E comparable](in map[S]map[E]S) map[S]map[E]S {
	out := make(map[S]map[E]S, len(in))
	for s, row := range in {
		out[s] = maps.Clone(row)
	}
	return out
}
