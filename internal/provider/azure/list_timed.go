package azure

import (
	"context"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// ourTimed adds the timed assignments at a scope that our requests made. A
// tenant without the licence has none.
func (p *Provider) ourTimed(ctx context.Context, scope string, out foundRoles) error {
	asked := map[string]*scheduleRequest{} // by name
	err := p.arm.eachRequest(ctx, scope, func(name string, r *scheduleRequest) { asked[name] = r })
	if codeOf(err) == "AadPremiumLicenseRequired" {
		return nil
	}
	if err != nil {
		return err
	}
	now := p.env.Clock.Now()
	var live []schedule
	err = p.arm.eachSchedule(ctx, scope, "", func(s schedule) {
		if s.end.IsZero() || now.Before(s.end) {
			live = append(live, s)
		}
	})
	if err != nil {
		return err
	}
	for _, s := range live {
		if r := asked[s.request]; r == nil || !p.tells(r) {
			continue // it is what somebody else's request made it
		}
		if err := p.usersOf(s, asked, out); err != nil {
			return err
		}
	}
	return nil
}

// tells tells whether a request says that it is ours.
func (p *Provider) tells(r *scheduleRequest) bool {
	if r.Justification == nil {
		return false
	}
	_, _, ok := readDescription(*r.Justification, p.target.Tag())
	return ok
}

// usersOf adds one of our timed assignments, once for each credential that
// asked for it or for a later end of it.
func (p *Provider) usersOf(s schedule, asked map[string]*scheduleRequest, out foundRoles) error {
	if !guidForm.MatchString(s.role) || !scopeForm.MatchString(s.scope) || !principalForm.MatchString(s.who) {
		return nil
	}
	key := assignment{Scope: s.scope, Role: s.role}
	for _, name := range contract.SortedKeys(asked) {
		r := asked[name]
		same := r.Scope != nil && strings.EqualFold(*r.Scope, s.scope) && key.asked(r, s.who, s.end)
		if !same || !p.tells(r) || !guidForm.MatchString(name) {
			continue
		}
		cred, req, _ := readDescription(*r.Justification, p.target.Tag())
		n := names{
			Kind: kindAssignment, Timed: true, Given: true, Principal: s.who, Roles: []assignment{{Scope: s.scope, Role: s.role, Name: name}},
		}
		f, err := p.found(cred, req, timedKey(s.who, s.role, s.scope), n, "timed role assignment "+name)
		if err != nil {
			return err
		}
		out.own[name] = f
	}
	return nil
}
