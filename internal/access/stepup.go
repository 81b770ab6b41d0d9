package access

import (
	"context"
	"slices"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/condition"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// callingToken is the token of one call. It is looked up at most once through
// each target, whoever asks.
type callingToken struct {
	accessor, entity string

	mu   sync.Mutex
	seen map[string]lookedUp
}

type lookedUp struct {
	facts *condition.TokenFacts
	err   error
}

// tokenFacts looks the calling token up through the role's token_target. It is
// nil for a role without one; every other failure is a refusal, since nothing
// is then known of the token. It calls the host: hold no lock.
func (a *Access) tokenFacts(ctx context.Context, who actor, role *domain.Role) (*condition.TokenFacts, error) {
	if role.TokenTarget == "" {
		return nil, nil
	}
	if who.token == nil {
		return nil, errLookup(role, nil)
	}
	t := who.token
	t.mu.Lock()
	defer t.mu.Unlock()
	if got, ok := t.seen[role.TokenTarget]; ok {
		return got.facts, got.err
	}
	facts, err := a.lookUp(ctx, t, role)
	if t.seen == nil {
		t.seen = map[string]lookedUp{}
	}
	t.seen[role.TokenTarget] = lookedUp{facts, err}
	return facts, err
}

func (a *Access) lookUp(ctx context.Context, t *callingToken, role *domain.Role) (*condition.TokenFacts, error) {
	if t.accessor == "" {
		return nil, errFreshLogin(role, "this token has no accessor, as batch tokens have none, and cannot be looked up", nil)
	}
	p, err := a.providers.of(ctx, role.TokenTarget)
	if err != nil {
		return nil, errLookup(role, err)
	}
	looker, ok := p.Provider.(contract.TokenLooker)
	if !ok {
		return nil, errLookup(role, nil)
	}
	got, err := looker.LookupToken(ctx, t.accessor)
	if err != nil {
		return nil, errLookup(role, err)
	}
	if got.Entity != t.entity {
		return nil, errLookup(role, nil)
	}
	return &condition.TokenFacts{Meta: got.Meta, Created: got.Created, Path: got.Path, Mount: got.Mount, Type: got.Type}, nil
}

// stepUp refuses a caller whose token does not come from the login that the
// role asks for. It calls the host: hold no lock.
func (a *Access) stepUp(ctx context.Context, who actor, role *domain.Role) error {
	if !role.StepUp() {
		return nil
	}
	t, err := a.tokenFacts(ctx, who, role)
	if err != nil {
		return err
	}
	if t == nil {
		return errLookup(role, nil)
	}
	why := role.LoginProblem(domain.Login{Created: t.Created, Path: t.Path, Mount: t.Mount}, a.now())
	if why == "" {
		return nil
	}
	return errFreshLogin(role, why, nil)
}

// errFreshLogin says what kind of login would do.
func errFreshLogin(role *domain.Role, why string, cause error) error {
	err := fault.New(fault.Denied, fault.CodeFreshLogin, "access denied: log in again: "+why, cause).With("role", role.Name)
	if role.MaxLoginAge > 0 {
		err = err.With("max_login_age", int(role.MaxLoginAge))
	}
	if role.RequiredLogin != "" {
		err = err.With("required_login", role.RequiredLogin)
	}
	return err
}

func errLookup(role *domain.Role, cause error) error {
	return errFreshLogin(role, "this token could not be looked up", cause)
}

// checkTokenTarget reports what is wrong with a role's token_target.
func (a *Access) checkTokenTarget(ctx context.Context, p *fault.Problems, r *domain.Role) error {
	if r.TokenTarget == "" || !domain.ValidName(r.TokenTarget) {
		return nil
	}
	t, err := a.store.Target(ctx, r.TokenTarget)
	if err != nil {
		return err
	}
	switch {
	case t == nil:
		p.Add("token_target", "does not exist")
		return nil
	case len(t.AllowedRoles) > 0 && !matchesAny(t.AllowedRoles, r.Name):
		p.Add("token_target", "its allowed_roles do not allow a role of this name")
		return nil
	}
	inst, err := a.providers.of(ctx, t.Name)
	if err != nil {
		return err
	}
	if _, ok := inst.Provider.(contract.TokenLooker); !ok {
		p.Add("token_target", "must be a target of type host")
	}
	return nil
}

// lookUpsOf names the roles that have calling tokens looked up through a target.
func (a *Access) lookUpsOf(ctx context.Context, target string) ([]string, error) {
	return a.rolesWhere(ctx, func(r domain.Role) bool { return r.TokenTarget == target })
}

// usersOf names the roles that need a target for anything.
func (a *Access) usersOf(ctx context.Context, target string) ([]string, error) {
	return a.rolesWhere(ctx, func(r domain.Role) bool { return r.Target == target || r.TokenTarget == target })
}

// withLookUps marks the specs of roles that have calling tokens looked up, and
// adds those that do nothing else at the target.
func withLookUps(specs []contract.Spec, names []string) []contract.Spec {
	for _, name := range names {
		at := slices.IndexFunc(specs, func(s contract.Spec) bool { return s.Role == name })
		if at < 0 {
			specs = append(specs, contract.Spec{Role: name, LooksUp: true})
			continue
		}
		specs[at].LooksUp = true
	}
	return specs
}
