package access

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// sweepTarget lists a target's orphans and writes down what it found. With end
// it ends those that were listed before.
func (a *Access) sweepTarget(ctx context.Context, name string, before domain.Orphans, end bool) {
	s := &targetSweep{a: a, name: name, now: map[domain.CredentialID]*orphan{}}
	err := s.look(ctx, before.Of(name))
	if err == nil && end {
		s.end(ctx)
	}
	_, werr := a.store.UpdateOrphans(ctx, func(o *domain.Orphans) { s.note(o, err) })
	if werr != nil {
		a.log.Warn("the outcome of a sweep could not be written", "target", name, "error", werr)
	}
	if err != nil {
		a.log.Warn("a target could not be swept", "target", name, "error", err)
	}
}

// targetSweep is the sweep of one target under way.
type targetSweep struct {
	a      *Access
	name   string
	p      *opened
	noList bool
	now    map[domain.CredentialID]*orphan
	ended  int
}

// orphan is an orphan with what names it at the target.
type orphan struct {
	domain.Orphan
	handles []domain.Handle
	listed  bool // by an earlier sweep
	over    bool // nothing is left of it
}

// look finds what is there, and keeps of what was listed before what has still
// to be cleared away.
func (s *targetSweep) look(ctx context.Context, before []domain.Orphan) error {
	p, err := s.a.providers.of(ctx, s.name)
	if err != nil {
		return err
	}
	s.p = p
	l := p.lister()
	if l == nil {
		s.noList = true
		return nil
	}
	found, err := s.a.strays(ctx, s.name, l, orphanGrace)
	if err != nil {
		return err
	}
	for _, f := range found {
		s.add(f)
	}
	for _, b := range before {
		switch x := s.now[b.Credential]; {
		case x != nil:
			x.listed, x.FoundAt, x.Problem, x.EndedAt, x.Rest, x.Due = true, b.FoundAt, b.Problem, b.EndedAt, b.Rest, b.Due
		case b.Rest != nil:
			s.now[b.Credential] = &orphan{Orphan: b, listed: true}
		}
	}
	return nil
}

func (s *targetSweep) add(f contract.Found) {
	x := s.now[f.Credential]
	if x == nil {
		x = &orphan{Orphan: domain.Orphan{Credential: f.Credential, Target: s.name, Request: f.Request, FoundAt: s.a.now()}}
		s.now[f.Credential] = x
	}
	what := f.What
	if x.What != "" {
		what = x.What + ", " + what
	}
	x.What = cutText(domain.Printable(what))
	x.handles = append(x.handles, f.Handle)
}

// cutText keeps a text within its bound, at the start of a character.
func cutText(text string) string {
	if len(text) <= domain.MaxOrphanText {
		return text
	}
	cut := domain.MaxOrphanText
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// end ends what was listed before, a few at a time.
func (s *targetSweep) end(ctx context.Context) {
	var todo []*orphan
	for _, x := range s.now {
		if x.listed && !s.a.now().Before(x.Due) {
			todo = append(todo, x)
		}
	}
	inParallel(s.a, todo, sweepWorkers, func(x *orphan) { s.endOne(ctx, x) })
	for _, x := range todo {
		if x.over {
			s.ended++
			delete(s.now, x.Credential)
		}
	}
}

// endOne ends one orphan, or clears away what an earlier end left of it. A
// record that has come up meanwhile is the truth.
func (s *targetSweep) endOne(ctx context.Context, x *orphan) {
	ctx, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	handles := x.handles
	if x.Rest != nil {
		handles = []domain.Handle{*x.Rest}
	}
	x.Problem, x.over = "", true
	for _, h := range handles {
		ended, err := s.a.revokeStray(ctx, s.p, x.Request, h)
		if err != nil || !ended.AccessGone {
			x.over = false
			if x.Problem = "not_ended"; err != nil {
				x.Problem = codeOf(err)
			}
			s.a.log.Warn("an orphan could not be ended", "target", s.name, "credential", string(x.Credential), "error", err)
			continue
		}
		s.a.log.Warn("an orphan was ended", "target", s.name, "credential", string(x.Credential), "cleared", ended.Done())
		if x.EndedAt.IsZero() {
			x.EndedAt = s.a.now()
		}
		if !ended.Done() {
			x.over, x.Rest, x.Due = false, &ended.Rest, ended.Again
		}
	}
}

// revokeStray ends something that no record names. It looks at the records once
// more before: nothing that somebody may use is ended by a list.
func (a *Access) revokeStray(ctx context.Context, p *opened, request domain.RequestID, h domain.Handle) (contract.Ended, error) {
	used, err := a.onRecord(ctx, contract.Found{Credential: h.Credential, Request: request, Handle: h}, a.now())
	if err != nil {
		return contract.Ended{}, err
	}
	if used {
		return contract.Ended{}, fault.New(fault.Conflict, fault.CodeBusy, "it is on a record by now", nil)
	}
	return p.Revoke(ctx, h)
}

// note writes the outcome into the record. What could not be looked at stays
// as it was.
func (s *targetSweep) note(o *domain.Orphans, failed error) {
	sweep := o.Sweeps[s.name]
	sweep.Done = s.a.now()
	if failed != nil {
		sweep.Problem = fault.From(failed).Public
		o.Sweeps[s.name] = sweep
		return
	}
	sweep.NoList, sweep.Found, sweep.Ended = s.noList, len(s.now)+s.ended, s.ended
	o.Sweeps[s.name] = sweep
	o.List = slices.DeleteFunc(o.List, func(x domain.Orphan) bool { return x.Target == s.name })
	for _, x := range s.now {
		o.List = append(o.List, x.Orphan)
	}
	o.List = bounded(o.List)
}

// bounded is a list in order of its ids, and no longer than a record takes. What
// has ended and left a remainder stays: no target lists that again.
func bounded(list []domain.Orphan) []domain.Orphan {
	if len(list) > domain.MaxOrphans {
		slices.SortFunc(list, func(x, y domain.Orphan) int {
			if (x.Rest == nil) != (y.Rest == nil) {
				if x.Rest != nil {
					return -1
				}
				return 1
			}
			return byOrphan(x, y)
		})
		list = list[:domain.MaxOrphans]
	}
	slices.SortFunc(list, byOrphan)
	return list
}

func byOrphan(x, y domain.Orphan) int {
	return strings.Compare(string(x.Credential)+x.Target, string(y.Credential)+y.Target)
}
