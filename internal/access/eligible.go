package access

import (
	"context"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// EligibleView is what somebody may request and how.
type EligibleView struct {
	Role       domain.Role
	Needs      []string // fields that a request must carry
	WaitingFor string
	Revocation domain.Revocation
	Command    string
	Provider   string
	Yields     string
	Emergency  *EmergencyView // nil = the caller may not break the glass
}

// Eligible lists the roles that the caller may request.
func (a *Access) Eligible(ctx context.Context, c Caller, after string, limit int) ([]string, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return nil, err
	}
	names, err := a.store.Roles(ctx, after, 0)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = len(names)
	}
	var out []string
	for _, name := range names {
		role, err := a.store.Role(ctx, name)
		if err != nil {
			return nil, err
		}
		if role != nil && (role.Eligible(who.Entity, a.now()).OK || !who.machine && role.MayBreakGlass(who.Entity).OK) {
			if out = append(out, name); len(out) == limit {
				break
			}
		}
	}
	return out, nil
}

// EligibleRole says what one role needs, yields and promises.
func (a *Access) EligibleRole(ctx context.Context, c Caller, name string) (EligibleView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return EligibleView{}, err
	}
	role, err := a.eligibleRole(ctx, who, name)
	onlyGlass := fault.Is(err, fault.CodeNotEligible)
	if onlyGlass {
		if glass, no := a.glassRole(ctx, who, name); no == nil {
			role, err = glass, nil
		}
	}
	if err != nil {
		return EligibleView{}, err
	}
	emergency, err := a.emergency(ctx, who, role)
	if err != nil {
		return EligibleView{}, err
	}
	v := EligibleView{
		Role: *role, WaitingFor: waitingFor(role, 0), Revocation: a.revocationOf(ctx, role, role.Target), Command: requestCommand(role),
		Emergency: emergency, Needs: needsOf(role),
	}
	switch {
	case onlyGlass:
		v.Command = emergency.Command
	case role.AutoApprove:
		v.Command = "vault read pim/creds/" + role.Name
	}
	if t, err := a.store.Target(ctx, role.Target); err == nil && t != nil {
		v.Provider = t.Type
		if d, ok := a.descriptors[t.Type]; ok {
			v.Yields = fieldsOf(d, role.All()).String("credential_type")
		}
	}
	return v, nil
}

// needsOf says what a request for a role has to bring.
func needsOf(role *domain.Role) []string {
	var out []string
	if role.RequireJustification {
		out = append(out, "justification"+described(role.JustificationPattern))
	}
	if role.RequireTicket {
		out = append(out, "ticket"+described(role.TicketPattern))
	}
	if role.RequiredLogin != "" || role.MaxLoginAge > 0 {
		out = append(out, loginNeed(role))
	}
	for _, p := range contract.SortedKeys(role.Params) {
		out = append(out, paramNeed(p, role.Params[p]))
	}
	return out
}

// loginNeed says how the caller must have logged in.
func loginNeed(role *domain.Role) string {
	s := "a login"
	if role.RequiredLogin != "" {
		s += " at the auth mount " + domain.Printable(role.RequiredLogin)
	}
	if role.MaxLoginAge > 0 {
		s += " at most " + role.MaxLoginAge.Duration().String() + " ago"
	}
	return s
}

func described(pattern string) string {
	if pattern == "" {
		return ""
	}
	return " matching " + domain.Printable(pattern)
}

func paramNeed(name string, p domain.Param) string {
	s := "params." + name
	if len(p.Allowed) > 0 {
		s += ": one of " + domain.Printable(strings.Join(p.Allowed, ", "))
	}
	s += described(p.Pattern)
	if !p.Required {
		s += " (optional)"
	}
	return s
}
