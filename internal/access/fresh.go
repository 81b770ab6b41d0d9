package access

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// issueFresh files a request of a role that approves by itself and issues
// under it.
func (a *Access) issueFresh(ctx context.Context, who actor, role *domain.Role, ask CredsAsk) (*Answer, error) {
	if err := a.ready(ctx, role.Target); err != nil {
		return nil, err
	}
	if err := a.paced(ctx, who); err != nil {
		return nil, err
	}
	r, _, err := a.file(ctx, who, role, ask.Ask, filing{fresh: true})
	if err != nil {
		return nil, err
	}
	return a.issueFiled(ctx, who, role, r, ask)
}

// fileByRule files what a read asks for at a role whose condition approves it;
// nil = the condition does not hold, the ask is not complete, something is open
// already, or the last one was refused a short time ago.
func (a *Access) fileByRule(ctx context.Context, who actor, role *domain.Role, f finding, ask CredsAsk) (*domain.Request, error) {
	if role.AutoApproveWhen == "" && !role.Observing(a.now()) || ask.RequestID != "" || f.request != nil {
		return nil, nil //nolint:nilnil // nothing filed is an ordinary answer
	}
	if f.last != nil && a.now().Sub(f.last.At) < f.cool && (f.last.Closed == domain.Denied || f.last.Closed == domain.Revoked) {
		return nil, nil //nolint:nilnil // as above
	}
	if !complete(role, ask.Ask, a.now()) {
		return nil, nil //nolint:nilnil // as above
	}
	if err := a.ready(ctx, role.Target); err != nil {
		return nil, err
	}
	if err := a.paced(ctx, who); err != nil {
		return nil, err
	}
	r, _, err := a.file(ctx, who, role, ask.Ask, filing{fresh: true, auto: true})
	return r, err
}

// complete tells whether a read says all that a request at the role must say.
func complete(role *domain.Role, ask Ask, now time.Time) bool {
	var p fault.Problems
	checkAsk(&p, role, &ask, now)
	return p.Err() == nil
}

// issueFiled issues under a request that was filed for this read.
func (a *Access) issueFiled(ctx context.Context, who actor, role *domain.Role, r *domain.Request, ask CredsAsk) (*Answer, error) {
	if !usable(*r, a.now()) {
		return nil, a.noGrant(role, finding{request: r})
	}
	ans, err := a.issueNew(ctx, who, role, r, time.Time{}, ask)
	if err != nil && !a.keeps(r.ID) {
		a.giveUp(ctx, r.ID, who)
	}
	return ans, err
}

// giveUp closes a request that was filed for one read which got nothing: the
// next read files its own, and they must not pile up while a target is down.
func (a *Access) giveUp(ctx context.Context, id domain.RequestID, who actor) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoBudget)
	defer cancel()
	err := a.store.WithRequest(id, func(tx *store.RequestTx) error {
		r, err := a.load(ctx, tx, id, nil)
		if err != nil || r == nil {
			return err
		}
		cur, err := a.settleTime(*r)
		if err != nil || cur.State.Terminal() {
			return err
		}
		ev := domain.Event{Kind: domain.GivenBack, By: who.party(), Reason: "nothing could be issued"}
		if cur.State.Undecided() {
			ev.Kind = domain.Withdrawn
		}
		next, err := cur.Apply(ev, a.now())
		if err != nil {
			return err
		}
		return a.save(ctx, tx, next, "given up")
	})
	if err != nil {
		a.log.Warn("a request that yielded nothing stays open until its window ends", "request", string(id), "error", err)
	}
	a.reaper.nudge()
}
