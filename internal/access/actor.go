package access

import (
	"context"
	"maps"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// Caller is who calls, as the host hands it over.
type Caller struct {
	EntityID string
	CallID   string // the host's id of this call; the same when the host itself sends again
	Accessor string // of the calling token; "" = it has none. Never stored or logged
}

// actor is a caller as the host knows them at this moment.
type actor struct {
	domain.Entity
	person  domain.Person
	machine bool
	call    string
	token   *callingToken // shared by all copies
	early   *early        // what this call asked for ahead; nil = nothing
}

func (w actor) party() domain.Party {
	return domain.Party{Entity: w.ID, Person: w.person, Name: displayName(w.Entity), Machine: w.machine}
}

// displayName prefers the name that people chose over the one that the host
// made up.
func displayName(e domain.Entity) string {
	if strings.HasPrefix(e.Name, "entity_") && len(e.Aliases) > 0 {
		return e.Aliases[0].Name
	}
	return e.Name
}

func errLogin(why string) error {
	return fault.New(fault.Denied, fault.CodeLogin, "access denied: log in again: "+why, nil)
}

// actor reads the caller live. Root tokens and tokens without an entity never
// request, approve or read credentials; neither does our own login.
func (a *Access) actor(ctx context.Context, c Caller) (actor, error) {
	if c.EntityID == "" {
		return actor{}, errLogin("this token belongs to no entity")
	}
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return actor{}, err
	}
	e, err := a.directory.Entity(ctx, c.EntityID, true)
	if err != nil {
		return actor{}, err
	}
	switch {
	case e == nil:
		return actor{}, errLogin("the identity of this token is not known any more")
	case e.Disabled:
		return actor{}, errLogin("the identity of this token is disabled")
	case len(e.Aliases) == 0:
		return actor{}, errLogin("the identity of this token has no login in this namespace")
	}
	own, err := a.providers.own(ctx, e.ID)
	if err != nil {
		return actor{}, err
	}
	if own {
		return actor{}, fault.New(fault.Denied, fault.CodeLogin,
			"access denied: this is the engine's own login, which never requests, approves or reads", nil)
	}
	p, ok := domain.PersonOf(*e, cfg.PersonKey)
	if !ok {
		return actor{}, fault.New(fault.Denied, fault.CodeLogin,
			"access denied: the identity of this token lacks the metadata that names the person", nil)
	}
	return actor{
		Entity: *e, person: p, machine: domain.IsMachine(*e, cfg.HumanMounts), call: c.CallID,
		token: &callingToken{accessor: c.Accessor, entity: e.ID},
	}, nil
}

// standing reads what is true now of the authors of decisions, in parallel and
// without any lock: calls to the host's identity store cannot be cancelled.
func (a *Access) standing(ctx context.Context, role *domain.Role, known Directory, ds []domain.Decision) ([]domain.Standing, error) {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return nil, err
	}
	groups, _ := role.ApproverRefs()
	look := func(d domain.Decision) (*domain.Entity, error) {
		return known.Entity(ctx, d.By.Entity, len(groups) > 0)
	}
	others := make([]<-chan reply[*domain.Entity], len(ds))
	for i := 1; i < len(ds); i++ {
		others[i] = beside(a, "identity", func() (*domain.Entity, error) { return look(ds[i]) })
	}
	out := make([]domain.Standing, len(ds))
	for i, d := range ds {
		var got reply[*domain.Entity]
		if i == 0 {
			got.value, got.err = look(d) // most have one author: that needs nobody beside
		} else {
			got = <-others[i]
		}
		if got.err != nil {
			return nil, got.err
		}
		out[i] = domain.Standing{Decision: d, Now: got.value}
		if e := got.value; e != nil {
			out[i].Person, _ = domain.PersonOf(*e, cfg.PersonKey)
			out[i].Machine = domain.IsMachine(*e, cfg.HumanMounts)
		}
	}
	return out, nil
}

// errNotEligible is one text for an unknown role and for one that the caller
// is not eligible for, so that names cannot be guessed.
func errNotEligible() error {
	return fault.New(fault.Denied, fault.CodeNotEligible,
		"access denied: no such role, or you are not eligible; see what you can request: vault list pim/eligible", nil)
}

// eligibleRole reads a role for somebody who must be eligible for it.
func (a *Access) eligibleRole(ctx context.Context, who actor, name string) (*domain.Role, error) {
	if !domain.ValidName(name) {
		return nil, errNotEligible()
	}
	role, err := a.store.Role(ctx, name)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return nil, errNotEligible()
	}
	m := role.Eligible(who.Entity, a.now())
	if len(m.Mismatch) > 0 {
		a.log.Warn("a group of this name is another group than the role was first matched to", "role", name)
	}
	if !m.OK {
		// A role that does not exist is asked of the storage, one that does is in
		// the cache: the refusal takes as long in both cases.
		if err := a.store.MissRole(ctx, name); err != nil {
			return nil, err
		}
		return nil, errNotEligible()
	}
	if len(m.Pin) > 0 {
		if role, err = a.pin(ctx, name, m.Pin); err != nil {
			return nil, err
		}
	}
	return role, nil
}

// pin remembers the id that a group name was first matched to. From then on
// only that group counts.
func (a *Access) pin(ctx context.Context, name string, pins map[string]string) (*domain.Role, error) {
	var out *domain.Role
	err := a.withRole(name, func(tx roleTx) error {
		role, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		if role == nil {
			return errNotEligible()
		}
		next := *role
		next.Pins = map[string]string{}
		maps.Copy(next.Pins, role.Pins)
		for k, v := range pins {
			if next.Pins[k] == "" {
				next.Pins[k] = v
			} else if next.Pins[k] != v {
				return errNotEligible()
			}
		}
		out = &next
		return tx.Put(ctx, next)
	})
	return out, err
}
