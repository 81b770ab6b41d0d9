package gcp

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// described is how job.describe writes it.
var described = regexp.MustCompile(`^pim target ([a-z0-9-]{1,63}) credential ([0-7][0-9a-z]{25}) request ([0-7][0-9a-z]{25})$`)

// remains is what a sweep found of one credential.
type remains struct {
	request domain.RequestID
	names   names
	what    []string
}

type sweep map[string]*remains

// List implements contract.Lister: accounts of the project, and bindings in
// the policies of managed_resources. Google keeps no list of tokens, and keys
// of existing accounts end with their certificates.
func (p *Provider) List(ctx context.Context, yield func(contract.Found) error) error {
	place, err := p.Place(ctx)
	if err != nil {
		return err
	}
	if p.target.Place != "" && p.target.Place != place {
		return contract.PlaceError("list")
	}
	found := sweep{}
	err = p.api.accounts(ctx, p.config.project, func(a account) error {
		found.account(p, a)
		return nil
	})
	if err != nil {
		return failure("list service accounts", err)
	}
	for _, r := range p.config.managed {
		policy, err := p.api.policy(ctx, r)
		if err != nil {
			return failure("read policy", err)
		}
		for _, b := range policy.bindings {
			found.binding(p, r, b)
		}
	}
	for _, id := range contract.SortedKeys(found) {
		f := found[id]
		if f.names.Principal == "" {
			continue // a description of ours on something that is not
		}
		h := p.blank(domain.CredentialID(id))
		h.Place = place
		if h, err = remote.WithData(h, f.names); err != nil {
			return err
		}
		err = yield(contract.Found{
			Credential: domain.CredentialID(id), Request: f.request, Handle: h, What: strings.Join(f.what, ", "),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// of is the entry of what carries a description of this target.
func (s sweep) of(p *Provider, description string) (domain.CredentialID, *remains) {
	m := described.FindStringSubmatch(description)
	if m == nil || m[1] != p.target.Tag() || !domain.ValidID(m[2]) {
		return "", nil
	}
	if s[m[2]] == nil {
		s[m[2]] = &remains{names: names{Kind: kindBinding, End: p.env.Clock.Now().Unix()}}
		if request, err := domain.ParseRequestID(m[3]); err == nil {
			s[m[2]].request = request
		}
	}
	return domain.CredentialID(m[2]), s[m[2]]
}

func (s sweep) account(p *Provider, a account) {
	id, r := s.of(p, a.Description)
	if r == nil || a.Email != p.ownAccount(id) {
		return
	}
	r.own(a.Email)
	r.names.Known = a.UniqueID
	r.what = append(r.what, "service account "+a.Email)
}

// own turns an entry into one of an account of ours. Whatever it was made for,
// it counts as given out.
func (r *remains) own(email string) {
	r.names.Kind, r.names.Own, r.names.Account, r.names.Given = kindToken, true, email, true
	r.names.Principal = memberAccount + ":" + email
}

func (s sweep) binding(p *Provider, at resource, b binding) {
	if b.condition == nil {
		return
	}
	id, r := s.of(p, b.condition.Description)
	if r == nil || !b.is(titleOf(id)) {
		return
	}
	email := p.ownAccount(id)
	for _, m := range b.members {
		principal, err := checkPrincipal(m)
		switch {
		case samePrincipal(m, memberAccount+":"+email):
			r.own(email)
			if r.names.Known == "" {
				r.names.Known = "-" // there was one, or there would be no binding
			}
		case err == nil && !r.names.Own:
			r.names.Principal = principal
		default:
			continue
		}
		if !slices.Contains(r.names.Resources, at) {
			r.names.Resources = append(r.names.Resources, at)
		}
		r.what = append(r.what, "binding of "+b.role+" on "+at.String())
	}
}
