package access

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Separation of duties in edits: with edit_sod a security edit is stored as
// proposed, and what was in force stays in force until another person
// confirms. The proposal lies in a record of its own, written under the lock of
// what is edited, so each step of it is one write.

// Proposed says that an edit waits for another person; the zero value says
// that it does not.
type Proposed struct {
	Waits   bool   // it is not in force
	Digest  string // what a confirmation names; "" on a dry run
	Expires time.Time
	Next    string // the command that confirms
}

// editor is who edits on a path that ACL alone guards.
type editor struct {
	domain.Party
	// unfit is why nobody could tell this person from another one; nil for
	// machines and tokens without an entity, which are nobody's second person.
	unfit error
}

// editor reads the author of an edit live, before anything is locked.
func (a *Access) editor(ctx context.Context, c Caller) editor {
	by := editor{Party: a.namedCaller(ctx, c)}
	if c.EntityID == "" {
		return by
	}
	cfg, err := a.store.Config(ctx)
	if err != nil {
		by.unfit = err
		return by
	}
	e, err := a.directory.Entity(ctx, c.EntityID, false)
	switch {
	case err != nil:
		by.unfit = err
	case e == nil || e.Disabled:
		by.unfit = errLogin("the identity of this token is unknown or disabled")
	default:
		by.Machine = domain.IsMachine(*e, cfg.HumanMounts)
		if by.Person == "" && !by.Machine {
			by.unfit = fault.New(fault.Denied, fault.CodeLogin,
				"access denied: the identity of this token lacks the metadata that names the person", nil)
		}
	}
	return by
}

// needsSecond tells whether an edit waits for another person.
func (a *Access) needsSecond(ctx context.Context, o EditOptions, security bool) (bool, error) {
	if o.confirms != nil || o.seconded || !security {
		return false, nil
	}
	cfg, err := a.store.Config(ctx)
	return cfg.EditSOD, err
}

// propose stores an edit for another person to confirm. It runs under the lock
// of what is edited.
func (a *Access) propose(ctx context.Context, by editor, p store.Proposal, o EditOptions) (Proposed, error) {
	out := Proposed{Waits: true}
	if o.author != nil {
		by = *o.author
	}
	if by.unfit != nil {
		return out, by.unfit
	}
	old, _, err := a.proposal(ctx, p.Kind, p.Name)
	if err != nil {
		return out, err
	}
	if old != nil && !domain.SameProposer(old.By, by.Party) {
		return out, fault.New(fault.Conflict, fault.CodeProposed,
			"another person's edit waits for its confirmation: confirm or withdraw it first", nil).
			With("next", "vault read "+confirmPath(p.Kind, p.Name))
	}
	if o.DryRun {
		return out, nil
	}
	if p.ID, err = a.newID(); err != nil {
		return out, err
	}
	p.By, p.Live, p.At, p.Expires = by.Party, string(o.Live), a.now(), a.now().Add(domain.ProposalTTL)
	if err := a.store.PutProposal(ctx, p); err != nil {
		if errors.Is(err, store.ErrTooLarge) {
			return out, fault.New(fault.Conflict, fault.CodeLimit, "limit reached: the edit is too large to be proposed", err)
		}
		return out, err
	}
	a.step("edit proposed")
	out.Digest, out.Expires = p.Digest(a.mount), p.Expires
	out.Next = "vault write " + confirmPath(p.Kind, p.Name) + " digest=" + out.Digest
	return out, nil
}

// confirmPath is where an edit is confirmed.
func confirmPath(kind domain.EditKind, name string) string {
	switch kind {
	case domain.EditRole:
		return "pim/roles/" + name + "/confirm"
	case domain.EditTarget:
		return "pim/targets/" + name + "/confirm"
	case domain.EditConfig:
	}
	return "pim/config/confirm"
}

// proposal reads an edit that waits, and how it fits what is in force now. One
// that expired, is of before rotate-epoch, or is already in force counts as
// none: tidy drops what is left of it.
func (a *Access) proposal(ctx context.Context, kind domain.EditKind, name string) (*store.Proposal, domain.Fit, error) {
	p, err := a.store.Proposal(ctx, kind, name)
	if err != nil || p == nil || !a.now().Before(p.Expires) {
		return nil, domain.FitStale, err
	}
	st, err := a.store.State(ctx)
	if err != nil || !p.At.After(st.EpochAt) {
		return nil, domain.FitStale, err
	}
	fit, err := a.fit(ctx, *p)
	if err != nil || fit == domain.FitApplied {
		return nil, fit, err
	}
	return p, fit, nil
}

func (a *Access) fit(ctx context.Context, p store.Proposal) (domain.Fit, error) {
	switch p.Kind {
	case domain.EditRole:
		cur, err := a.store.Role(ctx, p.Name)
		return p.FitRole(cur), err
	case domain.EditTarget:
		cur, err := a.store.Target(ctx, p.Name)
		return p.FitTarget(cur), err
	case domain.EditConfig:
	}
	cfg, err := a.store.Config(ctx)
	return p.FitConfig(&cfg), err
}

