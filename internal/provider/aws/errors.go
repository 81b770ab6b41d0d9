package aws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// family groups AWS's error codes by what follows from them.
type family int

const (
	unknown     family = iota
	absent             // there is no such thing
	taken              // the name is in use
	contended          // somebody else is changing it; the same call may work later
	full               // a quota is used up
	throttled          // fewer calls
	denied             // the identity may not do this
	login              // the root credential is not accepted
	refused            // the request is wrong and stays wrong
	unavailable        // AWS, or the way there, is at fault
)

// fact is what one code means.
type fact struct {
	family family
	text   string
}

// facts is every code that the provider tells apart. Sources: the common
// errors and the per-action errors in the API references of STS, IAM, IAM
// Identity Center, Identity Store and Organizations.
//
//nolint:gochecknoglobals // constant table
var facts = map[string]fact{
	"NoSuchEntity":              {absent, "there is no such thing at AWS"},
	"NoSuchEntityException":     {absent, "there is no such thing at AWS"},
	"ResourceNotFoundException": {absent, "there is no such thing at AWS"},
	"PolicyNotFoundException":   {absent, "there is no such policy in the organization"},

	"EntityAlreadyExists": {taken, "that name is in use at AWS already"},

	"ConcurrentModification":          {contended, "somebody else is changing the same thing at AWS"},
	"ConcurrentModificationException": {contended, "somebody else is changing the same thing at AWS"},
	"ConflictException":               {contended, "AWS is still busy with another change of the same thing"},
	"DeleteConflict":                  {contended, "something still hangs on what is to be deleted"},
	"EntityTemporarilyUnmodifiable":   {contended, "AWS does not allow changes to it at this moment"},

	"LimitExceeded":                 {full, "a quota of the AWS account is used up"},
	"LimitExceededException":        {full, "a quota of the AWS account is used up"},
	"ServiceQuotaExceededException": {full, "a quota of the AWS account is used up"},
	"ConstraintViolationException":  {full, "a quota of the AWS organization is used up"},

	"Throttling":               {throttled, tooMany},
	"ThrottlingException":      {throttled, tooMany},
	"ThrottledException":       {throttled, tooMany},
	"RequestLimitExceeded":     {throttled, tooMany},
	"RequestThrottled":         {throttled, tooMany},
	"TooManyRequestsException": {throttled, tooMany},
	"SlowDown":                 {throttled, tooMany},

	"AccessDenied":                     {denied, notAllowed},
	"AccessDeniedException":            {denied, notAllowed},
	"UnauthorizedOperation":            {denied, notAllowed},
	"AuthorizationError":               {denied, notAllowed},
	"UnmodifiableEntity":               {denied, "AWS lets nobody change that role or user"},
	"PolicyChangesInProgressException": {contended, "AWS is still busy with another change of the same policy"},

	"ExpiredToken":                {login, badRoot},
	"ExpiredTokenException":       {login, badRoot},
	"InvalidClientTokenId":        {login, badRoot},
	"UnrecognizedClientException": {login, badRoot},
	"InvalidAccessKeyId":          {login, badRoot},
	"OptInRequired":               {login, badRoot},
	"IncompleteSignature":         {login, badRoot},
	"MissingAuthenticationToken":  {login, badRoot},
	"SignatureDoesNotMatch":       {login, "AWS does not accept the signature: secret_key is wrong, or the region is not the one of the endpoint"},
	"InvalidSignatureException":   {login, "AWS does not accept the signature: secret_key is wrong, or the region is not the one of the endpoint"},
	"RequestExpired":              {login, "AWS does not accept the time of the request: check the clock of this machine"},
	"RegionDisabledException":     {login, "STS is not enabled in that region for this account"},

	"MalformedPolicyDocument":          {refused, badPolicy},
	"MalformedPolicyDocumentException": {refused, badPolicy},
	"PackedPolicyTooLarge":             {refused, tooLarge},
	"PackedPolicyTooLargeException":    {refused, tooLarge},
	"ValidationError":                  {refused, badRequest},
	"ValidationException":              {refused, badRequest},
	"InvalidInput":                     {refused, badRequest},
	"InvalidInputException":            {refused, badRequest},
	"InvalidParameterValue":            {refused, badRequest},
	"InvalidAction":                    {refused, "the endpoint does not know that call"},
	"NotImplemented":                   {refused, "the endpoint does not know that call"},

	"ServiceFailure":              {unavailable, noAnswer},
	"ServiceFailureException":     {unavailable, noAnswer},
	"InternalFailure":             {unavailable, noAnswer},
	"InternalServerException":     {unavailable, noAnswer},
	"InternalServerError":         {unavailable, noAnswer},
	"ServiceUnavailable":          {unavailable, noAnswer},
	"ServiceUnavailableException": {unavailable, noAnswer},
	"ServiceException":            {unavailable, noAnswer},
}

