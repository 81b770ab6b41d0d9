package gcp

import (
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Type is the target type. It is stored in handles for ever.
const Type = "gcp"

// The credential types.
const (
	kindToken   = "access_token"        // OAuth access token of a service account
	kindKey     = "service_account_key" // key of a service account
	kindBinding = "iam_binding"         // roles for the requester's own principal; no secret
)

const (
	issueTimeout = 20 * time.Second
	// slowTimeout bounds issues that wait for Google to know a new account or
	// key everywhere, which takes up to a minute and at times longer.
	slowTimeout = 3 * time.Minute
	// tokenLife is the longest life of an access token.
	tokenLife = time.Hour
	// bindingSeconds is Google's own figure for changes of allow policies:
	// typically 2 minutes, potentially 7 minutes or more.
	bindingSeconds = 420
	// keyTokenSeconds is how long a token lives that was fetched with a key
	// just before the key was deleted.
	keyTokenSeconds = 3600
)

// Descriptor is the provider as the rest of the program knows it.
func Descriptor() contract.Descriptor { return describe(machine()) }

func describe(w surroundings) contract.Descriptor {
	return contract.Descriptor{
		Type:         Type,
		Summary:      "Google Cloud: service accounts made for one credential, keys, impersonation, role bindings for one's own user",
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
	case out.String("service_account_email") != "" || len(out.Strings("iam_roles")) > 0:
		out["credential_type"] = kindToken
	}
	return out
}

func limits(role contract.Values) contract.Limits {
	role = normalize(role)
	l := contract.Limits{IssueTimeout: issueTimeout}
	existing := role.String("service_account_email") != ""
	switch role.String("credential_type") {
	case kindToken:
		l.MaxTTL = tokenLife
		l.Slow = !existing
	case kindKey:
		l.Slow = true
	}
	if l.Slow {
		l.IssueTimeout = slowTimeout
	}
	return l
}

// revocation says how hard the end bites. Google publishes no bound for
// disabled accounts.
func revocation(role contract.Values) domain.Revocation {
	role = normalize(role)
	existing := role.String("service_account_email") != ""
	out := domain.Revocation{
		Class: domain.Propagating, Survives: []domain.Survivor{domain.OpenSessions, domain.CreatedObjects},
	}
	switch role.String("credential_type") {
	case kindToken:
		if existing {
			out.Class = domain.ExpiryOnly
		}
	case kindKey:
		// A key signs identity tokens by itself, and whoever checks those by
		// the account's certificates does not ask Google about the account.
		out.Survives = []domain.Survivor{domain.OpenSessions, domain.OfflineVerifiers, domain.CreatedObjects}
		if existing {
			out.Seconds = keyTokenSeconds
		}
	case kindBinding:
		out.Seconds = bindingSeconds
	}
	return out
}
