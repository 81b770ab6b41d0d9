package access

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// checkFor is how long an answer of targets/:name/check is good for.
const checkFor = 60 * time.Second

type checked struct {
	at     time.Time
	report contract.CheckReport
	place  string
}

// CheckTarget says who we are at a target and what is missing there. It calls
// the target at most once a minute. nil = no such target.
func (a *Access) CheckTarget(ctx context.Context, name string) (*contract.CheckReport, string, error) {
	t, err := a.store.Target(ctx, name)
	if err != nil || t == nil {
		return nil, "", err
	}
	p, err := a.providers.of(ctx, name)
	if err != nil {
		return nil, "", err
	}
	if c, ok := p.lastCheck(a.now()); ok {
		return &c.report, c.place, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	place, err := p.Place(ctx)
	if err != nil {
		return nil, "", providerFault(err)
	}
	if place != t.Place {
		// Another place is asked for nothing more, and shown no secret.
		return &contract.CheckReport{
			Unknown:  []string{"everything else: another place is not logged in to"},
			Warnings: []string{"the target is another place than the one it is pinned to: nothing is issued or revoked there"},
		}, place, nil
	}
	c := checked{at: a.now(), place: place}
	if checker, ok := p.Provider.(contract.Checker); ok {
		specs, err := a.specsOf(ctx, name, p.descriptor)
		if err != nil {
			return nil, "", err
		}
		if c.report, err = checker.Check(ctx, specs); err != nil {
			return nil, "", providerFault(err)
		}
		if len(c.report.Direct)+len(c.report.DirectUnknown) == 0 {
			c.report.DirectUnknown = []string{"who else has access at the target: pim asks only about what its own roles hand out there"}
		}
	} else {
		c.report.Unknown = []string{"this type of target cannot check its permissions"}
	}
	p.keepCheck(c)
	return &c.report, place, nil
}

// specsOf are the roles that use a target.
func (a *Access) specsOf(ctx context.Context, target string, d contract.Descriptor) ([]contract.Spec, error) {
	names, err := a.rolesOf(ctx, target)
	if err != nil {
		return nil, err
	}
	var out []contract.Spec
	for _, n := range names {
		role, err := a.store.Role(ctx, n)
		if err != nil {
			return nil, err
		}
		if role != nil {
			out = append(out, contract.Spec{Role: n, Fields: fieldsOf(d, role.All()), Params: contract.SortedKeys(role.Params)})
		}
	}
	lookUps, err := a.lookUpsOf(ctx, target)
	if err != nil {
		return nil, err
	}
	return withLookUps(out, lookUps), nil
}