const (
	tooMany    = "AWS asks for fewer calls"
	notAllowed = "AWS does not allow this: see the check of the target for missing permissions and the trust policy of the role"
	badRoot    = "AWS does not accept the root credential of the target"
	badPolicy  = "AWS does not accept the policy as valid"
	tooLarge   = "session policy and session tags together are too large for AWS once it has packed them: shorten policy_document or session_tags"
	badRequest = "AWS does not accept a value of the request, as the role sets it"
	noAnswer   = "AWS failed to carry out the call"
	noWay      = "AWS could not be reached"
	noTime     = "AWS did not answer in time"
	strange    = "AWS gave an answer that is not expected here"
)

// Codes of our own, for failures that have none from AWS.
const (
	codeTimeout   = "timeout"
	codeCancelled = "cancelled"
	codeTransport = "unreachable"
	codeUnknown   = "unexpected"
)

var (
	codeForm    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	requestForm = regexp.MustCompile(`^[A-Za-z0-9-]{8,64}$`)
)

// trace is what the log may know of an upstream error: nothing that AWS wrote
// for people.
type trace struct {
	Code    string
	Status  int
	Request string
}

// Error implements error.
func (t *trace) Error() string {
	return fmt.Sprintf("code %s, HTTP status %d, AWS request id %q", t.Code, t.Status, t.Request)
}

// failed makes a contract.Error of whatever a call at AWS returned; nil stays
// nil and an error of ours stays as it is.
func failed(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*contract.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &contract.Error{Op: op, Code: codeTimeout, Public: noTime, Cause: context.DeadlineExceeded}
	case errors.Is(err, context.Canceled):
		return &contract.Error{Op: op, Code: codeCancelled, Public: "the call was cut short", Cause: context.Canceled}
	}
	t := traceOf(err)
	f, ok := facts[t.Code]
	if !ok {
		f = factOfStatus(t)
	}
	return &contract.Error{
		Op: op, Code: t.Code, Public: f.text, Cause: t,
		Refused: f.family == denied || f.family == refused || f.family == full, Throttled: f.family == throttled,
	}
}

// traceOf takes from an SDK error what may be known of it.
func traceOf(err error) *trace {
	t := &trace{Code: codeUnknown}
	var api smithy.APIError
	if errors.As(err, &api) && codeForm.MatchString(api.ErrorCode()) {
		t.Code = api.ErrorCode()
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		t.Status = response.HTTPStatusCode()
	}
	if id, ok := requestID(err); ok {
		t.Request = id
	}
	var sent *smithyhttp.RequestSendError
	var network net.Error
	if t.Code == codeUnknown && (errors.As(err, &sent) || errors.As(err, &network)) {
		t.Code = codeTransport
	}
	return t
}

// requestID finds the id under which AWS can look a call up.
func requestID(err error) (string, bool) {
	var response interface{ ServiceRequestID() string }
	if !errors.As(err, &response) {
		return "", false
	}
	id := response.ServiceRequestID()
	return id, requestForm.MatchString(id)
}

// factOfStatus judges an error whose code is not in the list.
func factOfStatus(t *trace) fact {
	switch {
	case t.Code == codeTransport:
		return fact{unavailable, noWay}
	case t.Status == http.StatusTooManyRequests:
		return fact{throttled, tooMany}
	case t.Status >= http.StatusInternalServerError:
		return fact{unavailable, noAnswer}
	case t.Status == http.StatusForbidden:
		return fact{denied, notAllowed}
	case t.Status >= http.StatusBadRequest:
		return fact{refused, badRequest}
	}
	return fact{unavailable, strange}
}

// familyOf judges any error, ours or of the SDK.
func familyOf(err error) family {
	if err == nil {
		return unknown
	}
	if known, ok := errors.AsType[*contract.Error](err); ok {
		if t, ok := errors.AsType[*trace](known.Cause); ok {
			if f, ok := facts[t.Code]; ok {
				return f.family
			}
			return factOfStatus(t).family
		}
		switch known.Code {
		case codeTimeout, codeCancelled:
			return unavailable
		case errLate.Code:
			return contended
		}
		return unknown
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return unavailable
	}
	t := traceOf(err)
	if f, ok := facts[t.Code]; ok {
		return f.family
	}
	return factOfStatus(t).family
}

func isAbsent(err error) bool { return familyOf(err) == absent }
func isTaken(err error) bool  { return familyOf(err) == taken }

// worthAnotherTry tells whether the same call may work a moment later.
func worthAnotherTry(err error) bool {
	switch familyOf(err) {
	case taken, contended, full, throttled, unavailable:
		return true
	case unknown, absent, denied, login, refused:
	}
	return false
}

// nothingDone tells whether AWS answered that it did not carry out the call:
// then nothing exists that the call would have made.
func nothingDone(err error) bool {
	switch familyOf(err) {
	case absent, taken, full, throttled, denied, login, refused:
		return true
	case unknown, contended, unavailable:
	}
	return false
}
