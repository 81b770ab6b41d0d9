package access

import (
	"context"
	"fmt"
	"slices"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// closeDueCampaigns closes what is due, and goes on with what a crash cut off.
func (w *reaper) closeDueCampaigns(ctx context.Context) {
	a, now := w.a, w.a.now()
	due, err := a.campaigns.list(ctx, func(c domain.Campaign) bool {
		return c.State == domain.CampaignClosing || c.State == domain.CampaignOpen && !now.Before(c.Due)
	})
	if err != nil {
		a.log.Warn("access reviews could not be read; it is tried again", "error", err)
	}
	for _, c := range due {
		if _, err := a.CloseCampaign(ctx, Caller{}, c.ID); err != nil {
			a.log.Warn("an access review could not be closed; it is tried again", "review", c.ID, "role", c.Role, "error", err)
		}
	}
}

// applyCampaign removes from the role whom the review removed, as an edit of it, and
// ends what they have open. Every step may be repeated.
func (a *Access) applyCampaign(ctx context.Context, id string) error {
	c, err := a.store.Campaign(ctx, id)
	if err != nil || c == nil || c.State != domain.CampaignClosing {
		return err
	}
	outcome, err := a.removePrincipals(ctx, *c)
	if err != nil {
		return err
	}
	a.step("access review applied")
	_, err = a.campaigns.change(ctx, id, func(cur *domain.Campaign) (*domain.Campaign, error) {
		if cur == nil || cur.State != domain.CampaignClosing {
			return nil, nil //nolint:nilnil // somebody else did it
		}
		next := cur.Done(outcome, a.now())
		return &next, nil
	})
	return err
}

// removePrincipals has the role name those no more who were removed, and returns
// in our words what came of it. What they have open ends in any case: only that
// they may ask anew may wait for a second person.
func (a *Access) removePrincipals(ctx context.Context, c domain.Campaign) (string, error) {
	role, err := a.store.Role(ctx, c.Role)
	if err != nil {
		return "", err
	}
	if role == nil {
		return "the role is gone; nothing is left to remove", nil
	}
	outcome := fmt.Sprintf("removed %d of %d principals", len(c.Removed), len(c.Items))
	left := role.Without(c.Removed)
	if !left.HasEligible() {
		// A role for nobody is none: so nobody gets through to it instead.
		return outcome + "; nobody would be left, so a hold is in force on the role until it is changed or deleted", a.holdRole(ctx, c)
	}
	author, err := a.campaignAuthor(ctx, c)
	if err != nil {
		return "", err
	}
	agreed, alone, err := a.agreedRemovals(ctx, c, author.Party)
	if err != nil {
		return "", err
	}
	if _, err := a.narrow(ctx, c.Role, agreed, EditOptions{Live: LiveKeep, narrows: true, seconded: true}); err != nil {
		return "", err
	}
	if err := a.endRemoved(ctx, &left, c.ID); err != nil {
		return "", err
	}
	waits, err := a.narrow(ctx, c.Role, alone, EditOptions{Live: LiveKeep, narrows: true, author: author})
	if waits {
		outcome += fmt.Sprintf(", %d of them once another person confirms the edit of the role", len(alone))
	}
	return outcome, err
}

// narrow removes principals from a role, unless it names none of them any more.
func (a *Access) narrow(ctx context.Context, name string, gone []domain.Principal, o EditOptions) (waits bool, err error) {
	role, err := a.store.Role(ctx, name)
	if err != nil || role == nil || len(role.Without(gone).Principals()) == len(role.Principals()) {
		return false, err
	}
	v, err := a.WriteRole(ctx, Caller{}, name, RoleEdit{Core: func(r *domain.Role) { *r = r.Without(gone) }}, o)
	if err != nil {
		return false, err
	}
	return v.Effect.Proposed.Waits, nil
}

// agreedRemovals are those that a reviewer has asked for who is another person than
// the author of the edit: two people have agreed on them already. The others are the
// author's alone.
func (a *Access) agreedRemovals(ctx context.Context, c domain.Campaign, author domain.Party) (agreed, alone []domain.Principal, err error) {
	asked := map[domain.Principal]*domain.Party{}
	for _, x := range c.Items {
		if x.Verdict == domain.Remove {
			asked[x.Principal] = x.By
		}
	}
	for _, p := range c.Removed {
		by := asked[p]
		two := false
		if by != nil {
			if two, err = a.twoPeople(ctx, author, *by); err != nil {
				return nil, nil, err
			}
		}
		if two {
			agreed = append(agreed, p)
		} else {
			alone = append(alone, p)
		}
	}
	return agreed, alone, nil
}

// twoPeople tells whether two parties are surely two people: by what was stored,
// and by what is true of them now.
func (a *Access) twoPeople(ctx context.Context, x, y domain.Party) (bool, error) {
	if domain.SameProposer(x, y) {
		return false, nil
	}
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return false, err
	}
	var people []domain.Person
	for _, p := range []domain.Party{x, y} {
		if p.Entity == "" { // gone, or a token without identity
			people = append(people, p.Person)
			continue
		}
		e, err := a.directory.Entity(ctx, p.Entity, false)
		if err != nil {
			return false, err
		}
		if e == nil {
			return false, nil
		}
		now, ok := domain.PersonOf(*e, cfg.PersonKey)
		if !ok {
			return false, nil
		}
		people = append(people, now)
	}
	return people[0] != people[1], nil
}

// campaignAuthor is who proposes what an access review removes, where edits take two
// people: the person who had it come out so cannot confirm it. An identity that is
// gone could be confirmed by nobody, so its person alone is kept.
func (a *Access) campaignAuthor(ctx context.Context, c domain.Campaign) (*editor, error) {
	was := c.Author()
	by := a.editor(ctx, Caller{EntityID: was.Entity})
	switch {
	case by.unfit == nil:
		by.Person = was.Person
	case fault.Is(by.unfit, fault.CodeLogin):
		was.Entity = ""
		by = editor{Party: was}
	default:
		return nil, by.unfit
	}
	return &by, nil
}

// holdRole stops everything through a role, once.
func (a *Access) holdRole(ctx context.Context, c domain.Campaign) error {
	reason := "access review " + c.ID + ": nobody may have this role any more"
	list, err := a.holds.list(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(h domain.Hold) bool { return h.Kind == domain.HoldRole && h.Value == c.Role && h.Reason == reason }) {
		if _, err := a.SetHold(ctx, Caller{}, Kill{Kind: domain.HoldRole, Value: c.Role, Reason: reason}); err != nil {
			return err
		}
	}
	for _, r := range a.index.ofRole(c.Role) {
		if err := a.endRequest(ctx, r.id, domain.Party{}, "removed by access review "+c.ID); err != nil {
			return err
		}
	}
	return nil
}

// endRemoved ends what is open of those who may not have the role any more.
func (a *Access) endRemoved(ctx context.Context, role *domain.Role, id string) error {
	for _, r := range a.index.ofRole(role.Name) {
		if r.state.Terminal() {
			continue
		}
		e, err := a.directory.Entity(ctx, r.requester.Value().entity, true)
		if err != nil {
			return err
		}
		if e == nil || a.entitled(role, *e, r.glass) {
			continue
		}
		if err := a.endRequest(ctx, r.id, domain.Party{}, "removed by access review "+id); err != nil {
			return err
		}
	}
	return nil
}
