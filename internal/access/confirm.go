package access

import (
	"context"
	"slices"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// ProposalView is a proposed edit as whoever may confirm it sees it.
type ProposalView struct {
	Proposal domain.Proposal // never the values of secrets
	Digest   string
	Stale    bool // what it changes was changed since: it can only be withdrawn
	Next     string
}

// Confirmation is one person's agreement to another person's edit.
type Confirmation struct {
	Digest string
	// Live says what happens to live credentials, where there were none when
	// the edit was proposed and so it does not say.
	Live Live
}

// Proposal reads the edit that waits for its confirmation; nil = none.
func (a *Access) Proposal(ctx context.Context, kind domain.EditKind, name string) (*ProposalView, error) {
	p, fit, err := a.proposal(ctx, kind, name)
	if err != nil || p == nil {
		return nil, err
	}
	v := &ProposalView{Proposal: p.Proposal, Digest: p.Digest(a.mount), Stale: fit == domain.FitStale}
	if v.Next = "vault write " + confirmPath(kind, name) + " digest=" + v.Digest; v.Stale {
		v.Next = "vault delete " + confirmPath(kind, name)
	}
	return v, nil
}

// Confirm puts a proposed edit in force for another person than the one who
// proposed it. Everything is checked again, as for an edit that is written now.
func (a *Access) Confirm(ctx context.Context, c Caller, kind domain.EditKind, name string, k Confirmation) (Effect, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return Effect{}, err
	}
	if err := a.free(ctx, domain.Scope{Person: who.person, Entity: who.ID}); err != nil {
		return Effect{}, err
	}
	p, fit, err := a.proposal(ctx, kind, name)
	if err != nil {
		return Effect{}, err
	}
	if p == nil {
		return Effect{}, fault.New(fault.Absent, fault.CodeInvalid, "no edit waits for a confirmation here", nil)
	}
	if err := a.otherPerson(ctx, who, p.By); err != nil {
		return Effect{}, err
	}
	if k.Digest != p.Digest(a.mount) {
		return Effect{}, fault.New(fault.Conflict, fault.CodeDigest,
			"this digest is not that of the proposed edit: read it again", nil).
			With("next", "vault read "+confirmPath(kind, name))
	}
	if fit == domain.FitStale {
		return Effect{}, errStale()
	}
	o := EditOptions{Live: Live(p.Live), confirms: p}
	if o.Live == LiveUnsaid {
		o.Live = k.Live
	}
	return a.carryOutEdit(ctx, c, *p, o)
}

func (a *Access) carryOutEdit(ctx context.Context, c Caller, p store.Proposal, o EditOptions) (Effect, error) {
	switch {
	case p.Role != nil && p.Deletes():
		return a.DeleteRole(ctx, c, p.Name, o)
	case p.Role != nil:
		return a.confirmRole(ctx, c, p, o)
	case p.Target != nil && p.Deletes():
		return a.DeleteTarget(ctx, c, p.Name, o)
	case p.Target != nil:
		return a.confirmTarget(ctx, c, p, o)
	case p.Config != nil:
		return a.WriteConfig(ctx, c, func(cfg *domain.Config) { *cfg = *p.Config.To }, o)
	}
	return Effect{}, errStale()
}

func (a *Access) confirmRole(ctx context.Context, c Caller, p store.Proposal, o EditOptions) (Effect, error) {
	cur, err := a.store.Role(ctx, p.Name)
	if err != nil {
		return Effect{}, err
	}
	fields, err := a.roleFieldsOf(ctx, p.Role.To.Target)
	if err != nil {
		return Effect{}, err
	}
	v, err := a.WriteRole(ctx, c, p.Name, roleEditOf(p, cur, fields), o)
	if err != nil {
		return Effect{}, err
	}
	return v.Effect, nil
}

func (a *Access) confirmTarget(ctx context.Context, c Caller, p store.Proposal, o EditOptions) (Effect, error) {
	d, err := a.descriptorOf(p.Target.To)
	if err != nil {
		return Effect{}, err
	}
	v, err := a.WriteTarget(ctx, c, p.Name, targetEditOf(p, d.TargetFields), o)
	if err != nil {
		return Effect{}, err
	}
	return v.Effect, nil
}

