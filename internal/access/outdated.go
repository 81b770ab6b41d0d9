package access

import (
	"context"
	"fmt"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// revokeLive ends what was issued under a role or target, when the edit says
// so. It runs under the lock of what is edited and before the edit is written:
// so nothing is issued meanwhile, and an edit that is cut off in the midst is
// finished by doing it again.
func (a *Access) revokeLive(ctx context.Context, by domain.Party, rows []row, eff Effect) error {
	if !eff.Revoked {
		return nil
	}
	for _, r := range rows {
		if r.live == 0 {
			continue
		}
		if err := a.endRequest(ctx, r.id, by, "the role or its target was changed with live=revoke"); err != nil {
			return fmt.Errorf("live=revoke: %w", err)
		}
	}
	return nil
}

// voidOutdated closes what was asked under a role or target before an edit.
// What fails here is void in any case, since its digest no longer holds: the
// reaper and whoever uses it next close it.
func (a *Access) voidOutdated(ctx context.Context, by domain.Party, rows []row, eff Effect) {
	if len(eff.SecurityChanged) == 0 || eff.Proposed.Waits {
		return
	}
	for _, r := range rows {
		if !r.state.Undecided() {
			continue
		}
		if err := a.void(ctx, r.id, by); err != nil {
			a.log.Warn("a request could not be voided; it is tried again", "request", string(r.id), "error", err)
		}
	}
	a.reaper.nudge()
}

// void closes a pending or scheduled request whose digest no longer holds.
func (a *Access) void(ctx context.Context, id domain.RequestID, by domain.Party) error {
	return a.store.WithRequest(id, func(tx requestTx) error {
		r, err := a.load(ctx, tx, id, nil)
		if err != nil || r == nil {
			return err
		}
		cur, err := a.settleTime(*r)
		if err != nil || !cur.State.Undecided() {
			return err
		}
		next, err := cur.Apply(domain.Event{Kind: domain.Voided, By: by, Reason: "the role or its target changed"}, a.now())
		if err != nil {
			return err
		}
		return a.save(ctx, tx, next, "request voided")
	})
}

// standsIn reports whether what a request was filed under is still what is
// there.
func (a *Access) standsIn(ctx context.Context, t terms) (bool, error) {
	role, err := a.store.Role(ctx, t.role)
	if err != nil || role == nil {
		return err != nil, err
	}
	target, err := a.store.Target(ctx, t.target)
	if err != nil || target == nil {
		return err != nil, err
	}
	return role.Revision() == t.roleRev && target.Revision() == t.targetRev && role.Target == t.target, nil
}

// stillMeant closes what somebody asked under a role or target as they no
// longer are, and returns the rest.
func (a *Access) stillMeant(ctx context.Context, open []domain.Request, now domain.Request) ([]domain.Request, error) {
	kept := open[:0:0]
	for _, o := range open {
		if o.State.Undecided() && (o.RoleRevision != now.RoleRevision || o.TargetRevision != now.TargetRevision) {
			if err := a.void(ctx, o.ID, domain.Party{}); err != nil {
				return nil, err
			}
			continue
		}
		kept = append(kept, o)
	}
	return kept, nil
}
