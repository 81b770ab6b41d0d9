package access

import (
	"context"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

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
	a.background.Go(func() {
		defer a.tidying.Store(false)
		defer a.recovered("tidy")
		if err := a.tidy(a.life); err != nil {
			a.log.Warn("tidy did not finish", "error", err)
		}
	})
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
	// A lease of it may still be listed at the host until the window's end,
	// and the host will ask to revoke that too.
	if r.OwesReview() || a.now().Sub(r.Times.Closed) < keep.Duration() || a.now().Before(r.WindowEnd.Add(time.Hour)) {
		return false, nil
	}
	// The archived record goes last: cut off before it, the next run goes on.
	err = a.store.WithPerson(r.Requester.Person, func(tx *store.PersonTx) error {
		rec, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		kept := slices.DeleteFunc(slices.Clone(rec.Entries), func(e domain.PersonEntry) bool { return e.ID == id })
		if len(kept) == len(rec.Entries) {
			return nil
		}
		rec.Entries = kept
		return tx.Put(ctx, rec.Forget(a.now()))
	})
	if err != nil {
		return false, err
	}
	return true, a.store.DropArchived(ctx, id)
}

// tidyRest drops old jobs, holds that ran out long ago, and proposed edits that
// nobody confirmed.
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
	proposals, err := a.tidyProposals(ctx)
	if err != nil {
		return n, err
	}
	events, err := a.tidyEvents(ctx)
	if err != nil {
		return n, err
	}
	reviews, err := a.tidyCampaigns(ctx, cfg)
	return n + proposals + events + reviews, err
}
