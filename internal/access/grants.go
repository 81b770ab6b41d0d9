package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// RevokeGrant ends one grant, for its requester and for those who could
// approve it.
func (a *Access) RevokeGrant(ctx context.Context, c Caller, id domain.RequestID, reason string) (RequestView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return RequestView{}, err
	}
	if why := domain.CheckText(reason, domain.MaxComment); why != "" {
		return RequestView{}, fault.New(fault.Invalid, fault.CodeInvalid, "invalid input: reason: "+why, nil)
	}
	r, err := a.visible(ctx, who, id)
	if err != nil {
		return RequestView{}, err
	}
	mine := r.Requester.Person == who.person
	if r.Granted == 0 || !mine && !a.couldApprove(ctx, who, r.Role, anyStage) {
		return RequestView{}, errUnknown()
	}
	if !r.At(a.now()).Terminal() {
		if reason == "" {
			reason = "revoked"
		}
		if err := a.endRequest(ctx, id, who.party(), reason); err != nil {
			return RequestView{}, err
		}
	}
	// End it at the target now; what fails goes on in the reaper.
	if err := a.tend(ctx, id); err != nil {
		a.log.Warn("ending a grant is left to the reaper", "request", string(id), "error", err)
	}
	again, err := a.store.Request(ctx, id)
	if err != nil || again == nil {
		return RequestView{}, err
	}
	return a.view(ctx, *again, who)
}
