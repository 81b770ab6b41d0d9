package host

import (
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// immediateSeconds bounds the end of what is measured to end at once: the host
// revokes synchronously, so the rest is the way there and back.
const immediateSeconds = 5

// engine is what is known of one secrets engine's leases.
type engine struct {
	usual domain.Revocation // what a role of it promises unless it declares otherwise
	best  domain.Class      // the strongest that a role may declare
}

// engines are the engine types whose leases are handed out. What an engine's
// lease gives decides how hard its end bites; where that depends on the
// engine's own role, the weakest is assumed and the pim role may declare
// better, up to best.
func engines() map[string]engine {
	propagating := func(survives ...domain.Survivor) domain.Revocation {
		return domain.Revocation{Class: domain.Propagating, Survives: survives}
	}
	expiry := func(survives ...domain.Survivor) domain.Revocation {
		return domain.Revocation{Class: domain.ExpiryOnly, Survives: survives}
	}
	return map[string]engine{
		// The user is dropped; sessions stay open unless the statements end them (ends_sessions).
		"database": {propagating(domain.OpenSessions), domain.Propagating},
		"ldap":     {propagating(domain.OpenSessions), domain.Immediate},
		"openldap": {propagating(domain.OpenSessions), domain.Immediate},
		"rabbitmq": {propagating(domain.OpenSessions), domain.Immediate},
		// Agents cache a token for a configurable time.
		"consul":    {propagating(), domain.Immediate},
		"nomad":     {propagating(), domain.Immediate},
		"terraform": {propagating(), domain.Immediate},
		// An account that the engine made is deleted; a token of the target is not ended.
		"aws":        {expiry(domain.OpenSessions, domain.IdentityProofs, domain.CreatedObjects), domain.Propagating},
		"gcp":        {expiry(domain.IdentityProofs), domain.Propagating},
		"azure":      {propagating(domain.OpenSessions, domain.IdentityProofs), domain.Propagating},
		"kubernetes": {expiry(domain.OpenSessions, domain.OfflineVerifiers), domain.Immediate},
	}
}

// neverAllowed tells whether no target can allow an engine type: the host's
// own, which begin with ns_ in other namespaces, and ours.
func neverAllowed(mountType string) bool {
	t := strings.TrimPrefix(strings.ToLower(mountType), "ns_")
	return slices.Contains([]string{"system", "identity", "token", "cubbyhole"}, t) || strings.Contains(t, "pim")
}

// leaseRevocation is what a lease role promises.
func leaseRevocation(role contract.Values) domain.Revocation {
	declared := domain.Class(role.String("revocation"))
	known, ok := engines()[role.String("engine")]
	if !ok {
		if !declared.Valid() {
			declared = domain.ExpiryOnly
		}
		return withClass(domain.Revocation{}, declared)
	}
	if role.String("engine") == "database" && role.Bool("ends_sessions") {
		known = engine{usual: domain.Revocation{Class: domain.Immediate, Seconds: immediateSeconds}, best: domain.Immediate}
	}
	if !declared.Valid() || known.best.WeakerThan(declared) {
		return known.usual
	}
	return withClass(known.usual, declared)
}

func withClass(r domain.Revocation, c domain.Class) domain.Revocation {
	r.Class, r.Seconds = c, 0
	if c == domain.Immediate {
		r.Seconds = immediateSeconds
	}
	return r
}

// claimsTooMuch tells whether a role declares a revocation class that leases
// of an engine type cannot keep.
func claimsTooMuch(role contract.Values, mountType string) bool {
	declared := domain.Class(role.String("revocation"))
	known, ok := engines()[mountType]
	if !ok || !declared.Valid() || (mountType == "database" && role.Bool("ends_sessions")) {
		return false
	}
	return known.best.WeakerThan(declared)
}
