package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// partyTo tells whether somebody took part in a request: by what was stored then,
// and by what is true of them and of the others now.
func (a *Access) partyTo(ctx context.Context, who actor, r domain.Request) (bool, error) {
	for _, p := range r.Parties() {
		if same, err := a.sameHuman(ctx, who, p); err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// sameHuman tells whether somebody is the human being behind a party of before. The
// person key may have come, changed or gone since. An entity that was deleted or
// merged away is nobody's: the host does not say into whom.
func (a *Access) sameHuman(ctx context.Context, who actor, p domain.Party) (bool, error) {
	if p.Entity == "" {
		return false, nil
	}
	if p.Entity == who.ID || p.Person == who.person || p.Person.Was(who.Entity) {
		return true, nil
	}
	return a.isNow(ctx, who, p.Entity)
}

// isNow tells whether an entity is, under the person key in force, the person who
// calls.
func (a *Access) isNow(ctx context.Context, who actor, entity string) (bool, error) {
	cfg, err := a.store.Config(ctx)
	if err != nil || cfg.PersonKey == "" {
		return entity == who.ID, err
	}
	e, err := a.directory.Entity(ctx, entity, false)
	if err != nil || e == nil {
		return false, err
	}
	p, ok := domain.PersonOf(*e, cfg.PersonKey)
	return ok && p == who.person, nil
}
