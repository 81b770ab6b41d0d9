package azure

import (
	"context"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

const pageSize = "100"

// List implements contract.Lister: applications that carry our tag, and role
// assignments that carry our description. Passwords of existing applications
// and group memberships carry nothing that could be searched for.
func (p *Provider) List(ctx context.Context, yield func(contract.Found) error) error {
	if err := p.prove(ctx, "list", p.target.Place); err != nil {
		return err
	}
	roles, err := p.ourAssignments(ctx)
	if err != nil {
		return failure("list role assignments", err)
	}
	if err := p.ourApplications(ctx, roles, yield); err != nil {
		return err
	}
	for _, found := range contract.SortedKeys(roles.own) {
		f := roles.own[found]
		if err := yield(f); err != nil {
			return err
		}
	}
	for _, id := range contract.SortedKeys(roles.of) {
		f, err := p.found(domain.CredentialID(id), roles.requests[id], "", names{Kind: kindPrincipal, Roles: roles.of[id]}, "role assignment")
		if err != nil {
			return err
		}
		if err := yield(f); err != nil {
			return err
		}
	}
	return nil
}

func (p *Provider) found(id domain.CredentialID, req domain.RequestID, shared string, n names, what string) (contract.Found, error) {
	n.End = domain.TimeOf(string(id)).Unix()
	if n.Timed {
		n.End = p.env.Clock.Now().Add(maxTimed).Unix() // until it is not listed any more
	}
	h := p.blank(id)
	h.Shared = shared
	h, err := remote.WithData(h, n)
	return contract.Found{Credential: id, Request: req, Handle: h, What: what}, err
}

// foundRoles are the role assignments that carry our description: those of
// requesters' own accounts, by name, and those of service principals, by
// credential.
type foundRoles struct {
	own      map[string]contract.Found
	of       map[string][]assignment
	requests map[string]domain.RequestID
}

func (p *Provider) ourAssignments(ctx context.Context) (foundRoles, error) {
	out := foundRoles{own: map[string]contract.Found{}, of: map[string][]assignment{}, requests: map[string]domain.RequestID{}}
	seen := map[string]bool{}
	for _, scope := range p.config.managed {
		err := p.arm.each(ctx, scope, "", func(ra *armauthorization.RoleAssignment) error {
			if seen[*ra.Name] {
				return nil
			}
			seen[*ra.Name] = true
			return p.sort(ra, out)
		})
		if err == nil {
			err = p.ourTimed(ctx, scope, out)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// sort puts an assignment where it belongs, if it is ours.
func (p *Provider) sort(ra *armauthorization.RoleAssignment, out foundRoles) error {
	props := ra.Properties
	if props.Description == nil || props.Scope == nil || props.RoleDefinitionID == nil || props.PrincipalID == nil {
		return nil
	}
	cred, req, ours := readDescription(*props.Description, p.target.Tag())
	a := assignment{Scope: *props.Scope, Role: strings.ToLower(last(*props.RoleDefinitionID)), Name: *ra.Name}
	if !ours || !scopeForm.MatchString(a.Scope) || !guidForm.MatchString(a.Role) || !guidForm.MatchString(a.Name) {
		return nil
	}
	who := strings.ToLower(*props.PrincipalID)
	if a.Name != guid(p.target.Place, p.target.Tag(), who, a.Role, strings.ToLower(a.Scope)) {
		out.of[string(cred)] = append(out.of[string(cred)], a)
		out.requests[string(cred)] = req
		return nil
	}
	shared := guid(kindAssignment, who, a.Role, strings.ToLower(a.Scope))
	f, err := p.found(cred, req, shared, names{Kind: kindAssignment, Roles: []assignment{a}, Principal: who}, "role assignment "+a.Name)
	out.own[a.Name] = f
	return err
}

// ourApplications yields the applications with our tag, each with the
// assignments of its principal.
func (p *Provider) ourApplications(ctx context.Context, roles foundRoles, yield func(contract.Found) error) error {
	query := url.Values{
		"$filter": {"tags/any(t:t eq 'pim-target:" + p.target.Tag() + "')"}, "$select": {"id,appId,tags"}, "$top": {pageSize},
	}
	var failed error
	err := list(ctx, p.graph, graphCall{path: "/applications", query: query}, func(app application) error {
		id, req := tagged(app.Tags)
		if !domain.ValidID(id) || !guidForm.MatchString(app.ID) || !guidForm.MatchString(app.AppID) {
			return nil
		}
		n := names{Kind: kindPrincipal, Object: app.ID, Client: app.AppID, Roles: roles.of[id]}
		delete(roles.of, id)
		f, err := p.found(domain.CredentialID(id), domain.RequestID(req), "", n, "application "+namePrefix+id)
		if err == nil {
			err = yield(f)
		}
		failed = err
		return err
	})
	if failed != nil {
		return failed
	}
	return failure("list applications", err)
}

// tagged reads credential and request from an application's tags.
func tagged(tags []string) (credential, request string) {
	for _, t := range tags {
		if id, ok := strings.CutPrefix(t, "pim-credential:"); ok {
			credential = id
		}
		if id, ok := strings.CutPrefix(t, "pim-request:"); ok && domain.ValidID(id) {
			request = id
		}
	}
	return credential, request
}
