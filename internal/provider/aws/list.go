package aws

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

var _ contract.Lister = (*Provider)(nil)

// List implements contract.Lister: the users that carry our tags. STS keeps no
// list of sessions, and Identity Center no tags on assignments; the first end
// by their own policy, the second are only ever made with a record.
func (p *Provider) List(ctx context.Context, yield func(contract.Found) error) error {
	place, err := p.Place(ctx)
	if err != nil {
		return err
	}
	if p.target.Place != "" && p.target.Place != place {
		return contract.PlaceError("list")
	}
	users, err := p.cloud.Issuer.ListUsers(ctx, policyPath)
	if err != nil {
		return failed("list users", err)
	}
	for _, u := range users {
		if !ours(u.Name) {
			continue
		}
		full, err := p.cloud.Issuer.GetUser(ctx, u.Name)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return failed("read user", err)
		}
		if err := p.found(full, place, yield); err != nil {
			return err
		}
	}
	return nil
}

// found tells of a user if its tags say that it is of this target.
func (p *Provider) found(u userInfo, place string, yield func(contract.Found) error) error {
	id, err := domain.ParseCredentialID(u.Tags[tagCredential])
	if err != nil || u.Name != sessionName(id) || u.Tags[tagTarget] != p.target.Tag() {
		return nil //nolint:nilerr // not ours
	}
	h, err := with(domain.Handle{
		Provider: Type, V: handleVersion, Target: p.target.Name, Place: place, Credential: id,
	}, handleData{Kind: kindUser, End: p.env.Clock.Now().Unix(), Path: u.Path})
	if err != nil {
		return err
	}
	f := contract.Found{Credential: id, Handle: h, What: "IAM user " + u.Path + u.Name}
	if request, err := domain.ParseRequestID(u.Tags[tagRequest]); err == nil {
		f.Request = request
	}
	return yield(f)
}
