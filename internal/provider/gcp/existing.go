package gcp

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// issueExistingToken gives out a token of an account that is not ours. Google
// has no way to end it early, so from the moment of asking it counts as given;
// a refusal takes that back.
func (p *Provider) issueExistingToken(ctx context.Context, j *job) (contract.Issued, error) {
	before := j.names.Given
	if err := j.note(func(n *names) { n.Given = true }); err != nil {
		return contract.Issued{}, err
	}
	t, err := p.mintFor(ctx, j)
	if err != nil {
		if isAnswer(err) && !before {
			if noteErr := j.note(func(n *names) { n.Given = false }); noteErr != nil {
				return contract.Issued{}, noteErr
			}
		}
		return contract.Issued{}, failure("create access token", err)
	}
	return p.tokenAnswer(j, t), nil
}

// revokeExistingToken waits for the token's own end, if there may be one.
func (p *Provider) revokeExistingToken(h domain.Handle, n names) contract.Ended {
	if !n.Given || !p.env.Clock.Now().Before(n.end()) {
		return contract.Gone()
	}
	return contract.Ended{Rest: h, Again: n.end()}
}

// issueExistingKey gives out a key of an account that is not ours.
func (p *Provider) issueExistingKey(ctx context.Context, j *job) (contract.Issued, error) {
	found, err := p.api.account(ctx, "-", j.names.Account)
	if err != nil {
		return contract.Issued{}, failure("read service account", err)
	}
	if found.Email != j.names.Account || found.UniqueID == "" || found.Disabled {
		return contract.Issued{}, contract.Refused("read service account", "differs", "the role's service account is disabled or another one")
	}
	if err := j.note(func(n *names) { n.Known = found.UniqueID }); err != nil {
		return contract.Issued{}, err
	}
	return p.giveKey(ctx, j)
}

// revokeExistingKey deletes the credential's key. Its name at Google is looked
// up, because the answer that told it may have been lost.
func (p *Provider) revokeExistingKey(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	ids := []string{n.Key}
	if n.Key == "" {
		list, err := p.api.keys(ctx, n.Account)
		if err != nil {
			return contract.Ended{}, failure("list keys", err)
		}
		if ids, err = p.keysNamed(ctx, n.Account, list, keyName(h.Credential)); err != nil {
			return contract.Ended{}, failure("read key", err)
		}
	}
	missing := len(ids) == 0
	for _, id := range ids {
		err := p.api.deleteKey(ctx, n.Account, id)
		if isAbsent(err) {
			missing = true
			continue
		}
		if err != nil {
			return contract.Ended{}, failure("delete key", err)
		}
	}
	if missing {
		return p.lookAgain(h, true), nil
	}
	return contract.Gone(), nil
}