// otherPerson insists that a confirmation comes from a human being other than
// the author, by what was stored and by what is true now.
func (a *Access) otherPerson(ctx context.Context, who actor, author domain.Party) error {
	if who.machine {
		return errNotSecond("a machine confirms no edit")
	}
	if domain.SameProposer(who.party(), author) {
		return errNotSecond("an edit is confirmed by another person than the one who proposed it")
	}
	if author.Entity == "" {
		return nil
	}
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return err
	}
	e, err := a.directory.Entity(ctx, author.Entity, false)
	if err != nil {
		return err
	}
	if e == nil || e.Disabled {
		// A merged entity would be somebody else to us, and the same human being.
		return errNotSecond("the identity that proposed this edit is unknown or disabled: it has to be proposed again")
	}
	if p, ok := domain.PersonOf(*e, cfg.PersonKey); ok && p == who.person {
		return errNotSecond("an edit is confirmed by another person than the one who proposed it")
	}
	return nil
}

func errNotSecond(why string) error {
	return fault.New(fault.Denied, fault.CodeNotApprover, "access denied: "+why, nil)
}

// Withdraw drops a proposed edit; what is in force stays as it is. Withdrawing
// where nothing is proposed changes nothing.
func (a *Access) Withdraw(ctx context.Context, kind domain.EditKind, name string) error {
	return a.editLocked(kind, name, func() error {
		p, err := a.store.Proposal(ctx, kind, name)
		if err != nil || p == nil {
			return err
		}
		return a.store.DropProposal(ctx, kind, name)
	})
}

// editLocked keeps what is edited from changing while f runs.
func (a *Access) editLocked(kind domain.EditKind, name string, f func() error) error {
	switch kind {
	case domain.EditRole:
		return a.withRole(name, func(roleTx) error { return f() })
	case domain.EditTarget:
		return a.store.WithTarget(name, func(*store.TargetTx) error { return f() })
	case domain.EditConfig:
	}
	return a.store.WithConfig(f)
}

// Proposed tells whether an edit waits for its confirmation.
func (a *Access) Proposed(ctx context.Context, kind domain.EditKind, name string) (bool, error) {
	p, _, err := a.proposal(ctx, kind, name)
	return p != nil, err
}

// RoleList lists roles, those among them that are only proposed.
func (a *Access) RoleList(ctx context.Context, after string, limit int) (Page, error) {
	names, err := a.store.Roles(ctx, "", 0)
	if err != nil {
		return Page{}, err
	}
	return a.withProposed(ctx, domain.EditRole, names, after, limit)
}

// TargetList lists targets, those among them that are only proposed.
func (a *Access) TargetList(ctx context.Context, after string, limit int) (Page, error) {
	names, err := a.store.Targets(ctx, "", 0)
	if err != nil {
		return Page{}, err
	}
	return a.withProposed(ctx, domain.EditTarget, names, after, limit)
}

func (a *Access) withProposed(ctx context.Context, kind domain.EditKind, names []string, after string, limit int) (Page, error) {
	page := Page{Info: map[string]map[string]any{}}
	proposed, err := a.store.Proposals(ctx, kind)
	if err != nil {
		return page, err
	}
	for _, name := range proposed {
		p, _, err := a.proposal(ctx, kind, name)
		if err != nil {
			return page, err
		}
		if p == nil {
			continue
		}
		page.Info[name] = map[string]any{"proposed": true, "in_force": !p.Creates()}
		names = append(names, name)
	}
	slices.Sort(names)
	page.Keys = store.Page(slices.Compact(names), after, limit)
	return page, nil
}

// tidyProposals drops proposed edits that expired, and what a crash left of
// those that are in force.
func (a *Access) tidyProposals(ctx context.Context) (int, error) {
	n := 0
	for _, kind := range []domain.EditKind{domain.EditRole, domain.EditTarget, domain.EditConfig} {
		names, err := a.store.Proposals(ctx, kind)
		if err != nil {
			return n, err
		}
		for _, name := range names {
			err := a.editLocked(kind, name, func() error {
				p, _, err := a.proposal(ctx, kind, name)
				if err != nil || p != nil {
					return err
				}
				n++
				return a.store.DropProposal(ctx, kind, name)
			})
			if err != nil {
				return n, err
			}
		}
	}
	return n, nil
}
