package fake

import (
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Type is the fake's target type.
const Type = "fake"

// The credential types.
const (
	kindAccount = "account" // named before it exists; has a password
	kindLate    = "late"    // named by the world while it is made; has a password
	kindBinding = "binding" // a level for an own principal, shared by the grants of that principal
)

const version = 1

// TargetFields are what a fake target has.
func TargetFields() []contract.Field {
	return []contract.Field{
		{
			Name: "address", Type: contract.TypeString, Where: true,
			Description: "Which site of the world this is. Required.",
		},
		{
			Name: "password", Type: contract.TypeString, Secret: true,
			Description: "Root password at the site. Required.",
		},
	}
}

// RoleFields are what a fake role has.
func RoleFields() []contract.Field {
	return []contract.Field{
		{
			Name: "credential_type", Type: contract.TypeString, Allowed: []string{kindAccount, kindLate, kindBinding},
			Description: "account is named before it exists, late is named by the target while it is made, " +
				"binding gives a level to the requester's own principal and is shared by that principal's grants. " +
				"Implied: binding by principal_source, else account.",
		},
		{
			Name: "level", Type: contract.TypeString,
			Description: "What the credential may do. Required. The level \"self\" is refused: it stands for the engine's own identity.",
		},
		{
			Name: "principal_source", Type: contract.TypeString,
			Description: "Entity metadata key that names the requester's own principal. Only for binding.",
		},
		{
			Name: "remainder", Type: contract.TypeSeconds,
			Description: "If above 0, revoking first disables and leaves a remainder that is deleted after that time.",
		},
		{
			Name: "slow", Type: contract.TypeBool,
			Description: "The credential becomes usable some time after it was made.",
		},
		{
			Name: "longest", Type: contract.TypeSeconds,
			Description: "Longest life that the target can make; 0 is no limit.",
		},
		{
			Name: "revocation", Type: contract.TypeString, Default: string(domain.Immediate),
			Allowed:     []string{string(domain.Immediate), string(domain.Propagating), string(domain.ExpiryOnly)},
			Description: "Revocation class of the role.",
		},
	}
}

// Descriptor returns the descriptor whose instances act on w.
func (w *World) Descriptor() contract.Descriptor {
	return contract.Descriptor{
		Type: Type, Summary: "An in-memory target for tests.",
		TargetFields: TargetFields(), RoleFields: RoleFields(),
		Normalize: normalize, CheckTarget: checkTarget, Limits: limits, Revocation: revocation,
		New: func(_ contract.Env, t contract.Target) (contract.Provider, error) {
			return &Provider{w: w, target: t}, nil
		},
	}
}

func normalize(role contract.Values) contract.Values {
	out := role.WithDefaults(RoleFields())
	if out.String("credential_type") != "" {
		return out
	}
	out["credential_type"] = kindAccount
	if out.String("principal_source") != "" {
		out["credential_type"] = kindBinding
	}
	return out
}

func checkTarget(_ contract.Env, t contract.Target) contract.Report {
	var r contract.Report
	if t.Fields.String("address") == "" {
		r.Addf("address", "is required")
	}
	if t.Secrets["password"].Empty() {
		r.Addf("password", "is required")
	}
	return r
}

func limits(role contract.Values) contract.Limits {
	return contract.Limits{
		MaxTTL: role.Seconds("longest"), IssueTimeout: 20 * time.Second, Slow: role.Bool("slow"),
	}
}

func revocation(role contract.Values) domain.Revocation {
	switch class := domain.Class(normalize(role).String("revocation")); class {
	case domain.Propagating:
		return domain.Revocation{Class: class, Seconds: 60, Survives: []domain.Survivor{domain.OpenSessions}}
	case domain.ExpiryOnly:
		return domain.Revocation{Class: class, Survives: []domain.Survivor{domain.OfflineVerifiers}}
	case domain.Immediate:
	}
	return domain.Revocation{Class: domain.Immediate, Seconds: 1}
}
