package gcp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

var (
	codeForm       = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	permissionForm = regexp.MustCompile(`^[a-z][A-Za-z0-9]*(\.[A-Za-z0-9]+){2,3}$`)
)

// publicOf is the part of an error of ours that people may read.
func publicOf(err error) string {
	if own, ok := errors.AsType[*contract.Error](err); ok {
		return own.Public
	}
	return "is not readable"
}

// apiError is what Google said, without its words.
type apiError struct {
	status     int
	code       string // PERMISSION_DENIED, invalid_grant, or HTTP_412
	reason     string // SERVICE_DISABLED; "" where Google gave none
	permission string // the permission that is lacking, if Google named one
	absent     bool   // the words say that something does not exist
	retryAfter time.Duration
}

// Error implements error.
func (e *apiError) Error() string { return fmt.Sprintf("Google answered %d (%s)", e.status, e.code) }

// answerBody is the body of a refusal, in Google's two forms.
type answerBody struct {
	Error       json.RawMessage `json:"error"`
	Description string          `json:"error_description"`
}

type answerError struct {
	Message string `json:"message"`
	Status  string `json:"status"`
	Details []struct {
		Reason   string            `json:"reason"`
		Metadata map[string]string `json:"metadata"`
	} `json:"details"`
	Errors []struct {
		Reason string `json:"reason"`
	} `json:"errors"`
}

// readAPIError reads a refusal. Nothing of the text that came back is kept; a
// phrase that tells reasons apart is looked for and not repeated.
func readAPIError(status int, header http.Header, raw []byte) *apiError {
	e := &apiError{status: status, code: fmt.Sprintf("HTTP_%d", status), retryAfter: retryAfter(header)}
	var body answerBody
	if err := json.Unmarshal(raw, &body); err != nil {
		return e
	}
	var oauth string
	if err := json.Unmarshal(body.Error, &oauth); err == nil { // RFC 6749
		if codeForm.MatchString(oauth) {
			e.code = oauth
		}
		return e
	}
	var inner answerError
	if err := json.Unmarshal(body.Error, &inner); err != nil {
		return e
	}
	if codeForm.MatchString(inner.Status) {
		e.code = inner.Status
	} else if len(inner.Errors) > 0 && codeForm.MatchString(inner.Errors[0].Reason) {
		e.code = inner.Errors[0].Reason
	}
	e.absent = strings.Contains(inner.Message, "does not exist")
	for _, d := range inner.Details {
		if e.reason == "" && codeForm.MatchString(d.Reason) {
			e.reason = d.Reason
		}
		if p := d.Metadata["permission"]; len(p) <= 100 && permissionForm.MatchString(p) {
			e.permission = p
		}
	}
	return e
}

func retryAfter(h http.Header) time.Duration {
	var seconds int
	if _, err := fmt.Sscanf(h.Get("Retry-After"), "%d", &seconds); err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

func statusOf(err error) int {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.status
	}
	return 0
}

func isAbsent(err error) bool { return statusOf(err) == http.StatusNotFound }

// isConflict tells whether somebody else changed the policy meanwhile.
func isConflict(err error) bool {
	s := statusOf(err)
	return s == http.StatusConflict || s == http.StatusPreconditionFailed
}

// isUnknownMember tells whether a policy was refused because a principal in it
// does not exist, which is what a new account looks like for a while.
func isUnknownMember(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.status == http.StatusBadRequest && e.absent
}

// isAnswer tells whether Google itself refused, so that nothing was done.
func isAnswer(err error) bool {
	s := statusOf(err)
	return s >= 400 && s < 500
}

// failure puts an error of Google, or of the way there, into our own words.
func failure(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*contract.Error](err); ok {
		return err
	}
	if api, ok := errors.AsType[*apiError](err); ok {
		return fromAPI(op, api)
	}
	return unanswered(op, err)
}

func fromAPI(op string, a *apiError) error {
	e := &contract.Error{Op: op, Code: a.code, Cause: a}
	if a.reason != "" && a.status == http.StatusForbidden {
		e.Code = a.reason
	}
	switch a.status {
	case http.StatusUnauthorized:
		e.Refused, e.Public = true, "Google does not accept the engine's own credential"
	case http.StatusForbidden:
		e.Refused, e.Public = true, forbidden(a)
	case http.StatusNotFound:
		e.Refused, e.Public = true, "Google has no such project, service account, role or resource"
	case http.StatusConflict, http.StatusPreconditionFailed:
		e.Public = "it was changed or made by somebody else at the same time"
	case http.StatusTooManyRequests:
		e.Throttled, e.Public = true, "a quota of Google's is used up, or Google asks to be called less often"
	case http.StatusBadRequest:
		e.Refused, e.Public = true, badRequest(a)
	default:
		if a.status >= 500 {
			e.Public = "Google could not do it now"
			break
		}
		e.Refused, e.Public = true, "Google refused the call"
	}
	return e
}

// forbidden tells the reasons apart for which Google answers 403.
func forbidden(a *apiError) string {
	switch {
	case a.reason == "SERVICE_DISABLED":
		return "this API is not enabled in the engine's project"
	case a.reason == "BILLING_DISABLED":
		return "the project has no active billing account"
	case a.reason == "ORG_RESTRICTION_VIOLATION", a.reason == "SECURITY_POLICY_VIOLATED", a.reason == "VPC_SERVICE_CONTROLS":
		return "a perimeter or restriction of the organization forbids it"
	case a.permission != "":
		return "the engine's own identity lacks the permission " + a.permission
	}
	return "the engine's own identity lacks a permission there, or there is no such thing; the target's check names what is missing"
}

func badRequest(a *apiError) string {
	switch {
	case a.code == "invalid_grant" || a.code == "invalid_client" || a.code == "unauthorized_client":
		return "Google does not accept the engine's own credential"
	case a.code == "FAILED_PRECONDITION":
		return "an organization policy forbids it, or the state of the resource does"
	case a.absent:
		return "Google does not know a principal or role that it names"
	}
	return "Google found the call invalid: a role that cannot be granted here, a principal that it does not know, or a limit"
}

// unanswered is for calls that Google said nothing to, or nothing that can be
// read.
func unanswered(op string, err error) error {
	var (
		syntax *json.SyntaxError
		typ    *json.UnmarshalTypeError
	)
	e := remote.Unanswered(op, "Google", err)
	if e.Code == remote.CodeUnreachable && (errors.As(err, &syntax) || errors.As(err, &typ) || errors.Is(err, io.ErrUnexpectedEOF)) {
		e.Code, e.Public = remote.CodeAnswer, "the answer is not one of Google's"
	}
	return e
}
