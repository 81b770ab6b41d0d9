package gcp

import (
	"context"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// issueBinding grants the role's roles to the requester's own principal until
// the end of the credential.
func (p *Provider) issueBinding(ctx context.Context, j *job) (contract.Issued, error) {
	for _, r := range j.role.resources {
		if err := p.desk.change(ctx, r, p.grantOf(j, false)); err != nil {
			return contract.Issued{}, failure("grant role", err)
		}
	}
	texts := make([]string, len(j.role.resources))
	for i, r := range j.role.resources {
		texts[i] = r.String()
	}
	return contract.Issued{Handle: j.handle, NotAfter: j.names.end(), Data: secret.NewMap(map[string]any{
		"principal": j.names.Principal, "iam_roles": strings.Join(j.role.roles, ","), "resources": strings.Join(texts, ","),
	})}, nil
}

func (p *Provider) revokeBinding(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	missing, err := p.withdraw(ctx, h, n)
	if err != nil {
		return contract.Ended{}, err
	}
	if missing {
		return p.lookAgain(h, false), nil
	}
	return contract.Gone(), nil
}
