package access

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/condition"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// rolesWithConditions is how many roles' compiled conditions are kept.
const rolesWithConditions = 512

// judge gives what judges a role's conditions for a request of an entity that the
// host knows; nil for a role that has none. What a condition needs and is not to
// be had makes it fail when it is asked for, not before.
func (a *Access) judge(ctx context.Context, role *domain.Role, r *domain.Request, by asking) (domain.Judge, error) {
	exprs := role.Conditions()
	if len(exprs) == 0 {
		return nil, nil //nolint:nilnil // no conditions, no judge
	}
	set := a.conditions.Set(role.Revision(), slices.Sorted(maps.Values(exprs)), siteOf(role))
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return nil, err
	}
	e := *by.requester
	person, _ := domain.PersonOf(e, cfg.PersonKey)
	in := condition.Input{
		Request:   condition.RequestOf(*r),
		Requester: condition.RequesterOf(e, person, domain.IsMachine(e, cfg.HumanMounts)),
		Role:      condition.RoleOf(*role), Now: by.at, Params: r.Params,
	}
	if set.UsesHistory() {
		if in.History, err = a.history(ctx, person, role.Name); err != nil {
			return nil, err
		}
	}
	if set.UsesToken() && by.caller != nil {
		if in.Token, err = a.tokenFacts(ctx, *by.caller, role); err != nil {
			a.log.Warn("a calling token could not be looked up: what asks about it fails", "role", role.Name, "error", err)
		}
	}
	judge := set.Judge(in)
	return func(expr string) (bool, error) {
		if by.caller == nil && set.OfToken(expr) {
			return false, domain.ErrNotNow
		}
		return judge(expr)
	}, nil
}

// history is a person's recent use of a role, as conditions see it.
func (a *Access) history(ctx context.Context, p domain.Person, role string) (*condition.HistoryFacts, error) {
	u, err := a.usage(ctx, p, role)
	if err != nil {
		return nil, err
	}
	return condition.HistoryOf(u), nil
}

func siteOf(role *domain.Role) condition.Site {
	return condition.Site{Token: role.TokenTarget != "", Params: contract.SortedKeys(role.Params)}
}

// checkConditions reports what is wrong with any condition of a role, each
// under its own field. Stages are judged while approvers call, so they cannot
// ask about the requester's token.
func (a *Access) checkConditions(p *fault.Problems, role *domain.Role) {
	exprs := role.Conditions()
	for _, field := range contract.SortedKeys(exprs) {
		site := siteOf(role)
		if strings.HasPrefix(field, "stages.") {
			site.Token = false
		}
		for _, why := range a.conditions.Check(exprs[field], site) {
			p.Add(field, why)
		}
	}
}
