package access

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// tend brings one request up to date: writes what time has brought, ends what
// is to end, archives what is finished.
func (a *Access) tend(ctx context.Context, id domain.RequestID) error {
	var s sight
	if err := a.reconsider(ctx, id, &s); err != nil {
		return err
	}
	todo, err := a.catchUp(ctx, id, &s)
	if err != nil {
		return err
	}
	for _, c := range todo {
		// A failure is on record with its next try.
		if err := a.finish(ctx, id, c.ID, c.Why, &s); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return a.archive(ctx, id, &s)
}

// catchUp writes what time has brought and returns the credentials to end.
func (a *Access) catchUp(ctx context.Context, id domain.RequestID, s *sight) ([]domain.Credential, error) {
	var todo []domain.Credential
	err := a.store.WithRequest(id, func(tx *store.RequestTx) error {
		r, err := a.look(ctx, tx, id, s)
		if err != nil {
			return err
		}
		if r == nil {
			a.index.drop(id)
			return nil
		}
		next, err := a.settleTime(*r)
		if err != nil {
			return err
		}
		if next, err = a.expire(next); err != nil {
			return err
		}
		if next.Rev != r.Rev {
			if err := a.saveSeen(ctx, tx, next, "caught up", s); err != nil {
				return err
			}
		}
		now := a.now()
		for _, c := range next.Credentials {
			if c.State != domain.CredGone && c.State != domain.CredActive && c.State != domain.CredIssuing && !c.Due.After(now) {
				todo = append(todo, c)
			}
		}
		return nil
	})
	return todo, err
}

// expire asks for the end of credentials past their time and of those that a
// dead process left half made.
func (a *Access) expire(r domain.Request) (domain.Request, error) {
	now := a.now()
	var err error
	for _, c := range r.Credentials {
		switch {
		case c.State == domain.CredActive && !now.Before(c.Expires):
			r, err = r.ApplyCredential(c.ID, domain.CredEndAsked, "its time is over", now)
		case c.State == domain.CredIssuing && c.Boot != a.boot:
			r, err = r.ApplyCredential(c.ID, domain.CredFailed, "the process that issued it is gone", now)
		case c.State == domain.CredIssuing && !now.Before(c.Due) && a.stuck(r.ID, c.ID):
			r, err = r.ApplyCredential(c.ID, domain.CredFailed, "the issue did not finish", now)
		case c.State == domain.CredIssuing && !now.Before(c.Due):
			r, err = r.Edit(c.ID, func(c *domain.Credential) { c.Due = now.Add(secondLook) })
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// stuck tells whether nobody is working on an issue any more.
func (a *Access) stuck(id domain.RequestID, cred domain.CredentialID) bool {
	if x := a.preparing.get(id); x != nil && x.job.cred.ID == cred {
		return false
	}
	return !a.flights.busy(cred)
}

// archive moves a finished request and repairs the person's record. The open
// record goes last, so that whatever a crash cuts off is done by the next look.
func (a *Access) archive(ctx context.Context, id domain.RequestID, s *sight) error {
	r, err := a.glance(ctx, id, s)
	if err != nil {
		return err
	}
	if r == nil {
		a.index.drop(id)
		return nil
	}
	if !r.Finished() {
		return nil
	}
	if due, owed := r.RotationDue(); owed {
		return a.rotateAfterUse(ctx, *r, due)
	}
	return a.store.WithPerson(r.Requester.Person, func(person *store.PersonTx) error {
		return a.store.WithRequest(id, func(tx *store.RequestTx) error {
			cur, err := a.look(ctx, tx, id, s)
			if err != nil || cur == nil || !cur.Finished() {
				return err
			}
			// What the feed has not yet goes there first: nobody looks at archived
			// requests for news.
			next, err := a.fed(ctx, *cur)
			if err != nil {
				return err
			}
			a.step("before archive")
			if err := tx.Archive(ctx, next); err != nil {
				return err
			}
			a.step("archived")
			if err := closeEntry(ctx, person, *cur, a.now()); err != nil {
				return err
			}
			a.step("before drop")
			if err := tx.Drop(ctx); err != nil {
				return err
			}
			a.index.drop(id)
			a.step("after archive")
			return nil
		})
	})
}

// closeEntry marks a request as closed in its person's record, so that reads
// need not look for it, and counts it as use of its role. Auto-approved ones
// leave no mark.
func closeEntry(ctx context.Context, tx *store.PersonTx, r domain.Request, now time.Time) error {
	rec, err := tx.Get(ctx)
	if err != nil {
		return err
	}
	kept := rec.Entries[:0:0]
	for _, e := range rec.Entries {
		if e.ID == r.ID {
			if e.Closed == "" { // else a crash cut an earlier try off after this
				rec = rec.Note(r, now)
			}
			if e.NoBar {
				continue
			}
			e.Closed, e.At = r.State, r.Times.Closed
		}
		kept = append(kept, e)
	}
	rec.Entries = kept
	return tx.Put(ctx, rec)
}

// endRequest ends a request in whatever state it is open, and all its
// credentials. Ending a closed one changes nothing.
func (a *Access) endRequest(ctx context.Context, id domain.RequestID, by domain.Party, why string) error {
	err := a.store.WithRequest(id, func(tx *store.RequestTx) error {
		r, err := a.load(ctx, tx, id, nil)
		if err != nil || r == nil {
			return err
		}
		cur, err := a.settleTime(*r)
		if err != nil {
			return err
		}
		if cur.State.Terminal() {
			if cur.Rev == r.Rev {
				return nil
			}
			return a.save(ctx, tx, cur, "caught up")
		}
		next, err := cur.Apply(domain.Event{Kind: domain.Killed, By: by, Reason: why}, a.now())
		if err != nil {
			return err
		}
		return a.save(ctx, tx, next, "request ended")
	})
	a.reaper.nudge()
	return err
}

// EndAll ends everything inline, due or not: the mount is going away and its
// storage with it.
func (a *Access) EndAll(ctx context.Context) error {
	ids, err := a.store.OpenIDs(ctx)
	if err != nil {
		return err
	}
	// Those with something at a target come first: the host bounds this call, and
	// thousands of requests that have nothing must not use it up.
	var holding, others []domain.RequestID
	for _, s := range ids {
		id, err := domain.ParseRequestID(s)
		if err != nil {
			continue
		}
		if r, err := a.store.OpenRequest(ctx, id); err != nil || r != nil && r.NotGone() > 0 {
			holding = append(holding, id)
		} else {
			others = append(others, id)
		}
	}
	return errors.Join(a.endEach(ctx, holding), a.endEach(ctx, others))
}

// endEach ends requests because the mount is being disabled.
func (a *Access) endEach(ctx context.Context, ids []domain.RequestID) error {
	var mu sync.Mutex
	var all error
	a.parallel(ids, func(id domain.RequestID) {
		err := a.endRequest(ctx, id, domain.Party{}, "the mount is being disabled")
		if err == nil {
			err = a.tend(ctx, id)
		}
		mu.Lock()
		defer mu.Unlock()
		all = errors.Join(all, err)
	})
	return all
}
