package host

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// tokenKind hands out a credential's own token.
func tokenKind() kind {
	return kind{
		name:     kindToken,
		fields:   []string{"token_policies"},
		validate: validateToken,
		revocation: func(contract.Values) domain.Revocation {
			// What the token made without a lease (orphan tokens, secret ids) stays.
			return domain.Revocation{
				Class: domain.Immediate, Seconds: immediateSeconds, Survives: []domain.Survivor{domain.CreatedObjects},
			}
		},
		policies: func(role contract.Values) []string { return sortedSet(role.Strings("token_policies")) },
		deliver: func(_ context.Context, p *Provider, d *delivery) (secret.Map, time.Time, error) {
			return secret.NewMap(map[string]any{
				"token":    d.token.value.Reveal(),
				"accessor": d.token.accessor,
				"policies": strings.Join(sortedSet(d.token.policies), ","),
			}), d.token.notAfter, nil
		},
		grants:      func(contract.Values) []grant { return nil },
		childGrants: func(contract.Values) []grant { return nil },
	}
}

func validateToken(r *contract.Report, role contract.Values, _ []string) {
	policies := role.Strings("token_policies")
	if len(policies) == 0 {
		r.Addf("token_policies", "is required for credential_type=token")
	}
	if slices.ContainsFunc(policies, func(name string) bool { return !policyName.MatchString(name) }) {
		r.Addf("token_policies", "holds something that is no policy name in lower case")
	}
	if slices.Contains(policies, "root") || slices.Contains(policies, "default") {
		r.Addf("token_policies", "must not hold root or default")
	}
}
