package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// RevokeAll ends everything of one role or target, as the kill switch does, for
// those to whom ACL gives this one alone. A role or target that neither exists
// nor has anything open is unknown.
func (a *Access) RevokeAll(ctx context.Context, c Caller, k Kill) (JobView, error) {
	known, err := a.knows(ctx, k)
	if err != nil {
		return JobView{}, err
	}
	if !known {
		return JobView{}, fault.New(fault.Absent, fault.CodeInvalid, "no such "+string(k.Kind), nil)
	}
	return a.Kill(ctx, c, k)
}

func (a *Access) knows(ctx context.Context, k Kill) (bool, error) {
	if err := a.indexed(ctx); err != nil {
		return false, err
	}
	if k.Kind == domain.HoldRole {
		role, err := a.store.Role(ctx, k.Value)
		return role != nil || len(a.index.ofRole(k.Value)) > 0, err
	}
	target, err := a.store.Target(ctx, k.Value)
	return target != nil || len(a.index.ofTarget(k.Value)) > 0, err
}
