package azure

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// issuePrincipal makes application, service principal, assignments and secret,
// in this order: whoever gets the secret has everything it is for. Each step
// can be repeated; the one that Entra is not ready for is tried again later.
func (p *Provider) issuePrincipal(ctx context.Context, j *job) (contract.Issued, error) {
	for _, step := range []func(context.Context, *job) (bool, error){
		p.haveApplication, p.havePrincipal, p.haveAssignments, p.haveMemberships,
	} {
		ready, err := step(ctx, j)
		if err != nil {
			return contract.Issued{}, err
		}
		if !ready {
			return j.pending(), nil
		}
	}
	return p.handOut(ctx, j)
}

// handOut makes the secret and waits until it is accepted everywhere.
func (p *Provider) handOut(ctx context.Context, j *job) (contract.Issued, error) {
	s, ready, err := p.secretOf(ctx, j)
	if err != nil {
		return contract.Issued{}, err
	}
	if ready {
		ready, err = p.proven(ctx, j, s)
	}
	if err != nil {
		return contract.Issued{}, err
	}
	if !ready {
		return j.pending(), nil
	}
	p.fresh.Drop(j.in.Credential)
	return contract.Issued{
		Handle: j.handle, NotAfter: j.end(),
		Data: secret.NewMap(map[string]any{
			"client_id": j.names.Client, "client_secret": s.text.Reveal(), "tenant_id": p.config.tenant,
		}),
	}, nil
}

func (p *Provider) tags(j *job) []string {
	return []string{
		"pim", "pim-target:" + p.target.Tag(), "pim-credential:" + string(j.in.Credential), "pim-request:" + string(j.in.Request),
	}
}

// applicationPath addresses an application by its unique name, which can be
// known before it exists.
func applicationPath(name string) string { return "/applications(uniqueName='" + name + "')" }

func principalPath(client string) string { return "/servicePrincipals(appId='" + client + "')" }

// haveApplication makes the application if it is not there: its unique name
// lets Entra itself see to it that there is only one.
func (p *Provider) haveApplication(ctx context.Context, j *job) (bool, error) {
	const op = "create application"
	if j.names.Object != "" {
		return true, nil
	}
	name := namePrefix + string(j.in.Credential)
	var made application
	status, err := p.graph.do(ctx, graphCall{
		method: http.MethodPatch, path: applicationPath(name), header: map[string]string{"Prefer": upsertHeader}, out: &made,
		in: map[string]any{"displayName": name, "signInAudience": "AzureADMyOrg", "tags": p.tags(j)},
	})
	if err != nil {
		return false, failure(op, err)
	}
	if status == http.StatusNoContent { // an earlier attempt made it
		if made, err = p.graph.applicationBy(ctx, applicationPath(name)); isAbsent(err) {
			return false, nil
		} else if err != nil {
			return false, failure(op, err)
		}
	}
	if !guidForm.MatchString(made.ID) || !guidForm.MatchString(made.AppID) || !slices.Contains(made.Tags, p.tags(j)[2]) {
		return false, failure(op, remote.ErrAnswer)
	}
	return true, j.note(func(n *names) { n.Object, n.Client = made.ID, made.AppID })
}

// havePrincipal makes the application's service principal if it is not there.
func (p *Provider) havePrincipal(ctx context.Context, j *job) (bool, error) {
	const op = "create service principal"
	if j.names.Principal != "" {
		return true, nil
	}
	var made principal
	status, err := p.graph.do(ctx, graphCall{
		method: http.MethodPatch, path: principalPath(j.names.Client), header: map[string]string{"Prefer": upsertHeader}, out: &made,
		in: map[string]any{"tags": p.tags(j)},
	})
	if isAbsent(err) || codeOf(err) == "NoBackingApplicationObject" {
		return false, nil // the application is not known everywhere yet
	}
	if err != nil {
		return false, failure(op, err)
	}
	if status == http.StatusNoContent {
		if made, err = p.graph.principalBy(ctx, principalPath(j.names.Client)); isAbsent(err) {
			return false, nil
		} else if err != nil {
			return false, failure(op, err)
		}
	}
	if !guidForm.MatchString(made.ID) {
		return false, failure(op, remote.ErrAnswer)
	}
	return true, j.note(func(n *names) { n.Principal = made.ID })
}

func (p *Provider) haveAssignments(ctx context.Context, j *job) (bool, error) {
	for _, a := range j.names.Roles {
		err := p.arm.assign(ctx, a, j.names.Principal, principalService, describeFor(p.target.Tag(), j.in.Credential, j.in.Request))
		if codeOf(err) == "PrincipalNotFound" {
			return false, nil // Azure does not know the principal yet
		}
		if err != nil {
			return false, failure("assign role", err)
		}
	}
	return true, nil
}

func (p *Provider) haveMemberships(ctx context.Context, j *job) (bool, error) {
	const op = "add to group"
	for _, group := range j.names.Group {
		err := p.graph.addMember(ctx, group, j.names.Principal)
		if e := known(err); e != nil && e.existing {
			continue // nobody else knows this principal
		}
		if isAbsent(err) {
			// Either the group is none, or the principal is not known everywhere yet.
			if _, err := p.group(ctx, group); err != nil {
				return false, failure(op, err)
			}
			return false, nil
		}
		if err != nil {
			return false, failure(op, err)
		}
	}
	return true, nil
}

// issuePassword adds a password to an existing application.
func (p *Provider) issuePassword(ctx context.Context, j *job) (contract.Issued, error) {
	if j.names.Client == "" {
		app, err := p.graph.applicationBy(ctx, "/applications/"+j.names.Object)
		if err != nil {
			return contract.Issued{}, failure("read application", err)
		}
		if err := j.note(func(n *names) { n.Client = app.AppID }); err != nil {
			return contract.Issued{}, err
		}
	}
	if !p.env.Clock.Now().Add(time.Second).Before(j.end()) {
		return contract.Issued{}, contract.Refused("add password", "too_late", "the access window is over")
	}
	return p.handOut(ctx, j)
}
