// Package kubernetes makes access at one Kubernetes cluster: tokens of existing
// service accounts that end with a Secret of their own, service accounts with
// generated or existing roles, and bindings for the requester's own subject.
// README.md beside this file says what each of them does at the cluster.
package kubernetes

import (
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Type is the target type. It is stored in handles for ever.
const Type = "kubernetes"

// The credential types.
const (
	kindToken     = "service_account_token" // token of an existing service account, bound to a Secret of its own
	kindGenerated = "generated_role"        // service account of its own, with generated or existing roles
	kindBinding   = "role_binding"          // the requester's own subject, bound to existing roles; no secret
)

const (
	minTokenTTL  = 10 * time.Minute // the API server makes no shorter token (ValidateTokenRequest)
	issueTimeout = 20 * time.Second
	// Measured by tests/kubernetes on kube-apiserver 1.36: a deleted binding
	// bites within 50 ms, a token 10 s after its Secret or account is gone (the
	// authenticator's cache, authentication-token-webhook-cache-ttl's peer).
	bindingSeconds = 5
	tokenSeconds   = 15
	rootTTL        = 90 * 24 * 60 * 60 // seconds
)

// Descriptor is the provider as the rest of the program knows it.
func Descriptor() contract.Descriptor { return describe(machine()) }

func describe(w surroundings) contract.Descriptor {
	return contract.Descriptor{
		Type:         Type,
		Summary:      "Kubernetes: bound service account tokens, generated roles, role bindings for one's own user",
		TargetFields: targetFields(),
		RoleFields:   roleFields(),
		Normalize:    normalize,
		CheckTarget: func(env contract.Env, t contract.Target) contract.Report {
			_, report := readTarget(w, env, t)
			return report
		},
		Limits:     limits,
		Revocation: revocation,
		New:        func(env contract.Env, t contract.Target) (contract.Provider, error) { return open(w, env, t) },
	}
}

// normalize fills in the credential type that other fields imply.
func normalize(role contract.Values) contract.Values {
	out := role.WithDefaults(nil)
	if out.String("credential_type") != "" {
		return out
	}
	switch {
	case out.String("principal_source") != "":
		out["credential_type"] = kindBinding
	case out.String("generated_role_rules") != "" || len(out.Strings("kubernetes_roles")) > 0:
		out["credential_type"] = kindGenerated
	case out.String("service_account_name") != "":
		out["credential_type"] = kindToken
	}
	return out
}

func limits(role contract.Values) contract.Limits {
	l := contract.Limits{MinTTL: minTokenTTL, IssueTimeout: issueTimeout}
	if normalize(role).String("credential_type") == kindBinding {
		l.MinTTL = 0
	}
	return l
}

// revocation is immediate for what the API server decides by itself. Tokens
// for audiences of somebody else are checked by somebody else, who need not
// ask the API server: those live until their own end.
func revocation(role contract.Values) domain.Revocation {
	role = normalize(role)
	binding := domain.Revocation{
		Class: domain.Immediate, Seconds: bindingSeconds,
		Survives: []domain.Survivor{domain.OpenSessions, domain.CreatedObjects},
	}
	if role.String("credential_type") == kindBinding {
		return binding
	}
	token := domain.Revocation{
		Class: domain.Immediate, Seconds: tokenSeconds,
		Survives: []domain.Survivor{domain.OpenSessions, domain.OfflineVerifiers, domain.CreatedObjects},
	}
	if len(role.Strings("audiences")) > 0 {
		token.Class, token.Seconds = domain.ExpiryOnly, 0
	}
	if role.String("credential_type") == kindGenerated {
		return domain.Worst(binding, token)
	}
	return token
}
