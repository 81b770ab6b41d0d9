package access

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// guardBudget bounds what a role's write asks its target.
const guardBudget = 10 * time.Second

// guardSelf asks the target whether a role, as an edit would make it, reaches
// the engine's own identity. No lock is held. What else is wrong with the edit
// is said by others, and each issue asks the target again.
func (a *Access) guardSelf(ctx context.Context, name string, e RoleEdit) (warnings []string, err error) {
	old, err := a.store.Role(ctx, name)
	if err != nil {
		return nil, err
	}
	next, err := a.editedRole(ctx, name, old, e)
	if err != nil {
		return nil, err
	}
	t, err := a.store.Target(ctx, next.Target)
	if err != nil || t == nil {
		return nil, err
	}
	p, err := a.providers.of(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	g, ok := p.Provider.(contract.SelfGuard)
	spec := contract.Spec{Role: name, Fields: fieldsOf(p.descriptor, next.All()), Params: contract.SortedKeys(next.Params)}
	if !ok || !p.Validate(ctx, spec, false).OK() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, guardBudget)
	defer cancel()
	report := g.GuardSelf(ctx, spec)
	var problems fault.Problems
	for _, x := range report.Problems {
		problems.Add(x.Field, x.Text)
	}
	return report.Warnings, problems.Err()
}
