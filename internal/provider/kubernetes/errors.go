package kubernetes

import (
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// publicEscalation says that the API server's escalation check refused.
const publicEscalation = "these rules exceed what the engine's own identity may grant: it must hold them itself, " +
	"or have the verbs escalate and bind"

var reason = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// failure puts an error of the API server, or of the way to it, into our own
// words. Nothing of the text that came back is kept: it holds names and
// messages of the cluster's own.
func failure(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, own := errors.AsType[*contract.Error](err); own {
		return err
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return fromStatus(op, status.Status())
	}
	return unanswered(op, err)
}

func unanswered(op string, err error) error {
	e := remote.Unanswered(op, "the API server", err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case e.Code == remote.CodeLocal:
		e.Public = "the API server's name leads to this machine or its link, which only PIM_ALLOW_LOCAL=true permits"
	case e.Code == remote.CodeCertificate && plain:
		e.Public = "what listens at host does not speak TLS"
	case e.Code == remote.CodeCertificate:
		e.Public = "the API server's certificate is not one that ca_cert vouches for"
	}
	return e
}

func fromStatus(op string, s metav1.Status) error {
	e := &contract.Error{Op: op, Code: string(s.Reason), Cause: fmt.Errorf("the API server answered %d", s.Code)}
	if !reason.MatchString(e.Code) || s.Reason == metav1.StatusReasonUnknown {
		e.Code = fmt.Sprintf("HTTP_%d", s.Code)
	}
	switch s.Reason {
	case metav1.StatusReasonUnauthorized:
		e.Refused, e.Public = true, "the API server does not accept the engine's own token"
	case metav1.StatusReasonForbidden:
		e.Refused, e.Public = true, forbidden(s)
	case metav1.StatusReasonNotFound:
		e.Refused, e.Public = true, "the cluster has no such namespace, service account or role"
	case metav1.StatusReasonAlreadyExists:
		e.Refused, e.Public = true, "something that is not ours has this name at the cluster"
	case metav1.StatusReasonConflict:
		e.Public = "the object was changed or replaced at the same time"
	case metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest, metav1.StatusReasonMethodNotAllowed,
		metav1.StatusReasonNotAcceptable, metav1.StatusReasonUnsupportedMediaType, metav1.StatusReasonRequestEntityTooLarge:
		e.Refused, e.Public = true, "the API server found the object invalid, or one of its admission rules did"
	case metav1.StatusReasonTooManyRequests:
		e.Throttled, e.Public = true, "the API server asks to be called less often"
	default:
		e.Public = "the API server could not do it now"
	}
	return e
}

// forbidden tells the reasons apart for which the API server answers
// Forbidden. The phrases are looked for in its message and not repeated.
func forbidden(s metav1.Status) string {
	switch {
	case hasCause(s, "NamespaceTerminating"):
		return "the namespace is being deleted"
	case strings.Contains(s.Message, "attempting to grant RBAC permissions not currently held"):
		return publicEscalation
	case strings.Contains(s.Message, "exceeded quota"):
		return "a quota of the namespace is used up"
	case strings.Contains(s.Message, "admission webhook"), strings.Contains(s.Message, "ValidatingAdmissionPolicy"):
		return "an admission rule of the cluster forbids it"
	}
	return "the engine's own identity lacks a permission at the cluster; the target's check names it"
}

func hasCause(s metav1.Status, want metav1.CauseType) bool {
	if s.Details == nil {
		return false
	}
	for _, c := range s.Details.Causes {
		if c.Type == want {
			return true
		}
	}
	return false
}
