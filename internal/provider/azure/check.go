package azure

import (
	"context"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Limits of Azure and Entra that the check warns of.
const (
	mostAssignments = 4000 // role assignments of one subscription
	mostObjects     = 250  // directory objects that somebody without an administrator's role may own, deleted ones included
	warnAt          = 80   // percent
)

const assignRight = "Microsoft.Authorization/roleAssignments/write"

// wider lists which permissions of Graph contain one that we need.
func wider() map[string][]string {
	return map[string][]string{
		"Application.ReadWrite.OwnedBy": {"Application.ReadWrite.All", "Directory.ReadWrite.All"},
		"GroupMember.ReadWrite.All":     {"Group.ReadWrite.All", "Directory.ReadWrite.All"},
	}
}

// needs are the permissions that roles ask for: of Graph, and the scopes on
// which the engine must be able to assign roles.
func (c targetConfig) needs(roles []contract.Spec) (graph, scopes []string) {
	for _, spec := range roles {
		r, _ := c.readRole(spec.Fields)
		if slow(r.kind) {
			graph = append(graph, "Application.ReadWrite.OwnedBy")
		}
		if len(r.groups) > 0 {
			graph = append(graph, "GroupMember.ReadWrite.All")
		}
		for _, g := range r.grants {
			scopes = append(scopes, g.scope)
		}
	}
	slices.Sort(graph)
	slices.Sort(scopes)
	return slices.Compact(graph), slices.Compact(scopes)
}

// Check implements contract.Checker.
func (p *Provider) Check(ctx context.Context, roles []contract.Spec) (contract.CheckReport, error) {
	out := contract.CheckReport{Quotas: map[string]int{}}
	if _, err := p.Place(ctx); err != nil {
		return out, err
	}
	me, err := p.self(ctx, p.config.graphScope())
	if err != nil {
		return out, err
	}
	out.Identity = "application " + me.Client + ", service principal " + me.Object + ", tenant " + me.Tenant
	graph, scopes := p.config.needs(roles)
	for _, need := range graph {
		if !slices.Contains(me.Roles, need) && !slices.ContainsFunc(wider()[need], func(w string) bool { return slices.Contains(me.Roles, w) }) {
			out.Missing = append(out.Missing, "Microsoft Graph: "+need)
		}
	}
	for _, scope := range scopes {
		may, err := p.mayAssign(ctx, scope, me.Object)
		if err != nil {
			out.Unknown = append(out.Unknown, assignRight+" on "+scope)
		} else if !may {
			out.Missing = append(out.Missing, assignRight+" on "+scope)
		}
	}
	out.RequiredPolicy = policyText(graph, scopes)
	p.count(ctx, me.Object, &out)
	return out, nil
}

// policyText is the minimal set of permissions, ready to paste.
func policyText(graph, scopes []string) string {
	var lines []string
	for _, g := range graph {
		lines = append(lines, "Microsoft Graph application permission: "+g)
	}
	for _, s := range scopes {
		lines = append(lines, "Azure role: Role Based Access Control Administrator on "+s)
	}
	return strings.Join(lines, "\n")
}

// mayAssign tells whether one of the engine's own roles at a scope lets it
// assign others.
func (p *Provider) mayAssign(ctx context.Context, scope, self string) (bool, error) {
	var ids []string
	err := p.arm.each(ctx, scope, "atScope() and assignedTo('"+self+"')", func(ra *armauthorization.RoleAssignment) error {
		if ra.Properties.RoleDefinitionID != nil {
			ids = append(ids, last(*ra.Properties.RoleDefinitionID))
		}
		return nil
	})
	if err != nil {
		return false, failure("read our own roles", err)
	}
	for _, id := range ids {
		found, err := p.arm.define(ctx, scope, id)
		if err != nil {
			return false, failure("read role definition", err)
		}
		if allows(found.Permissions) {
			return true, nil
		}
	}
	return false, nil
}

// allows tells whether a role definition has the right to assign roles.
func allows(list []*armauthorization.Permission) bool {
	has := func(actions []*string) bool {
		return slices.ContainsFunc(actions, func(a *string) bool { return a != nil && matches(*a, assignRight) })
	}
	return slices.ContainsFunc(list, func(p *armauthorization.Permission) bool {
		return p != nil && has(p.Actions) && !has(p.NotActions)
	})
}

// matches compares an action with a pattern, in which * stands for anything.
func matches(pattern, action string) bool {
	head, rest, wild := strings.Cut(strings.ToLower(pattern), "*")
	action = strings.ToLower(action)
	if !wild {
		return head == action
	}
	return strings.HasPrefix(action, head) && strings.HasSuffix(action[len(head):], rest)
}

// count counts what quotas are about. What cannot be read is unknown and no
// error.
func (p *Provider) count(ctx context.Context, self string, out *contract.CheckReport) {
	if p.config.subscription != "" {
		scope, n := "/subscriptions/"+p.config.subscription, 0
		err := p.arm.each(ctx, scope, "", func(*armauthorization.RoleAssignment) error { n++; return nil })
		tally(out, "role_assignments", n, mostAssignments, err)
	}
	owned, deleted := 0, 0
	err := list(ctx, p.graph, graphCall{path: "/servicePrincipals/" + self + "/ownedObjects", query: selecting("id")},
		func(principal) error { owned++; return nil })
	tally(out, "owned_directory_objects", owned, mostObjects, err)
	err = list(ctx, p.graph, graphCall{path: "/directory/deletedItems/microsoft.graph.application", query: selecting("id,tags")},
		func(app application) error {
			if slices.Contains(app.Tags, "pim-target:"+p.target.Tag()) {
				deleted++
			}
			return nil
		})
	tally(out, "deleted_applications", deleted, mostObjects, err)
}

func tally(out *contract.CheckReport, name string, n, most int, err error) {
	if err != nil {
		out.Unknown = append(out.Unknown, "quota "+name)
		return
	}
	out.Quotas[name] = n
	if n*100 >= most*warnAt {
		out.Warnings = append(out.Warnings, "quota "+name+": more than four fifths are used")
	}
}
