package azure

import (
	"context"
	"sync"

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
		return contract.Issued{}, contract.Refused(op, "other_assignment", "an assignment of this name is for something else")
	case found == nil:
		err := p.arm.assign(ctx, a, j.names.Principal, j.role.principal, describeFor(p.target.Tag(), j.in.Credential, j.in.Request))
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
	noted := j.names.Given
	if j.names.Foreign {
		return contract.Issued{}, outside(op)
	}
	if err := p.join(j); err != nil {
		return contract.Issued{}, err
	}
	there, err := p.graph.isMember(ctx, group, who)
	if err != nil {
		return contract.Issued{}, failure(op, err)
	}
	if there && p.alone(j, noted) {
		return contract.Issued{}, p.foreignMember(j)
	}
	if err := j.note(func(n *names) { n.Given = true }); err != nil {
		return contract.Issued{}, err
	}
	if !there {
		err := p.graph.addMember(ctx, group, who)
		e := known(err)
		existing := e != nil && e.existing
		if existing && p.alone(j, noted) {
			return contract.Issued{}, p.foreignMember(j)
		}
		if err != nil && !existing {
			return contract.Issued{}, failure(op, err)
		}
	}
	return contract.Issued{Handle: j.handle, Data: secret.NewMap(map[string]any{
		"principal_id": who, "azure_groups": []string{group}, "tenant_id": p.config.tenant,
	})}, nil
}

// join notes, before any call, that a credential uses what another one made or
// is about to make: its handle may be the last one that ends it.
func (p *Provider) join(j *job) error {
	if !j.in.Joined {
		return nil
	}
	p.joined.add(j.handle.Shared)
	return j.note(func(n *names) { n.Given = true })
}

// alone tells whether a membership that is there cannot be one of ours: this
// credential never noted it, and no other one uses it.
func (p *Provider) alone(j *job, noted bool) bool {
	return !noted && !j.in.Joined && !p.joined.has(j.handle.Shared)
}

// joinedKeys are the shared keys that a second credential joined while the
// first may still have been on its way: who of them makes the membership is
// chance, and what the first then finds is no stranger's.
type joinedKeys struct {
	mu  sync.Mutex
	all map[string]bool
}

func newJoinedKeys() *joinedKeys { return &joinedKeys{all: map[string]bool{}} }

func (k *joinedKeys) add(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[key] = true
}

func (k *joinedKeys) has(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all[key]
}

// drop forgets a key whose object is being ended.
func (k *joinedKeys) drop(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.all, key)
}

// foreignMember puts on record that the membership is not ours, so that the end
// of this credential leaves it alone.
func (p *Provider) foreignMember(j *job) error {
	if err := j.note(func(n *names) { n.Given, n.Foreign = false, true }); err != nil {
		return err
	}
	return outside("add to group")
}
