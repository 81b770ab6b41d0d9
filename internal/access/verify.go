package access

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// verify re-reads, live, that the grant still stands: the digest under the
// role and target as they are, and the approvers whose decisions are needed. It
// returns until when it stands, where that is before the window's end.
func (a *Access) verify(ctx context.Context, who actor, role *domain.Role, r *domain.Request) (time.Time, error) {
	var whole time.Time
	sealed, err := a.sealedNow(ctx, r, role)
	if err != nil {
		return whole, err
	}
	if sealed != r.Digest {
		return whole, fault.New(fault.Conflict, fault.CodeRoleChanged,
			"no active grant: the role or its target changed since request "+string(r.ID)+" was filed; run: "+requestCommand(role), nil).
			With("request_id", string(r.ID)).With("role", role.Name).With("state", string(r.State)).With("next", requestCommand(role))
	}
	if r.BreaksGlass() {
		return whole, nil // neither hours nor conditions nor approvals: that is what it is for
	}
	if r.Observed != "" && role.Observing(a.now()) {
		return whole, nil
	}
	if err := a.within(role); err != nil {
		return whole, err
	}
	if role.AutoApprove && len(role.Conditions()) == 0 {
		return whole, nil
	}
	o, all, err := a.outcome(ctx, who, role, r, needed(*r))
	if err == nil && !o.Met && !all {
		// Of those that were enough one no longer counts: ask about them all.
		o, _, err = a.outcome(ctx, who, role, r, r.Decisions)
	}
	if err != nil {
		return whole, err
	}
	switch {
	case o.Met:
		return a.verifyExtended(ctx, who, role, r)
	case o.Blocked:
		return whole, errPolicy(role, o)
	}
	return whole, errQuorumGone(role, r, o)
}

// errQuorumGone leaves out who no longer counts: that is in the request's own
// view, and names stay out of errors.
func errQuorumGone(role *domain.Role, r *domain.Request, o domain.Outcome) error {
	return fault.New(fault.Denied, fault.CodeNotApprover, "access denied: the approvals of request "+string(r.ID)+" no longer suffice; see: vault read pim/requests/"+string(r.ID), nil).
		With("request_id", string(r.ID)).With("role", role.Name).
		With("approvals", map[string]any{"have": o.Have, "need": o.Need})
}

// verifyExtended re-reads the approvers of the extensions that a grant lives by.
// One that is still ahead and no longer stands ends the grant where it starts.
func (a *Access) verifyExtended(ctx context.Context, who actor, role *domain.Role, r *domain.Request) (time.Time, error) {
	for _, x := range r.Extended() {
		o, _, err := a.outcome(ctx, who, role, &x, x.Decisions)
		switch {
		case err != nil:
			return time.Time{}, err
		case o.Met:
		case a.now().Before(x.StartTime):
			return x.StartTime, nil
		default:
			return time.Time{}, errQuorumGone(role, r, o)
		}
	}
	return time.Time{}, nil
}

// outcome evaluates a grant by some of its decisions; all = by every one.
func (a *Access) outcome(ctx context.Context, who actor, role *domain.Role, r *domain.Request, ds []domain.Decision) (o domain.Outcome, all bool, err error) {
	f, err := a.factsFor(ctx, role, r, ds, a.calling(who))
	if err != nil {
		return o, false, err
	}
	// It stands by the time at which it was approved: what a stage allows once
	// nobody has answered replaces nobody who answered and counts no more.
	if !r.Times.Quorum.IsZero() {
		f.Now = r.Times.Quorum
	}
	o = domain.Evaluate(*role, f)
	o.Met = o.Met && (!o.Fallback || r.ReviewOwed != "")
	return o, len(ds) == len(r.Decisions), nil
}

// needed are the decisions that made the quorum: those until it was met.
func needed(r domain.Request) []domain.Decision {
	for i, d := range r.Decisions {
		if d.At.After(r.Times.Quorum) {
			return r.Decisions[:i]
		}
	}
	return r.Decisions
}
