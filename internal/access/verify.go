package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// verify re-reads, live, that the grant still stands: the digest under the
// role and target as they are, and the approvers whose decisions are needed.
func (a *Access) verify(ctx context.Context, role domain.Role, r domain.Request) error {
	sealed, err := a.sealedNow(ctx, r, role)
	if err != nil {
		return err
	}
	if sealed != r.Digest {
		return fault.New(fault.Conflict, fault.CodeRoleChanged,
			"no active grant: the role or its target changed since request "+string(r.ID)+" was filed; run: "+requestCommand(role), nil).
			With("request_id", string(r.ID)).With("role", role.Name).With("state", string(r.State)).With("next", requestCommand(role))
	}
	if r.Auto {
		return nil
	}
	standings, err := a.standing(ctx, role, needed(r))
	if err != nil {
		return err
	}
	o := domain.Evaluate(role, r.Requester, r.Requester.Person, standings)
	if !o.Met && len(standings) < len(r.Decisions) {
		// Of those that were enough one no longer counts: ask about them all.
		if standings, err = a.standing(ctx, role, r.Decisions); err != nil {
			return err
		}
		o = domain.Evaluate(role, r.Requester, r.Requester.Person, standings)
	}
	if o.Met {
		return nil
	}
	// Who no longer counts is in the request's own view: names stay out of errors.
	return fault.New(fault.Denied, fault.CodeNotApprover, "access denied: the approvals of request "+string(r.ID)+" no longer suffice; see: vault read pim/requests/"+string(r.ID), nil).
		With("request_id", string(r.ID)).With("role", role.Name).
		With("approvals", map[string]any{"have": o.Have, "need": o.Need})
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
