package azure

import (
	"context"
	"net/http"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// directoryGroup is a group, as far as we read it.
type directoryGroup struct {
	ID         string `json:"id"`
	Assignable bool   `json:"isAssignableToRole"`
}

func (p *Provider) group(ctx context.Context, id string) (directoryGroup, error) {
	var out directoryGroup
	_, err := p.graph.do(ctx, graphCall{
		method: http.MethodGet, path: "/groups/" + id, query: selecting("id,isAssignableToRole"), out: &out,
	})
	if err == nil && out.ID != id {
		err = remote.ErrAnswer
	}
	return out, err
}

// refuseSelf refuses a role that would hand out the engine's own identity, or
// elevate it, or let others into a group whose rights it has.
func (p *Provider) refuseSelf(ctx context.Context, op string, r role, who string) error {
	me, err := p.self(ctx, p.config.armScope())
	if err != nil {
		return err
	}
	if (r.kind == kindAssignment || r.kind == kindMember) && (who == me.Object || who == me.Client) && who != "" {
		return contract.Refused(op, remote.CodeOwnIdentity, "the account is the engine's own identity, which no role may elevate")
	}
	if r.kind == kindPassword {
		app, err := p.graph.applicationBy(ctx, "/applications/"+r.object)
		if err != nil {
			return failure("read application", err)
		}
		if app.AppID == me.Client {
			return contract.Refused(op, remote.CodeOwnIdentity, "the role runs as the engine's own identity")
		}
	}
	if len(r.groups) == 0 {
		return nil
	}
	var found struct {
		Value []string `json:"value"`
	}
	_, err = p.graph.do(ctx, graphCall{
		method: http.MethodPost, path: "/servicePrincipals/" + me.Object + "/checkMemberGroups",
		in: map[string][]string{"groupIds": r.groups}, out: &found,
	})
	if err != nil {
		return failure("read our own groups", err)
	}
	if len(found.Value) > 0 {
		return contract.Refused(op, remote.CodeOwnIdentity, "a group is one that the engine's own identity is in: its members would have the engine's rights")
	}
	return nil
}

// Validate implements contract.Provider.
func (p *Provider) Validate(ctx context.Context, spec contract.Spec, probe bool) contract.Report {
	r, report := p.config.readRole(spec.Fields)
	if !probe || !report.OK() {
		return report
	}
	p.guard(ctx, r, &report)
	for _, g := range r.grants {
		if _, err := p.arm.define(ctx, g.scope, g.role); err != nil {
			report.Addf("azure_roles", "%s", publicOf(failure("read role definition", err)))
		}
	}
	for _, id := range r.groups {
		g, err := p.group(ctx, id)
		if err != nil {
			report.Addf("azure_groups", "%s", publicOf(failure("read group", err)))
		} else if g.Assignable {
			report.Warnf("a group of azure_groups can hold directory roles; the engine then needs RoleManagement.ReadWrite.Directory, " +
				"and whoever gets a directory role that manages applications can take over the engine itself")
		}
	}
	return report
}

// GuardSelf implements contract.SelfGuard.
func (p *Provider) GuardSelf(ctx context.Context, spec contract.Spec) contract.Report {
	var out contract.Report
	if r, report := p.config.readRole(spec.Fields); report.OK() {
		p.guard(ctx, r, &out)
	}
	return out
}

func (p *Provider) guard(ctx context.Context, r role, report *contract.Report) {
	err := p.refuseSelf(ctx, "check role", r, "")
	switch {
	case err == nil:
	case remote.IsOwnIdentity(err):
		report.Addf(subject(r), "%s", publicOf(err))
	default:
		report.Warnf("whether the role reaches the engine's own identity could not be found out: %s", publicOf(err))
	}
}

// subject is the field that a problem with a role's aim belongs to.
func subject(r role) string {
	if r.kind == kindPassword {
		return "application_object_id"
	}
	if len(r.groups) > 0 {
		return "azure_groups"
	}
	return "azure_roles"
}
