package azure

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

var (
	codeForm   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	aadstsForm = regexp.MustCompile(`AADSTS[0-9]{5,8}`)
)

func outside(op string) error {
	return contract.Refused(op, "exists_outside_pim", "your account already has this access outside pim; it is neither taken over nor ended")
}

// apiError is what the cloud said, without its words.
type apiError struct {
	status   int
	code     string
	existing bool // the words say that the reference is there already
}

// Error implements error.
func (e *apiError) Error() string { return fmt.Sprintf("the cloud answered %d (%s)", e.status, e.code) }

// graphBody is the body of a refusal of Graph's and ARM's.
type graphBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// readRefusal reads a refusal. Nothing of the text that came back is kept; a
// phrase that tells reasons apart is looked for and not repeated.
func readRefusal(status int, raw []byte) *apiError {
	e := &apiError{status: status, code: fmt.Sprintf("HTTP_%d", status)}
	var body graphBody
	if err := json.Unmarshal(raw, &body); err != nil {
		return e
	}
	if codeForm.MatchString(body.Error.Code) {
		e.code = body.Error.Code
	}
	e.existing = strings.Contains(body.Error.Message, "already exist")
	return e
}

// known turns an error of the SDK into what the cloud said, or nil.
func known(err error) *apiError {
	var (
		own   *apiError
		resp  *azcore.ResponseError
		login *azidentity.AuthenticationFailedError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &resp):
		e := &apiError{status: resp.StatusCode, code: fmt.Sprintf("HTTP_%d", resp.StatusCode)}
		if codeForm.MatchString(resp.ErrorCode) {
			e.code = resp.ErrorCode
		}
		return e
	case errors.As(err, &login) && login.RawResponse != nil:
		e := &apiError{status: login.RawResponse.StatusCode, code: fmt.Sprintf("HTTP_%d", login.RawResponse.StatusCode)}
		if code := aadstsForm.FindString(login.Error()); code != "" {
			e.status, e.code = http.StatusUnauthorized, code
		}
		return e
	}
	return nil
}

func statusOf(err error) int {
	if e := known(err); e != nil {
		return e.status
	}
	return 0
}

func codeOf(err error) string {
	if e := known(err); e != nil {
		return e.code
	}
	return ""
}

func isAbsent(err error) bool { return statusOf(err) == http.StatusNotFound }

// failure puts an error of the cloud, or of the way there, into our own words.
func failure(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, own := errors.AsType[*contract.Error](err); own {
		return err
	}
	if e := known(err); e != nil {
		return fromAPI(op, e)
	}
	return remote.Unanswered(op, "the cloud", err)
}

func fromAPI(op string, a *apiError) error {
	e := &contract.Error{Op: op, Code: a.code, Cause: a, Refused: a.status < http.StatusInternalServerError}
	if text := byCode(a.code); text != "" {
		e.Public = text
		return e
	}
	switch {
	case a.status == http.StatusUnauthorized:
		e.Public = "the cloud does not accept the engine's own credential"
	case a.status == http.StatusForbidden:
		e.Public = "the engine's own identity lacks a permission there; the target's check names what is missing"
	case a.status == http.StatusNotFound:
		e.Public = "the cloud has no such application, principal, group, role or scope"
	case a.status == http.StatusConflict || a.status == http.StatusPreconditionFailed:
		e.Refused, e.Public = false, "it was changed or made by somebody else at the same time"
	case a.status == http.StatusTooManyRequests:
		e.Refused, e.Throttled, e.Public = false, true, "the cloud asks to be called less often"
	case a.status >= http.StatusInternalServerError:
		e.Public = "the cloud could not do it now"
	default:
		e.Public = "the cloud refused the call"
	}
	return e
}

// byCode is what the cloud's more telling codes mean, or "".
func byCode(code string) string {
	switch code {
	case "Directory_QuotaExceeded":
		return "the engine owns as many directory objects as it may, deleted ones of the last 30 days included; see the target's check"
	case "RoleAssignmentLimitExceeded":
		return "the subscription has as many role assignments as Azure allows (4000)"
	case "DirectoryObjectSizeLimitExceeded", "Directory_ObjectSizeLimitExceeded":
		return "the application has as many passwords as fit into it"
	case "RoleDefinitionDoesNotExist":
		return "Azure knows no such role definition there"
	case "PrincipalNotFound", "SubjectNotFound":
		return "Azure does not know the account that the role is for"
	case "AADSTS700016", "AADSTS7000229":
		return "the tenant does not know the engine's application"
	case "AADSTS7000215", "AADSTS7000222", "AADSTS700027", "AADSTS700024":
		return "the tenant does not accept the engine's secret or certificate: it is wrong or has expired"
	case "AADSTS90002", "AADSTS900023":
		return "there is no such tenant"
	case "ActiveDurationTooShort":
		return "Azure assigns and ends no role within five minutes"
	case "RoleAssignmentRequestPolicyValidationFailed":
		return "the PIM settings of the role at Azure do not allow this assignment: it is longer than they allow, or they ask for something besides"
	case "PendingRoleAssignmentRequest":
		return "Azure is still at work on another request for the same role and account"
	case "AadPremiumLicenseRequired", "RoleAssignmentScheduleRequestsNotSupported":
		return "the tenant has no licence for time-bound role assignments"
	case "SubscriptionNotFound":
		return "there is no such subscription in the tenant"
	}
	return ""
}

// publicOf is the part of an error of ours that people may read.
func publicOf(err error) string {
	if own, ok := errors.AsType[*contract.Error](err); ok {
		return own.Public + " (" + own.Code + ")"
	}
	return "could not be read"
}
