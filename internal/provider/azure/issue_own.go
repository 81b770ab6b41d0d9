package azure

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// issueAssignment assigns the role to the requester's own account. The name of
// the assignment is ours alone, so that one of this name is ours; one of
// another name is somebody else's, and Azure refuses a second one beside it.
func (p *Provider) issueAssignment(ctx context.Context, j *job) (contract.Issued, error) {
	const op = "assign role"
	a := j.names.Roles[0]
	found, err := p.arm.find(ctx, a)
	if err != nil {
		return contract.Issued{}, failure(op, err)
	}
	switch {
	case found != nil && !a.is(found, j.names.Principal):
		return contract.Issued{}, refused(op, "other_assignment", "an assignment of this name is for something else")
	case found == nil:
		err := p.arm.assign(ctx, a, j.names.Principal, j.role.principal, describeFor(p.target.Name, j.in.Credential, j.in.Request))
		if codeOf(err) == "RoleAssignmentExists" {
			return contract.Issued{}, outside(op)
		}
		if err != nil {
			return contract.Issued{}, failure(op, err)
		}
	}
	return contract.Issued{Handle: j.handle, Data: secret.NewMap(map[string]any{
		"principal_id": j.names.Principal, "azure_roles": []string{a.Role + "@" + a.Scope}, "tenant_id": p.config.tenant,
	})}, nil
}

// issueMember makes the requester's own account a member of the group. Entra
// keeps no note of who made a membership, so ours is on record before it is
// made, and one that is there already is not touched.
func (p *Provider) issueMember(ctx context.Context, j *job) (contract.Issued, error) {
	const op = "add to group"
	group, who := j.names.Group[0], j.names.Principal
	first := !j.names.Given && !j.in.Joined
	if j.names.Foreign {
		return contract.Issued{}, outside(op)
	}
	if j.in.Joined { // before any call: this handle may be the last one that ends it
		if err := j.note(func(n *names) { n.Given = true }); err != nil {
			return contract.Issued{}, err
		}
	}
	there, err := p.graph.isMember(ctx, group, who)
	if err != nil {
		return contract.Issued{}, failure(op, err)
	}
	if there && first {
		return contract.Issued{}, p.foreignMember(j)
	}
	if err := j.note(func(n *names) { n.Given = true }); err != nil {
		return contract.Issued{}, err
	}
	if !there {
		err := p.graph.addMember(ctx, group, who)
		if e := known(err); e != nil && e.existing {
			if first {
				return contract.Issued{}, p.foreignMember(j)
			}
			err = nil
		}
		if err != nil {
			return contract.Issued{}, failure(op, err)
		}
	}
	return contract.Issued{Handle: j.handle, Data: secret.NewMap(map[string]any{
		"principal_id": who, "azure_groups": []string{group}, "tenant_id": p.config.tenant,
	})}, nil
}

// foreignMember puts on record that the membership is not ours, so that the end
// of this credential leaves it alone.
func (p *Provider) foreignMember(j *job) error {
	if err := j.note(func(n *names) { n.Given, n.Foreign = false, true }); err != nil {
		return err
	}
	return outside("add to group")
}
