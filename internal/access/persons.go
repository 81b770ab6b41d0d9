package access

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// survey is what one walk over the requests has learnt so far, so that what
// many of them have in common is asked once.
type survey struct {
	people map[string]seen // by entity
	stands map[terms]bool
	keeps  map[stake]bool // of whom it is known that they keep it
}

// seen is what the host said of somebody; no entity and no error = it knows them
// no more.
type seen struct {
	entity *domain.Entity
	err    error
	at     time.Time
}

// loss is why somebody may not keep what they have; certain ends it at once. With
// no reason they may. Where it is unknown, nothing changes.
type loss struct {
	why              string
	certain, unknown bool
	at               time.Time // when the host was asked
}

// persons ends the access of those who are disabled at once, and of those who
// are missing or no longer eligible when they are seen so twice. It goes on
// where it last stopped, after a bounded number of people.
func (w *reaper) persons(ctx context.Context) {
	s := survey{people: map[string]seen{}, stands: map[terms]bool{}, keeps: map[stake]bool{}}
	rows := make([]held, 0, rowsAtATime)
	for ctx.Err() == nil && len(s.people) < personsAtATime {
		rows = w.a.index.openAfter(w.cursor, rows)
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

func (w *reaper) person(ctx context.Context, r *held, s survey) {
	a := w.a
	if r.undecided && !w.stillStands(ctx, r.terms.Value(), s) {
		if err := a.void(ctx, r.id, domain.Party{}); err != nil {
			a.log.Warn("a request could not be voided; it is tried again", "request", string(r.id), "error", err)
		}
		return
	}
	lost := w.loses(ctx, r.stake, s)
	first, before := w.missing[r.id]
	switch {
	case lost.unknown:
		return
	case lost.why == "":
		delete(w.missing, r.id)
		return
	case lost.certain:
	case !before:
		w.missing[r.id] = lost.at
		return
	case lost.at.Sub(first) < goneAfter:
		return
	}
	delete(w.missing, r.id)
	if err := a.endRequest(ctx, r.id, domain.Party{}, lost.why); err != nil {
		a.log.Warn("ending the access of a person failed; it is tried again", "request", string(r.id), "error", err)
	}
}

// loses is why somebody may not keep a request. That they may is asked once for all
// with the same stake. That they may not is asked for each: whoever sees access end by
// mistake, and puts the role right, stops it at once.
func (w *reaper) loses(ctx context.Context, of stake, s survey) loss {
	if s.keeps[of] {
		return loss{}
	}
	who := w.holder(ctx, of, s)
	if who.err != nil {
		return loss{unknown: true}
	}
	found := w.lost(ctx, of, who.entity)
	found.at = who.at
	s.keeps[of] = found.why == "" && !found.unknown
	return found
}

// holder is whose stake it is. Everybody is asked for once, whatever the answer.
func (w *reaper) holder(ctx context.Context, of stake, s survey) seen {
	entity := of.requester.Value().entity
	who, asked := s.people[entity]
	if !asked {
		who.at = w.a.now()
		if who.entity, who.err = w.a.directory.Entity(ctx, entity, true); who.err != nil {
			w.a.log.Warn("an identity could not be read", "error", who.err)
		}
		s.people[entity] = who
	}
	return who
}

// lost says why a person may not keep what they have.
func (w *reaper) lost(ctx context.Context, of stake, e *domain.Entity) loss {
	if e == nil {
		return loss{why: "the requester is unknown to the host"}
	}
	if e.Disabled {
		return loss{why: "the requester is disabled", certain: true}
	}
	t := of.terms.Value()
	cfg, err := w.a.store.Config(ctx)
	role, failed := w.a.store.Role(ctx, t.role)
	switch {
	case err != nil || failed != nil:
		return loss{unknown: true}
	case !cfg.EndOnIneligible:
		return loss{}
	case role == nil || role.Revision() != t.roleRev:
		return loss{} // an edit decides by itself what happens to live access
	}
	switch {
	case of.glass && !role.MayBreakGlass(*e).OK:
		return loss{why: "the requester may not break this glass any more"}
	case !of.glass && !role.Eligible(*e, w.a.now()).OK:
		return loss{why: "the requester is not eligible any more"}
	}
	return loss{}
}
