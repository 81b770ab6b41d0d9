package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// survey is what one walk over the requests has learnt so far, so that what
// many of them have in common is asked once.
type survey struct {
	people map[string]*domain.Entity
	stands map[terms]bool
}

// persons ends the access of those who are disabled at once, and of those who
// are missing or no longer eligible when they are seen so twice. It goes on
// where it last stopped, after a bounded number of people.
func (w *reaper) persons(ctx context.Context) {
	s := survey{people: map[string]*domain.Entity{}, stands: map[terms]bool{}}
	for ctx.Err() == nil && len(s.people) < personsAtATime {
		rows := w.a.index.openAfter(w.cursor, rowsAtATime)
		for i := range rows {
			w.person(ctx, &rows[i], s)
		}
		if len(rows) < rowsAtATime {
			w.cursor = ""
			break
		}
		w.cursor = rows[len(rows)-1].id
	}
	for id := range w.missing {
		if !w.a.index.has(id) {
			delete(w.missing, id)
		}
	}
}

// stillStands is standsIn, asked once; an error counts as yes.
func (w *reaper) stillStands(ctx context.Context, t terms, s survey) bool {
	if stands, asked := s.stands[t]; asked {
		return stands
	}
	stands, err := w.a.standsIn(ctx, t)
	s.stands[t] = stands || err != nil
	return s.stands[t]
}

func (w *reaper) person(ctx context.Context, r *row, s survey) {
	a := w.a
	if r.state.Undecided() && !w.stillStands(ctx, r.terms.Value(), s) {
		if err := a.void(ctx, r.id, domain.Party{}); err != nil {
			a.log.Warn("a request could not be voided; it is tried again", "request", string(r.id), "error", err)
		}
		return
	}
	entity := r.requester.Value().entity
	e, known := s.people[entity]
	if !known {
		var err error
		if e, err = a.directory.Entity(ctx, entity, true); err != nil {
			a.log.Warn("an identity could not be read", "error", err)
			return
		}
		s.people[entity] = e
	}
	why, certain := w.lost(ctx, r, e)
	now := a.now()
	first, before := w.missing[r.id]
	switch {
	case why == "":
		delete(w.missing, r.id)
		return
	case certain:
	case !before:
		w.missing[r.id] = now
		return
	case now.Sub(first) < goneAfter:
		return
	}
	delete(w.missing, r.id)
	if err := a.endRequest(ctx, r.id, domain.Party{}, why); err != nil {
		a.log.Warn("ending the access of a person failed; it is tried again", "request", string(r.id), "error", err)
	}
}

// lost says why a person may not keep what they have; certain ends it at once.
func (w *reaper) lost(ctx context.Context, r *row, e *domain.Entity) (why string, certain bool) {
	if e == nil {
		return "the requester is unknown to the host", false
	}
	if e.Disabled {
		return "the requester is disabled", true
	}
	cfg, err := w.a.store.Config(ctx)
	if err != nil || !cfg.EndOnIneligible {
		return "", false
	}
	role, err := w.a.store.Role(ctx, r.role())
	if err != nil || role == nil || role.Revision() != r.terms.Value().roleRev {
		return "", false // an edit decides by itself what happens to live access
	}
	if r.glass {
		if !role.MayBreakGlass(*e).OK {
			return "the requester may not break this glass any more", false
		}
		return "", false
	}
	if !role.Eligible(*e, w.a.now()).OK {
		return "the requester is not eligible any more", false
	}
	return "", false
}
