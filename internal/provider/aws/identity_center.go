package aws

import (
	"context"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// centerPoll is how often a change that Identity Center makes by itself is
// asked after.
const centerPoll = time.Second

// planAssignment names the assignment. It is shared: Identity Center knows one
// per user, account and permission set, however many windows a person has.
func (p *Provider) planAssignment(in contract.Input, d handleData) (handleData, error) {
	if p.set.Center == "" {
		return d, contract.Refused("plan", "no_instance", "the target has no identity_center_arn")
	}
	if in.Principal == "" {
		return d, contract.Refused("plan", "no_principal", "the request has no Identity Center user")
	}
	d.Assignment = &assignment{
		Instance: p.set.Center, Account: in.Fields.String("account_id"),
		PermissionSet: in.Fields.String("permission_set_arn"), User: in.Principal,
	}
	d.Rail = in.Fields.String("scp_deny")
	return d, nil
}

// assign makes the assignment. What exists already was made outside of pim and
// is neither adopted nor ever deleted, unless another grant of ours holds it.
func (j *issuing) assign(ctx context.Context) (contract.Issued, error) {
	center, a := j.p.cloud.Center, *j.d.Assignment
	set, err := center.DescribeSet(ctx, a.Instance, a.PermissionSet)
	if err != nil {
		return contract.Issued{}, failed("read permission set", err)
	}
	list, err := center.ListAssigned(ctx, a)
	if err != nil {
		return contract.Issued{}, failed("list assignments", err)
	}
	there := slices.Contains(list, a.User)
	if err := j.claimAssignment(ctx, there, set.Name); err != nil {
		return contract.Issued{}, err
	}
	if !there {
		if err := j.p.assigned(ctx, a); err != nil {
			return contract.Issued{}, err
		}
	}
	return contract.Issued{
		Handle: j.h,
		Data: secret.NewMap(map[string]any{
			"principal": a.User, "account_id": a.Account, "permission_set": set.Name, "permission_set_arn": a.PermissionSet,
			"expiration": j.d.end().Format(time.RFC3339),
		}),
	}, nil
}

// claimAssignment writes down that the assignment is to be ours, before it is.
func (j *issuing) claimAssignment(ctx context.Context, there bool, set string) error {
	if j.d.Made {
		return nil
	}
	if there && !j.in.Joined {
		return contract.Refused("assign", "outside_pim", "the user already has this access outside pim")
	}
	j.d.Made, j.d.SetName = true, set
	if j.d.Rail != "" {
		if err := j.p.reserveRail(ctx, j.d); err != nil {
			return err
		}
	}
	return j.save()
}

// assigned asks for the assignment and waits until it is there.
func (p *Provider) assigned(ctx context.Context, a assignment) error {
	center := p.cloud.Center
	state, err := center.Assign(ctx, a)
	if familyOf(err) == contended {
		// Another grant of the same person is being made or withdrawn.
		return p.appears(ctx, a, true)
	}
	for err == nil && !state.Done && !state.Failed {
		if err = p.denier.wait(ctx, centerPoll); err == nil {
			state, err = center.AssignStatus(ctx, a.Instance, state.ID)
		}
	}
	if err != nil {
		return failed("assign", err)
	}
	if state.Failed {
		return contract.Refused("assign", "assignment_failed", "Identity Center failed to make the assignment")
	}
	return nil
}

// appears waits until an assignment is there, or is not any more.
func (p *Provider) appears(ctx context.Context, a assignment, want bool) error {
	for {
		there, err := p.cloud.Center.ListAssigned(ctx, a)
		if err != nil {
			return failed("list assignments", err)
		}
		if slices.Contains(there, a.User) == want {
			return nil
		}
		if err := p.denier.wait(ctx, centerPoll); err != nil {
			return err
		}
	}
}

// revokeAssignment takes the assignment away and, where a service control
// policy is kept for it, denies the role sessions that are open already.
func (p *Provider) revokeAssignment(ctx context.Context, h domain.Handle, d handleData) (contract.Ended, error) {
	if _, err := p.prove(ctx, "revoke", h.Place, 0); err != nil {
		return contract.Ended{}, err
	}
	if d.Stage == stagePrune {
		if err := p.pruneRail(ctx, d.Rail); err != nil {
			return contract.Ended{}, err
		}
		return contract.Gone(), nil
	}
	if !d.Made {
		return contract.Gone(), nil // nothing was asked for: what may be there is not ours
	}
	if err := p.unassigned(ctx, *d.Assignment); err != nil {
		return contract.Ended{}, err
	}
	if d.Rail == "" {
		return contract.Gone(), nil
	}
	until, err := p.denyOpenSessions(ctx, d)
	if err != nil {
		return contract.Ended{}, err
	}
	return later(h, d, stagePrune, until)
}

// unassigned deletes an assignment and waits until Identity Center says that
// it is gone.
func (p *Provider) unassigned(ctx context.Context, a assignment) error {
	center := p.cloud.Center
	state, err := center.Unassign(ctx, a)
	switch familyOf(err) {
	case absent:
		return p.staysAbsent(ctx, a)
	case contended:
		return failed("unassign", err)
	case unknown, taken, full, throttled, denied, login, refused, unavailable:
	}
	for err == nil && !state.Done && !state.Failed {
		if err = p.denier.wait(ctx, centerPoll); err == nil {
			state, err = center.UnassignStatus(ctx, a.Instance, state.ID)
		}
	}
	if err != nil {
		return failed("unassign", err)
	}
	if state.Failed {
		return &contract.Error{Op: "unassign", Code: "unassignment_failed", Public: "Identity Center failed to delete the assignment"}
	}
	return p.appears(ctx, a, false)
}

// staysAbsent waits until an assignment is not there, and for a while longer: a
// call that was given up may still be on its way.
func (p *Provider) staysAbsent(ctx context.Context, a assignment) error {
	if err := p.appears(ctx, a, false); err != nil {
		return err
	}
	if err := p.denier.wait(ctx, p.pace.settle); err != nil {
		return err
	}
	there, err := p.cloud.Center.ListAssigned(ctx, a)
	if err != nil {
		return failed("list assignments", err)
	}
	if slices.Contains(there, a.User) {
		return p.unassigned(ctx, a)
	}
	return nil
}

// ResolvePrincipal implements contract.PrincipalResolver: the requester's own
// Identity Center user, by one pinned source and exact match.
func (p *Provider) ResolvePrincipal(ctx context.Context, who domain.Entity, fields contract.Values) (string, error) {
	f := normalize(fields)
	if f.String("credential_type") != kindCenter {
		return "", nil
	}
	name, err := ownName(who, f.String("principal_source"))
	if err != nil {
		return "", err
	}
	store, err := p.cloud.Center.Store(ctx, p.set.Center)
	if err != nil {
		return "", failed("find the Identity Center instance", err)
	}
	id, err := p.cloud.Center.UserID(ctx, store, f.String("principal_attribute"), name)
	if isAbsent(err) {
		return "", contract.Refused("resolve principal", "no_principal", "Identity Center has no user that matches the requester")
	}
	if err != nil {
		return "", failed("resolve principal", err)
	}
	if !userIDForm.MatchString(id) {
		return "", &contract.Error{Op: "resolve principal", Code: codeUnknown, Public: strange}
	}
	return id, nil
}
