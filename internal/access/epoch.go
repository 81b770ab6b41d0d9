package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// RotateEpoch is for the time after a restore from a copy: every outstanding
// request is ended, every credential on record is revoked, and nothing is
// issued at a target until its records are gone and it has been swept of what
// carries our tag without a record.
func (a *Access) RotateEpoch(ctx context.Context, c Caller) (domain.State, int, error) {
	if err := a.indexed(ctx); err != nil {
		return domain.State{}, 0, err
	}
	targets, err := a.store.Targets(ctx, "", 0)
	if err != nil {
		return domain.State{}, 0, err
	}
	st, err := a.store.UpdateState(ctx, func(s *domain.State) {
		s.Epoch++
		s.EpochAt = a.now()
		s.Draining = len(targets) > 0
		s.Unswept = map[string]bool{}
		for _, t := range targets {
			s.Unswept[t] = true
		}
	})
	if err != nil {
		return st, 0, err
	}
	a.stale.Store(false)
	a.reaper.setUnswept(st.Unswept)
	by := a.namedCaller(ctx, c)
	ids := a.index.ids(func(w *row) bool { return !w.state.Terminal() })
	a.background.Go(func() {
		defer a.recovered("rotate-epoch")
		a.endBefore(a.life, ids, by)
	})
	return st, len(ids), nil
}

func (a *Access) endBefore(ctx context.Context, ids []domain.RequestID, by domain.Party) {
	a.parallel(ids, func(id domain.RequestID) {
		if err := a.endRequest(ctx, id, by, "rotate-epoch"); err != nil {
			a.log.Warn("rotate-epoch could not end a request; it is tried again", "request", string(id), "error", err)
		}
	})
	a.reaper.nudge()
}

// continueEpoch goes on, round by round, until every target is clean.
func (a *Access) continueEpoch(ctx context.Context) {
	unswept := a.reaper.unsweptTargets()
	if len(unswept) == 0 {
		return
	}
	st, err := a.store.State(ctx)
	if err != nil {
		return
	}
	old := a.index.ids(func(w *row) bool { return !w.state.Terminal() && !w.filed.time().After(st.EpochAt) })
	for _, id := range old {
		if err := a.endRequest(ctx, id, domain.Party{}, "rotate-epoch"); err != nil {
			return
		}
	}
	for name := range unswept {
		if a.index.restBefore(name, st.EpochAt) > 0 || !a.swept(ctx, name) {
			continue
		}
		st, err := a.store.UpdateState(ctx, func(s *domain.State) {
			delete(s.Unswept, name)
			s.Draining = len(s.Unswept) > 0
		})
		if err != nil {
			return
		}
		a.reaper.setUnswept(st.Unswept)
	}
}

// swept revokes everything at a target that carries our tag and is on no
// record. A target that cannot list is clean when its records are.
func (a *Access) swept(ctx context.Context, name string) bool {
	t, err := a.store.Target(ctx, name)
	if err != nil {
		return false
	}
	if t == nil {
		return true // deleted meanwhile, which it could only be when clean
	}
	p, err := a.providers.of(ctx, name)
	if err != nil {
		return false
	}
	l := p.lister()
	if l == nil {
		return true
	}
	found, err := a.strays(ctx, name, l, 0)
	if err != nil {
		a.log.Warn("a target could not be swept; it is tried again", "target", name, "error", err)
		return false
	}
	clean := len(found) < maxStrays
	for _, f := range found {
		if err := a.endStray(ctx, p, f); err != nil {
			clean = false
			a.log.Warn("a stray could not be revoked; it is tried again", "target", name, "credential", string(f.Credential), "error", err)
		}
	}
	return clean
}

func (a *Access) endStray(ctx context.Context, p *opened, f contract.Found) error {
	ctx, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	_, err := a.revokeStray(ctx, p, f.Request, f.Handle)
	return err
}
