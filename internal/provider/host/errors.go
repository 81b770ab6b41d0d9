package host

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// refuse is a refusal of our own, for good: repeating will not help.
func refuse(op, code, public string) error {
	return &contract.Error{Op: op, Code: code, Public: public, Refused: true}
}

// statusError turns an answer that is no success into our words. Nothing of
// the answer's body is in it.
func statusError(op string, status int) *contract.Error {
	e := &contract.Error{Op: op, Code: fmt.Sprintf("http_%d", status)}
	switch {
	case status >= 300 && status < 400:
		e.Public, e.Refused = "the host answered with a redirect, which is never followed", true
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Public, e.Refused = "the host denied it; targets/:name/check lists what the login lacks", true
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		e.Public, e.Refused = "the host knows no such path or operation", true
	case status == http.StatusTooManyRequests:
		e.Public, e.Throttled = "the host asks for fewer calls", true
	case status == http.StatusPreconditionFailed:
		e.Public = "the host had not caught up with an earlier write"
	case status >= 472 && status <= 474:
		// What sys/health says of a standby, and of one that has no leader.
		e.Public = "the host is sealed or not ready"
	case status >= 400 && status < 500:
		e.Public, e.Refused = "the host did not accept the call", true
	case status == http.StatusServiceUnavailable:
		e.Public = "the host is sealed or not ready"
	default:
		e.Public = "the host failed"
	}
	return e
}

// transportError describes a call that got no answer. The address of the call
// is taken off the cause: it may name leases and roles.
func transportError(op string, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	e := &contract.Error{Op: op, Code: "no_answer", Public: "the host did not answer", Cause: err}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Code, e.Public = "timeout", "the host did not answer in time"
	case errors.Is(err, context.Canceled):
		e.Code, e.Public = "cancelled", "the call was cut short"
	}
	return e
}

// hasStatus tells whether err is the host's answer with that status.
func hasStatus(err error, status int) bool {
	e, ok := errors.AsType[*contract.Error](err)
	return ok && e.Code == fmt.Sprintf("http_%d", status)
}

// hadNoEffect tells whether the host refused a call outright, so that nothing
// came of it. Whoever stands between may answer with other errors.
func hadNoEffect(err error) bool {
	return slices.ContainsFunc([]int{
		http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
	}, func(status int) bool { return hasStatus(err, status) })
}
