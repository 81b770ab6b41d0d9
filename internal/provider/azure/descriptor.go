package azure

import (
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Type is the target type. It is stored in handles for ever.
const Type = "azure"

// The credential types.
const (
	kindPrincipal  = "service_principal"    // application, principal and secret of its own
	kindPassword   = "application_password" // password of an existing application
	kindAssignment = "role_assignment"      // Azure role for the requester's own account; no secret
	kindMember     = "group_membership"     // group for the requester's own account; no secret
)

const (
	issueTimeout = 20 * time.Second
	// slowTimeout bounds issues that wait for Entra to know a new object or
	// secret everywhere, which takes up to a minute and at times longer.
	slowTimeout = 3 * time.Minute
	// assignmentSeconds is how long a deleted role assignment may still be
	// honoured from the caches of Azure Resource Manager.
	assignmentSeconds = 1800
	// tokenSeconds is the longest life of an access token: 60 to 90 minutes
	// usually, a day for clients that take part in continuous access evaluation.
	tokenSeconds = 86400
)

// Descriptor is the provider as the rest of the program knows it.
func Descriptor() contract.Descriptor { return describe(machine()) }

func describe(w surroundings) contract.Descriptor {
	return contract.Descriptor{
		Type:         Type,
		Summary:      "Azure and Entra: service principals made for one credential, application passwords, role assignments and group memberships for one's own account",
		TargetFields: targetFields(),
		RoleFields:   roleFields(),
		Normalize:    normalize,
		CheckTarget: func(env contract.Env, t contract.Target) contract.Report {
			_, report := readTarget(env, t)
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
	case out.String("application_object_id") != "":
		out["credential_type"] = kindPassword
	case out.String("principal_source") != "" && len(out.Strings("azure_groups")) > 0:
		out["credential_type"] = kindMember
	case out.String("principal_source") != "":
		out["credential_type"] = kindAssignment
	case len(out.Strings("azure_roles")) > 0 || len(out.Strings("azure_groups")) > 0:
		out["credential_type"] = kindPrincipal
	}
	return out
}

// slow tells whether a credential type has a secret that takes time to be
// accepted everywhere.
func slow(kind string) bool { return kind == kindPrincipal || kind == kindPassword }

func limits(role contract.Values) contract.Limits {
	if slow(normalize(role).String("credential_type")) {
		return contract.Limits{IssueTimeout: slowTimeout, Slow: true}
	}
	if role.Bool("schedule") {
		return contract.Limits{MinTTL: minSchedule, IssueTimeout: slowTimeout, Slow: true}
	}
	return contract.Limits{IssueTimeout: issueTimeout}
}

// revocation says how hard the end bites: role assignments are checked with
// every call and cached for a while; groups and everything else that a token
// says about its holder last as long as the token.
func revocation(role contract.Values) domain.Revocation {
	role = normalize(role)
	assignments := domain.Revocation{
		Class: domain.Propagating, Seconds: assignmentSeconds,
		Survives: []domain.Survivor{domain.OpenSessions, domain.CreatedObjects},
	}
	groups := domain.Revocation{
		Class: domain.ExpiryOnly, Survives: []domain.Survivor{domain.OpenSessions, domain.OfflineVerifiers, domain.CreatedObjects},
	}
	offline := domain.Revocation{Class: domain.Immediate, Survives: []domain.Survivor{domain.OfflineVerifiers}}
	switch role.String("credential_type") {
	case kindPrincipal:
		if len(role.Strings("azure_groups")) > 0 {
			return domain.Worst(assignments, groups)
		}
		return domain.Worst(assignments, offline)
	case kindPassword:
		assignments.Seconds = tokenSeconds
		return domain.Worst(assignments, offline)
	case kindMember:
		return groups
	case kindAssignment:
		if role.Bool("schedule") {
			assignments.Seconds += int(shortestSchedule / time.Second)
		}
	}
	return assignments
}
