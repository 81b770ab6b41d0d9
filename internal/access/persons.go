package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// persons ends the access of those who are disabled at once, and of those who
// are missing or no longer eligible when they are seen so twice.
func (w *reaper) persons(ctx context.Context) {
	rows := w.a.index.pick(func(r row) bool { return !r.state.Terminal() && r.id > w.cursor })
	if len(rows) > personsAtATime {
		rows = rows[:personsAtATime]
		w.cursor = rows[len(rows)-1].id
	} else {
		w.cursor = ""
	}
	seen := map[string]*domain.Entity{}
	for _, r := range rows {
		if ctx.Err() != nil {
			return
		}
		w.person(ctx, r, seen)
	}
	for id := range w.missing {
		if !w.a.index.has(id) {
			delete(w.missing, id)
		}
	}
}

func (w *reaper) person(ctx context.Context, r row, seen map[string]*domain.Entity) {
	a := w.a
	if stands, err := a.standsIn(ctx, r); err == nil && !stands && r.state.Undecided() {
		if err := a.void(ctx, r.id, domain.Party{}); err != nil {
			a.log.Warn("a request could not be voided; it is tried again", "request", string(r.id), "error", err)
		}
		return
	}
	e, known := seen[r.entity]
	if !known {
		var err error
		if e, err = a.directory.Entity(ctx, r.entity, true); err != nil {
			a.log.Warn("an identity could not be read", "error", err)
			return
		}
		seen[r.entity] = e
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
func (w *reaper) lost(ctx context.Context, r row, e *domain.Entity) (why string, certain bool) {
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
	role, err := w.a.store.Role(ctx, r.role)
	if err != nil || role == nil || role.Revision() != r.roleRev {
		return "", false // an edit decides by itself what happens to live access
	}
	if !role.Eligible(*e).OK {
		return "the requester is not eligible any more", false
	}
	return "", false
}
