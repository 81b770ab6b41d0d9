package azure

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// unassignAll deletes a credential's role assignments and tells whether all
// were there. All are tried, and none may fail: a token outlives its secret, and
// Azure asks for the assignment with every call.
func (p *Provider) unassignAll(ctx context.Context, n names) (bool, error) {
	var failed []error
	all := true
	for _, a := range n.Roles {
		was, err := p.arm.unassign(ctx, a)
		if err != nil {
			failed = append(failed, failure("delete role assignment", err))
		}
		all = all && was
	}
	return all, first(failed)
}

// revokeAssignment ends an assignment of the requester's own account. One that
// is not there may not be shown yet.
func (p *Provider) revokeAssignment(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	was, err := p.unassignAll(ctx, n)
	if err != nil {
		return contract.Ended{}, err
	}
	if !was {
		return p.lookAgain(h), nil
	}
	return contract.Gone(), nil
}

// first is the first of several errors: one clear message.
func first(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return errs[0]
}

// revokePrincipal ends a credential's own service principal: assignments and
// memberships first, then it is disabled, loses its secret, and is deleted with
// its application. What can still be done is done when a step fails; the error
// is returned, and everything is tried again.
func (p *Provider) revokePrincipal(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	if n.Stage == stagePurge {
		return p.purge(ctx, h, n)
	}
	var failed []error
	all, err := p.unassignAll(ctx, n)
	if err != nil {
		failed = append(failed, err)
	}
	n, found, err := p.findOwn(ctx, h, n)
	if err != nil {
		return contract.Ended{}, first(append(failed, failure("read application", err)))
	}
	for _, step := range []func(context.Context, domain.Handle, names) error{p.leaveGroups, p.disable, p.takeSecret} {
		if err := step(ctx, h, n); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return contract.Ended{}, first(failed)
	}
	if !found {
		return p.lookAgain(h), nil
	}
	ended, err := p.deleteApplication(ctx, h, n)
	if err == nil && ended.Done() && !all {
		return p.lookAgain(h), nil
	}
	return ended, err
}

// findOwn looks for an application whose id was never noted, by the name that
// it has from the start.
func (p *Provider) findOwn(ctx context.Context, h domain.Handle, n names) (names, bool, error) {
	if n.Object == "" {
		app, err := p.graph.applicationBy(ctx, applicationPath(namePrefix+string(h.Credential)))
		if isAbsent(err) {
			return n, false, nil
		}
		if err != nil {
			return n, false, err
		}
		n.Object, n.Client = app.ID, app.AppID
	}
	if n.Principal == "" && n.Client != "" {
		sp, err := p.graph.principalBy(ctx, principalPath(n.Client))
		if err != nil && !isAbsent(err) {
			return n, true, err
		}
		n.Principal = sp.ID
	}
	return n, true, nil
}

func (p *Provider) leaveGroups(ctx context.Context, _ domain.Handle, n names) error {
	if n.Principal == "" {
		return nil
	}
	for _, group := range n.Group {
		if _, err := p.graph.removeMember(ctx, group, n.Principal); err != nil {
			return failure("remove from group", err)
		}
	}
	return nil
}

// disable stops the service principal, which services that take part in
// continuous access evaluation hear at once.
func (p *Provider) disable(ctx context.Context, _ domain.Handle, n names) error {
	if n.Principal == "" {
		return nil
	}
	_, err := p.graph.do(ctx, graphCall{
		method: http.MethodPatch, path: "/servicePrincipals/" + n.Principal, in: map[string]bool{"accountEnabled": false},
	})
	if isAbsent(err) {
		return nil
	}
	return failure("disable service principal", err)
}

func (p *Provider) takeSecret(ctx context.Context, h domain.Handle, n names) error {
	if n.Object == "" {
		return nil
	}
	if _, err := p.removePasswords(ctx, n, h.Credential); err != nil && !isAbsent(err) {
		return failure("remove password", err)
	}
	return nil
}

// purgeAfter is how long Entra may take to show what was deleted in its bin.
const purgeAfter = 30 * time.Second

func (p *Provider) deleteApplication(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	was, err := p.graph.remove(ctx, "/applications/"+n.Object)
	if err != nil {
		return contract.Ended{}, failure("delete application", err)
	}
	if !n.Purge {
		if !was {
			return p.lookAgain(h), nil
		}
		return contract.Gone(), nil
	}
	if !was && p.env.Clock.Now().Before(late(h.Credential)) {
		return p.lookAgain(h), nil
	}
	n.Stage, n.Due = stagePurge, p.env.Clock.Now().Add(purgeAfter).Unix()
	rest, err := remote.WithData(h, n)
	if err != nil {
		return contract.Ended{}, err
	}
	return contract.Ended{AccessGone: true, Rest: rest, Again: time.Unix(n.Due, 0)}, nil
}

// purge takes the deleted application and its principal out of the bin.
func (p *Provider) purge(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	if p.env.Clock.Now().Before(time.Unix(n.Due, 0)) {
		return contract.Ended{AccessGone: true, Rest: h, Again: time.Unix(n.Due, 0)}, nil
	}
	if _, err := p.unassignAll(ctx, n); err != nil {
		return contract.Ended{}, err
	}
	for _, id := range []string{n.Object, n.Principal} {
		if id == "" {
			continue
		}
		if _, err := p.graph.remove(ctx, "/directory/deletedItems/"+id); err != nil {
			return contract.Ended{}, failure("purge deleted application", err)
		}
	}
	return contract.Gone(), nil
}

// revokePassword removes the password. An application that is no more took it
// along.
func (p *Provider) revokePassword(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	was, err := p.removePasswords(ctx, n, h.Credential)
	if isAbsent(err) {
		return p.lookAgain(h), nil
	}
	if err != nil {
		return contract.Ended{}, failure("remove password", err)
	}
	if !was || n.Key == "" {
		return p.lookAgain(h), nil
	}
	return contract.Gone(), nil
}

var errInDoubt = errors.New("a membership that nobody noted")

// revokeMember ends a membership that is ours.
func (p *Provider) revokeMember(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	const op = "remove from group"
	p.joined.drop(h.Shared)
	group, who := n.Group[0], n.Principal
	switch {
	case n.Foreign:
		return contract.Gone(), nil
	case n.Given:
		was, err := p.graph.removeMember(ctx, group, who)
		if err != nil {
			return contract.Ended{}, failure(op, err)
		}
		if !was { // it may not be shown yet
			return p.lookAgain(h), nil
		}
		return contract.Gone(), nil
	}
	there, err := p.graph.isMember(ctx, group, who)
	if err != nil {
		return contract.Ended{}, failure(op, err)
	}
	if there {
		return contract.Ended{}, &contract.Error{
			Op: op, Code: "in_doubt", Cause: errInDoubt,
			Public: "the account is a member of the group, and no record says whether pim made it one; remove it by hand if it should not be",
		}
	}
	return contract.Gone(), nil
}
