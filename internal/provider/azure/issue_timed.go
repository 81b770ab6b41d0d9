package azure

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const opTimed = "assign role for a time"

// issueTimed asks Azure for an assignment that Azure itself ends, and waits
// until there is one. Several credentials of one account use one assignment,
// which ends with the last of them.
func (p *Provider) issueTimed(ctx context.Context, j *job) (contract.Issued, error) {
	found, err := p.arm.request(ctx, j.names.Roles[0].Scope, j.names.Roles[0].Name)
	if err != nil {
		return contract.Issued{}, failure(opTimed, err)
	}
	if found != nil {
		return p.timedAnswer(j, found)
	}
	switch {
	case j.in.Joined:
		return p.joinTimed(ctx, j)
	case j.names.Given: // it was taken, and is not shown yet
		return j.pending(), nil
	}
	return p.askTimed(ctx, j, armauthorization.RequestTypeAdminAssign)
}

// askTimed makes the credential's own request.
func (p *Provider) askTimed(ctx context.Context, j *job, what armauthorization.RequestType) (contract.Issued, error) {
	a := j.names.Roles[0]
	if j.end().Before(p.env.Clock.Now().Add(shortestSchedule)) {
		return contract.Issued{}, contract.Refused(opTimed, "too_late", "Azure assigns no role for less than five minutes")
	}
	made, err := p.arm.ask(ctx, a, j.names.Principal, what, j.end(), describeFor(p.target.Tag(), j.in.Credential, j.in.Request))
	if err == nil {
		if err := j.note(func(n *names) { n.Given = true }); err != nil {
			return contract.Issued{}, err
		}
		return p.timedAnswer(j, made)
	}
	// The answer to an earlier try may have been lost.
	if found, again := p.arm.request(ctx, a.Scope, a.Name); again == nil && found != nil {
		return p.timedAnswer(j, found)
	}
	if codeOf(err) == "RoleAssignmentExists" {
		return p.joinTimed(ctx, j)
	}
	return contract.Issued{}, failure(opTimed, err)
}

// joinTimed uses the assignment that another credential of ours asked for, and
// has Azure end it later if need be. One at a time: the latest end wins.
func (p *Provider) joinTimed(ctx context.Context, j *job) (contract.Issued, error) {
	select {
	case p.extending <- struct{}{}:
		defer func() { <-p.extending }()
	case <-ctx.Done():
		return contract.Issued{}, failure(opTimed, ctx.Err())
	}
	s, err := p.arm.scheduled(ctx, j.names.Roles[0], j.names.Principal)
	if err != nil {
		return contract.Issued{}, failure(opTimed, err)
	}
	if s == nil {
		return p.notYetTimed(j)
	}
	mine, seen, err := p.ours(ctx, s)
	switch {
	case err != nil:
		return contract.Issued{}, failure(opTimed, err)
	case !seen:
		return p.notYetTimed(j)
	case !mine:
		return contract.Issued{}, outside(opTimed)
	}
	if err := j.note(func(n *names) { n.Given = true }); err != nil {
		return contract.Issued{}, err
	}
	if s.end.Before(j.end()) {
		return p.askTimed(ctx, j, armauthorization.RequestTypeAdminUpdate)
	}
	return p.timedData(j), nil
}

// notYetTimed is the answer while the assignment that is there is not shown,
// and the reason why nobody waits any longer.
func (p *Provider) notYetTimed(j *job) (contract.Issued, error) {
	switch late := p.env.Clock.Now().After(domain.TimeOf(string(j.in.Credential)).Add(slowTimeout - 2*issueTimeout)); {
	case !late:
		return j.pending(), nil
	case !j.in.Joined && !j.names.Given:
		return contract.Issued{}, outside(opTimed)
	}
	return contract.Issued{}, &contract.Error{
		Op: opTimed, Code: "busy", Public: "another credential of the same access is being made or ended; try again",
	}
}

// timedAnswer reads what became of the credential's own request.
func (p *Provider) timedAnswer(j *job, r *scheduleRequest) (contract.Issued, error) {
	if !j.names.Roles[0].asked(r, j.names.Principal, j.end()) {
		return contract.Issued{}, contract.Refused(opTimed, "other_assignment", "what Azure made is not what was approved")
	}
	switch progressOf(r) {
	case underway:
		return j.pending(), nil
	case failed:
		return contract.Issued{}, contract.Refused(opTimed, string(*r.Status), "Azure did not make the assignment")
	case done:
	}
	return p.timedData(j), nil
}

func (p *Provider) timedData(j *job) contract.Issued {
	a := j.names.Roles[0]
	return contract.Issued{Handle: j.handle, NotAfter: j.end(), Data: secret.NewMap(map[string]any{
		"principal_id": j.names.Principal, "azure_roles": []string{a.Role + "@" + a.Scope}, "tenant_id": p.config.tenant,
	})}
}

// revokeTimed ends an assignment that Azure would end by itself. Only what one
// of our requests made is ended.
func (p *Provider) revokeTimed(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	const op = "end timed assignment"
	now := p.env.Clock.Now()
	s, err := p.arm.scheduled(ctx, n.Roles[0], n.Principal)
	if err != nil {
		return contract.Ended{}, failure(op, err)
	}
	if s != nil && (s.end.IsZero() || now.Before(s.end)) {
		mine, seen, err := p.ours(ctx, s)
		switch {
		case err != nil:
			return contract.Ended{}, failure(op, err)
		case !seen && now.Before(late(h.Credential)):
			return p.stillThere(h, now.Add(pollAfter)), nil
		case !mine:
			return p.lookAgain(h), nil // ours cannot be there beside it
		}
		return p.removeTimed(ctx, h, n)
	}
	r, err := p.arm.request(ctx, n.Roles[0].Scope, n.Roles[0].Name)
	switch {
	case err != nil:
		return contract.Ended{}, failure(op, err)
	case r == nil || progressOf(r) == failed || !now.Before(time.Unix(n.End, 0)):
		return p.lookAgain(h), nil
	case progressOf(r) == underway:
		if err := p.arm.cancel(ctx, n.Roles[0].Scope, n.Roles[0].Name); err != nil {
			return contract.Ended{}, failure(op, err)
		}
		return p.stillThere(h, now.Add(pollAfter)), nil
	}
	return p.removeTimed(ctx, h, n) // it is not shown yet, or not any more
}

// removeTimed asks Azure to end the assignment. It takes that only from some
// minutes after the beginning on.
func (p *Provider) removeTimed(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	now, a := p.env.Clock.Now(), n.Roles[0]
	a.Name = guid(a.Name, "remove", rand.Text()) // nothing is made by it, so it needs no record
	_, err := p.arm.ask(ctx, a, n.Principal, armauthorization.RequestTypeAdminRemove, time.Time{},
		describeFor(p.target.Tag(), h.Credential, ""))
	switch codeOf(err) {
	case "RoleAssignmentDoesNotExist":
		return p.lookAgain(h), nil
	case "ActiveDurationTooShort":
		return p.stillThere(h, now.Add(removePause)), nil
	case "PendingRoleAssignmentRequest":
		return p.stillThere(h, now.Add(pollAfter)), nil
	}
	if err != nil {
		return contract.Ended{}, failure("end timed assignment", err)
	}
	return contract.Ended{AccessGone: true, Rest: h, Again: now.Add(remote.FirstLook)}, nil
}

// stillThere is the outcome "not before then".
func (p *Provider) stillThere(h domain.Handle, again time.Time) contract.Ended {
	return contract.Ended{Rest: h, Again: again}
}
