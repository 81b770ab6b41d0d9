package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Codes of failures that the target itself said nothing about.
const (
	CodeUnreachable = "unreachable"
	CodeTimeout     = "timeout"
	CodeCertificate = "certificate"
	CodeLocal       = "local_address"
	CodeAnswer      = "bad_answer"
	// CodeOwnIdentity is of roles that reach the engine's own identity.
	CodeOwnIdentity = "own_identity"
)

// Causes that stay recognisable when the words of an error are dropped.
var (
	ErrLocal   = errors.New("the address is this machine or its link")
	ErrTooLong = errors.New("the answer is too long")
	ErrAnswer  = errors.New("the answer is not one of the cloud's")
)

// Unanswered puts a failure on the way to a target into our own words. who is
// the target as people call it: "Google".
func Unanswered(op, who string, err error) *contract.Error {
	e := &contract.Error{Op: op, Code: CodeUnreachable, Public: who + " could not be reached", Cause: WithoutText(err)}
	var (
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		timeout     net.Error
	)
	switch {
	case errors.Is(err, ErrLocal):
		e.Code, e.Refused = CodeLocal, true
		e.Public = "the service's name leads to this machine or its link, which only PIM_ALLOW_LOCAL=true permits"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Code, e.Public = CodeTimeout, who+" did not answer in the time there was"
	case errors.As(err, &certificate), errors.As(err, &record):
		e.Code, e.Refused, e.Public = CodeCertificate, true, "what answers has no certificate that can be trusted"
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Code, e.Public = CodeTimeout, who+" did not answer in the time there was"
	case errors.Is(err, ErrAnswer), errors.Is(err, ErrTooLong):
		e.Code, e.Public = CodeAnswer, "the answer is not one of "+who+"'s"
	}
	return e
}

// WithoutText keeps what programs look for in an error and drops its words,
// which may be somebody else's.
func WithoutText(err error) error {
	if err == nil {
		return nil
	}
	for _, plain := range []error{
		context.Canceled, context.DeadlineExceeded, ErrLocal, ErrTooLong, ErrAnswer, fs.ErrNotExist, fs.ErrPermission, net.ErrClosed,
	} {
		if errors.Is(err, plain) {
			return plain
		}
	}
	return fmt.Errorf("error of type %T", err)
}

// IsOwnIdentity tells whether an error is that a role reaches the engine.
func IsOwnIdentity(err error) bool {
	own, ok := errors.AsType[*contract.Error](err)
	return ok && own.Code == CodeOwnIdentity
}
