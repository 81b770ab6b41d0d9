package access

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
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
	rows := a.index.pick(func(r row) bool { return !r.state.Terminal() })
	by := a.namedCaller(ctx, c)
	ids := make([]domain.RequestID, 0, len(rows))
	for _, r := range rows {
		ids = append(ids, r.id)
	}
	a.background.Add(1)
	go func() {
		defer a.background.Done()
		defer a.recovered("rotate-epoch")
		a.endBefore(context.WithoutCancel(ctx), ids, by)
	}()
	return st, len(rows), nil
}

func (a *Access) endBefore(ctx context.Context, ids []domain.RequestID, by domain.Party) {
	a.parallel(ids, func(id domain.RequestID) {
		if err := a.endRequest(ctx, id, by, "rotate-epoch"); err != nil {
			a.log.Warn("rotate-epoch could not end a request; it is tried again", "request", string(id), "code", codeOf(err))
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
	old := a.index.pick(func(r row) bool { return !r.state.Terminal() && r.filed.Before(st.EpochAt) })
	for _, r := range old {
		if err := a.endRequest(ctx, r.id, domain.Party{}, "rotate-epoch"); err != nil {
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
	lister, ok := p.Provider.(contract.Lister)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	clean := true
	err = lister.List(ctx, func(f contract.Found) error {
		known, err := a.onRecord(ctx, f)
		if err != nil || known {
			return err
		}
		if _, err := p.Revoke(ctx, f.Handle); err != nil {
			clean = false
			a.log.Warn("a stray could not be revoked; it is tried again", "target", name, "credential", string(f.Credential), "code", codeOf(err))
		}
		return nil
	})
	return err == nil && clean
}

func (a *Access) onRecord(ctx context.Context, f contract.Found) (bool, error) {
	if f.Request == "" {
		return false, nil
	}
	r, err := a.store.OpenRequest(ctx, f.Request)
	if err != nil || r == nil {
		return false, err
	}
	c, ok := r.Credential(f.Credential)
	return ok && c.State != domain.CredGone, nil
}

// TidyStatus is what the last run of tidy did.
type TidyStatus struct {
	Running bool
	At      time.Time
	Freed   int
}

// tidyBatch bounds how much one round of tidy deletes.
const tidyBatch = 500

// Tidy drops archived requests, jobs and holds whose retention is over. It
// runs in the background; the reaper starts it once an hour by itself.
func (a *Access) Tidy(ctx context.Context) (started bool) {
	if !a.tidying.CompareAndSwap(false, true) {
		return false
	}
	a.background.Add(1)
	go func() {
		defer a.background.Done()
		defer a.tidying.Store(false)
		defer a.recovered("tidy")
		if err := a.tidy(context.WithoutCancel(ctx)); err != nil {
			a.log.Warn("tidy did not finish", "code", codeOf(err))
		}
	}()
	return true
}

// TidyStatus reads what the last run of tidy did.
func (a *Access) TidyStatus(ctx context.Context) (TidyStatus, error) {
	st, err := a.store.State(ctx)
	return TidyStatus{Running: a.tidying.Load(), At: st.TidyAt, Freed: st.TidyFreed}, err
}

func (a *Access) tidy(ctx context.Context) error {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return err
	}
	freed, after := 0, ""
	for a.host.Writable() {
		ids, err := a.store.ArchivedIDs(ctx, after, tidyBatch)
		if err != nil {
			return err
		}
		for _, s := range ids {
			gone, err := a.tidyOne(ctx, s, cfg)
			if err != nil {
				return err
			}
			if gone {
				freed++
			}
			after = s
		}
		// Ids sort by time: what follows is younger.
		if len(ids) < tidyBatch || a.now().Sub(domain.TimeOf(after)) < min(cfg.RetentionAuto, cfg.RetentionHuman).Duration() {
			break
		}
	}
	n, err := a.tidyRest(ctx, cfg)
	if err != nil {
		return err
	}
	now := a.now()
	_, err = a.store.UpdateState(ctx, func(s *domain.State) { s.TidyAt, s.TidyFreed = now, freed+n })
	return err
}

// tidyOne drops one archived request whose retention is over, and finishes an
// archiving that a crash cut in two.
func (a *Access) tidyOne(ctx context.Context, s string, cfg domain.Config) (bool, error) {
	id, err := domain.ParseRequestID(s)
	if err != nil {
		return false, nil //nolint:nilerr // not one of ours
	}
	if a.now().Sub(domain.TimeOf(s)) < min(cfg.RetentionAuto, cfg.RetentionHuman).Duration() {
		return false, nil
	}
	r, err := a.store.Request(ctx, id)
	if err != nil || r == nil {
		return false, err
	}
	keep := cfg.RetentionHuman
	if r.Auto {
		keep = cfg.RetentionAuto
	}
	if a.now().Sub(r.Times.Closed) < keep.Duration() {
		return false, nil
	}
	if err := a.store.DropArchived(ctx, id); err != nil {
		return false, err
	}
	return true, a.store.WithPerson(r.Requester.Person, func(tx *store.PersonTx) error {
		rec, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		kept := rec.Entries[:0:0]
		for _, e := range rec.Entries {
			if e.ID != id {
				kept = append(kept, e)
			}
		}
		if len(kept) == len(rec.Entries) {
			return nil
		}
		rec.Entries = kept
		return tx.Put(ctx, rec)
	})
}

// tidyRest drops old jobs and holds that ran out long ago.
func (a *Access) tidyRest(ctx context.Context, cfg domain.Config) (int, error) {
	n, now := 0, a.now()
	jobs, err := a.store.Jobs(ctx)
	if err != nil {
		return n, err
	}
	for _, id := range jobs {
		if now.Sub(domain.TimeOf(id)) < cfg.RetentionHuman.Duration() {
			continue
		}
		if err := a.store.DeleteJob(ctx, id); err != nil {
			return n, err
		}
		n++
	}
	holds, err := a.holds.list(ctx)
	if err != nil {
		return n, err
	}
	for _, h := range holds {
		if h.Until.IsZero() || now.Sub(h.Until) < cfg.RetentionHuman.Duration() {
			continue
		}
		if err := a.holds.lift(ctx, h.ID); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
