package access

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// lookBack does what follows emergencies and reviews by itself: what was read
// is marked as heard, missed deadlines are said aloud, and access reviews that
// are due are closed.
func (w *reaper) lookBack(ctx context.Context) {
	if !w.settled {
		// What the process before this one left half written, archived requests
		// among it, which nobody else looks at.
		if err := w.a.settleLedgers(ctx); err != nil {
			w.a.log.Warn("the ledgers of emergencies could not be compared with the records; it is tried again", "error", err)
		} else {
			w.settled = true
		}
	}
	if err := w.a.hear(ctx); err != nil {
		w.a.log.Warn("what was heard of emergencies could not be written; it is tried again", "error", err)
	}
	if err := w.a.missDeadlines(ctx); err != nil {
		w.a.log.Warn("missed deadlines of reviews could not be written; it is tried again", "error", err)
	}
	w.closeDueCampaigns(ctx)
}

// hear marks the emergencies that a consumer of events has read of. It reads
// records only when a consumer has said something since the last look.
func (a *Access) hear(ctx context.Context) error {
	a.events.mu.Lock()
	if err := a.events.load(ctx); err != nil {
		a.events.mu.Unlock()
		return err
	}
	version, checked := a.events.version, a.events.checked
	consumers := make([]domain.Consumer, 0, len(a.events.consumers))
	for _, c := range a.events.consumers {
		consumers = append(consumers, c)
	}
	a.events.mu.Unlock()
	if version == checked {
		return nil
	}
	err := a.eachUse(ctx, func(role string, u domain.GlassUse) error {
		if u.Heard {
			return nil
		}
		return a.hearOf(ctx, role, u, consumers)
	})
	if err == nil {
		a.events.mu.Lock()
		a.events.checked = version
		a.events.mu.Unlock()
	}
	return err
}

func (a *Access) eachUse(ctx context.Context, f func(role string, u domain.GlassUse) error) error {
	all, err := a.ledgers.all(ctx)
	if err != nil {
		return err
	}
	for _, l := range all {
		for _, u := range l.Uses {
			if err := f(l.Role, u); err != nil {
				return err
			}
		}
	}
	return nil
}

// hearOf marks one emergency when somebody else than its own person has read
// of it.
func (a *Access) hearOf(ctx context.Context, role string, u domain.GlassUse, consumers []domain.Consumer) error {
	r, err := a.store.Request(ctx, u.ID)
	if err != nil || r == nil || r.Glass == nil || r.Glass.Event == "" {
		return err
	}
	name := ""
	for _, c := range consumers {
		if c.Cursor >= r.Glass.Event && !u.Of(c.Person, c.Entity) && (name == "" || c.Name < name) {
			name = c.Name
		}
	}
	if name == "" {
		return nil
	}
	if _, err := a.amend(ctx, u.ID, func(r domain.Request) (domain.Request, error) { return r.HeardBy(name, a.now()), nil }); err != nil {
		return err
	}
	return a.ledgers.use(ctx, role, u.ID, func(u domain.GlassUse) *domain.GlassUse { u.Heard = true; return &u })
}

// missDeadlines says aloud, once for each, that a review is overdue.
func (a *Access) missDeadlines(ctx context.Context) error {
	now := a.now()
	return a.eachUse(ctx, func(role string, u domain.GlassUse) error {
		if !u.Owed() || u.Overdue || now.Before(u.Deadline) || a.ledgers.flies(u.ID) {
			return nil
		}
		r, err := a.amend(ctx, u.ID, func(r domain.Request) (domain.Request, error) { return r.MissReview(a.now()), nil })
		if err != nil {
			return err
		}
		return a.ledgers.use(ctx, role, u.ID, func(u domain.GlassUse) *domain.GlassUse {
			if r == nil {
				return nil // it was never written
			}
			u.Overdue = true
			if r.Review != nil {
				u.Signed = r.Review.At
			}
			return &u
		})
	})
}

// rotateAfterUse rotates the target's root credential once everything of a
// break-glass is gone. It is tried until it works.
func (a *Access) rotateAfterUse(ctx context.Context, r domain.Request, due time.Time) error {
	if now := a.now(); now.Before(due) {
		a.index.postpone(r.ID, due)
		return nil
	}
	done, text := true, "the root credential of the target was rotated after this use"
	if r.Issued == 0 {
		text = "no credential was issued, so the root credential of the target stays"
	} else if t, err := a.RotateRoot(ctx, r.Target); err == nil && t == nil {
		text = "the target does not exist any more, and its root credential with it"
	} else if err != nil {
		done, text = false, "the root credential of the target could not be rotated; it is tried again"
		a.log.Warn("rotating a root credential after an emergency failed; it is tried again", "target", r.Target, "request", string(r.ID), "error", err)
	}
	again := a.now().Add(backoff(r.Glass.Tries + 1))
	_, err := a.amend(ctx, r.ID, func(r domain.Request) (domain.Request, error) {
		return r.Rotated(done, text, again, a.now()), nil
	})
	return err
}

// finishedDue is when a finished request is archived: now, or when the root
// credential is rotated for it.
func finishedDue(r domain.Request, now time.Time) time.Time {
	if again, owed := r.RotationDue(); owed && again.After(now) {
		return again
	}
	return now
}