// confirming insists, under the lock of what is edited, that a confirmation
// still means what its author saw. nil when the edit confirms nothing.
func (a *Access) confirming(ctx context.Context, o EditOptions, fit func(domain.Proposal) domain.Fit) error {
	if o.confirms == nil {
		return nil
	}
	p, err := a.store.Proposal(ctx, o.confirms.Kind, o.confirms.Name)
	if err != nil {
		return err
	}
	if p == nil || p.ID != o.confirms.ID || fit(p.Proposal) == domain.FitStale {
		return errStale()
	}
	return nil
}

func errStale() error {
	return fault.New(fault.Conflict, fault.CodeStale,
		"the proposal is stale: what it changes was changed since; propose the edit again", nil)
}

// confirmed drops a proposal that is in force now, under the same lock.
func (a *Access) confirmed(ctx context.Context, o EditOptions) error {
	if o.confirms == nil {
		return nil
	}
	a.step("proposal applied")
	p, err := a.store.Proposal(ctx, o.confirms.Kind, o.confirms.Name)
	if err != nil || p == nil || p.ID != o.confirms.ID {
		return err
	}
	if err := a.store.DropProposal(ctx, o.confirms.Kind, o.confirms.Name); err != nil {
		return err
	}
	a.step("proposal dropped")
	return nil
}

// roleEditOf is the edit that makes a role what the proposal shows.
func roleEditOf(p store.Proposal, cur *domain.Role, fields []contract.Field) RoleEdit {
	e := RoleEdit{Set: coerce(fields, p.Role.To.All())}
	if cur != nil {
		for k := range cur.All() {
			if _, kept := e.Set[k]; !kept {
				e.Clear = append(e.Clear, k)
			}
		}
	}
	e.Core = func(r *domain.Role) {
		pins := r.Pins
		*r = domain.Merged(*p.Role, *r)
		if p.Role.From != nil {
			r.Pins = pins // learnt meanwhile
		}
	}
	return e
}

// targetEditOf is the edit that makes a target what the proposal shows.
func targetEditOf(p store.Proposal, fields []contract.Field) TargetEdit {
	to, from := *p.Target.To, domain.Target{}
	if p.Target.From != nil {
		from = *p.Target.From
	}
	e := TargetEdit{Type: &to.Type, AllowedRoles: &to.AllowedRoles, MaxLive: &to.MaxLive, Set: coerce(fields, to.Fields)}
	if to.Description != from.Description {
		e.Description = &to.Description
	}
	for k := range from.Fields {
		if _, kept := to.Fields[k]; !kept {
			e.Clear = append(e.Clear, k)
		}
	}
	before, after := coerce(fields, from.Free), coerce(fields, to.Free)
	for k, v := range after {
		if !reflect.DeepEqual(before[k], v) {
			e.Set[k] = v
		}
	}
	for k := range before {
		if _, kept := after[k]; !kept {
			e.Clear = append(e.Clear, k)
		}
	}
	for k, v := range p.Given {
		if e.Secrets == nil {
			e.Secrets = map[string]secret.String{}
		}
		e.Secrets[k] = secret.New(v)
	}
	return e
}

// security tells whether an edit of a target is one: everything but what is
// for people.
func (dr *draftTarget) security() bool {
	return dr.old == nil || dr.rekeyed || dr.old.EditRevision() != dr.next.EditRevision()
}

// proposal is the draft for another person to confirm.
func (dr *draftTarget) proposal() store.Proposal {
	next := dr.next
	return store.Proposal{Given: dr.secret, Proposal: domain.Proposal{
		Kind: domain.EditTarget, Name: next.Name, Secrets: contract.SortedKeys(dr.secret),
		Target: &domain.Change[domain.Target]{From: dr.old, To: &next},
	}}
}

// asProposed insists that a confirmed target still proves to be the place that
// its proposal showed, and gives a new one the incarnation that it had there.
func asProposed(dr *draftTarget, o EditOptions) error {
	if o.confirms == nil {
		return nil
	}
	to := o.confirms.Target.To
	if dr.next.Place != to.Place {
		return fault.New(fault.Conflict, fault.CodePlace,
			"the target proves to be another place than when the edit was proposed; propose it again", nil)
	}
	if dr.old == nil {
		dr.next.Incarnation = to.Incarnation
	}
	return nil
}

// checkOwner insists on an owner while edits take two people: somebody has to
// answer for what they agreed on.
func (a *Access) checkOwner(ctx context.Context, p *fault.Problems, r *domain.Role) error {
	cfg, err := a.store.Config(ctx)
	if err == nil && cfg.EditSOD && strings.TrimSpace(r.Owner) == "" {
		p.Add("owner", "is required while edit_sod is on: who answers for the role")
	}
	return err
}
