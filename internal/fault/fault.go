// Package fault is the one error type that carries a text for the caller. What
// is public is written on purpose; the cause goes to the log and nowhere else.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says whose fault it is, and so which status the caller sees.
type Kind int

// The kinds, with the HTTP status that the boundary in handler.go gives them.
const (
	Invalid  Kind = iota + 1 // 400: the input is wrong; nothing was changed
	Conflict                 // 400 with data: the state does not allow it now
	Denied                   // 403 with data: not this caller, or not any more
	Absent                   // 404: no such thing, or none the caller may know of
	Upstream                 // 502: the target did not do what was asked
	Internal                 // 500: ours
)

// Code names a state or a refusal for programs. The list is closed: docs print
// it and a test walks it.
type Code string

// The codes.
const (
	CodeInvalid        Code = "invalid_input"
	CodePending        Code = "approval_pending"
	CodeScheduled      Code = "not_started"
	CodeNoGrant        Code = "no_active_grant"
	CodeEnded          Code = "request_ended"
	CodeExpired        Code = "request_expired"
	CodeCancelled      Code = "request_cancelled"
	CodeVoid           Code = "request_void"
	CodeWindowEnding   Code = "window_ending"
	CodePreparing      Code = "credential_preparing"
	CodeBusy           Code = "busy"
	CodeAmbiguous      Code = "request_id_needed"
	CodeNotEligible    Code = "not_eligible"
	CodeNotApprover    Code = "not_an_approver"
	CodeRequestDenied  Code = "request_denied"
	CodeRevoked        Code = "request_revoked"
	CodeHeld           Code = "held"
	CodeLogin          Code = "log_in_again"
	CodeFreshLogin     Code = "fresh_login_needed"
	CodeAlreadyDecided Code = "already_decided"
	CodeNotPending     Code = "not_pending"
	CodeNotActive      Code = "not_active"
	CodeDigest         Code = "digest_mismatch"
	CodeRoleChanged    Code = "role_changed"
	CodeLimit          Code = "limit_reached"
	CodeRate           Code = "rate_limited"
	CodeLive           Code = "live_credentials"
	CodeInUse          Code = "target_in_use"
	CodePlace          Code = "place_changed"
	CodeWeak           Code = "revocation_too_weak"
	CodeProposed       Code = "edit_proposed"
	CodeStale          Code = "proposal_stale"
	CodeEpoch          Code = "epoch_unfinished"
	CodeReviewOwed     Code = "review_owed"
	CodeEditor         Code = "recent_editor"
	CodeTarget         Code = "target_refused"
	CodeUpstream       Code = "target_failed"
	CodePolicy         Code = "policy_refused"
	CodeHours          Code = "closed_now"
	CodeInternal       Code = "internal"
)

// Codes is the closed list in the order in which docs print it.
func Codes() []Code {
	return []Code{
		CodeInvalid, CodePending, CodeScheduled, CodeNoGrant, CodeEnded, CodeExpired, CodeCancelled, CodeVoid,
		CodeWindowEnding, CodePreparing, CodeBusy, CodeAmbiguous, CodeNotEligible, CodeNotApprover,
		CodeRequestDenied, CodeRevoked, CodeHeld, CodeLogin, CodeFreshLogin, CodeAlreadyDecided, CodeNotPending, CodeNotActive,
		CodeDigest, CodeRoleChanged, CodeLimit, CodeRate, CodeLive, CodeInUse, CodePlace, CodeWeak, CodeProposed, CodeStale, CodeEpoch,
		CodeTarget, CodeUpstream, CodePolicy, CodeHours,
		CodeReviewOwed, CodeEditor, CodeInternal,
	}
}

// Error is a failure with a text that the caller may read.
type Error struct {
	Kind   Kind
	Code   Code
	Public string         // our own words: no user text, no upstream text, no secret
	Data   map[string]any // extra scalars for the answer; may be nil
	cause  error
}

// New makes a fault. cause may be nil; it is logged, never shown.
func New(kind Kind, code Code, public string, cause error) *Error {
	return &Error{Kind: kind, Code: code, Public: public, cause: cause}
}

// Newf makes a fault without a cause, with a formatted public text.
func Newf(kind Kind, code Code, format string, args ...any) *Error {
	return New(kind, code, fmt.Sprintf(format, args...), nil)
}

// With returns the fault with one more datum for the answer.
func (e *Error) With(key string, value any) *Error {
	out := *e
	out.Data = map[string]any{key: value}
	for k, v := range e.Data {
		if k != key {
			out.Data[k] = v
		}
	}
	return &out
}

// Error implements error with the public text alone.
func (e *Error) Error() string { return e.Public }

// Unwrap gives the cause to errors.Is and errors.As, and to the log.
func (e *Error) Unwrap() error { return e.cause }

// From finds the fault in err, or makes an internal one whose text says
// nothing about it.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return New(Internal, CodeInternal, "internal error: the operation was not completed; see the log of the plugin", err)
}

// Is tells whether err is a fault with that code.
func Is(err error, code Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// Problems gathers everything that is wrong with one input, so that it can be
// answered at once.
type Problems struct{ list []string }

// Add notes one problem: the field in question and what is wrong with it, in
// our own words and never with the value.
func (p *Problems) Add(field, text string) {
	p.list = append(p.list, field+": "+text)
}

// Addf notes one problem with a formatted text.
func (p *Problems) Addf(field, format string, args ...any) {
	p.Add(field, fmt.Sprintf(format, args...))
}

// Empty tells whether nothing was found.
func (p *Problems) Empty() bool { return len(p.list) == 0 }

// List returns what was found, in order.
func (p *Problems) List() []string { return p.list }

// Err is nil, or one fault that names every problem.
func (p *Problems) Err() error {
	if p.Empty() {
		return nil
	}
	return New(Invalid, CodeInvalid, "invalid input: "+strings.Join(p.list, "; "), nil).
		With("problems", append([]string(nil), p.list...))
}
