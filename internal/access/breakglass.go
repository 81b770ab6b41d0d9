package access

import (
	"context"
	"fmt"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// BreakGlass gives access at once, without any approval, to who may have it in
// an emergency. It is loud, short, limited, and owes a review. The same ask
// while one is active returns that one.
func (a *Access) BreakGlass(ctx context.Context, c Caller, roleName string, ask Ask) (Submitted, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return Submitted{}, err
	}
	role, err := a.glassRole(ctx, who, roleName)
	if err != nil {
		return Submitted{}, err
	}
	if err := a.stepUp(ctx, who, role); err != nil {
		return Submitted{}, err
	}
	target, err := a.store.Target(ctx, role.Target)
	if err != nil {
		return Submitted{}, err
	}
	r, err := a.draftGlass(ctx, who, role, target, ask)
	if err != nil {
		return Submitted{}, err
	}
	if err := a.free(ctx, scopeOf(r)); err != nil {
		return Submitted{}, err
	}
	out, existing, err := a.breakNow(ctx, who, role, r, ask)
	if err == nil && !existing {
		err = a.stillFree(ctx, *out)
	}
	if err != nil {
		return Submitted{}, err
	}
	if !existing {
		// In the feed and in the log now; what fails here, the reaper does.
		if err := a.feed(ctx, out.ID); err != nil {
			a.log.Error("BREAK-GLASS: access without any approval; its event is written later", "request", string(out.ID),
				"role", out.Role, "target", out.Target, "entity", who.ID, "error", err)
			a.reaper.nudge()
		}
	}
	v, err := a.view(ctx, *out, who)
	return Submitted{View: v, Existing: existing}, err
}

func errNoGlass() error {
	return fault.New(fault.Denied, fault.CodeNotEligible,
		"access denied: no such role, or you are not among those who may break its glass", nil)
}

func errOwed(role string, id domain.RequestID, why string) error {
	return fault.New(fault.Denied, fault.CodeReviewOwed,
		fmt.Sprintf("access denied: request %s for this role waits for its review: %s; a reviewer signs off at pim/reviews/%s", id, why, id), nil).
		With("request_id", string(id)).With("role", role)
}

// glassRole reads a role for somebody who must be in its break_glass_groups.
// Machines never are.
func (a *Access) glassRole(ctx context.Context, who actor, name string) (*domain.Role, error) {
	if !domain.ValidName(name) || who.machine {
		return nil, errNoGlass()
	}
	role, err := a.store.Role(ctx, name)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return nil, errNoGlass()
	}
	m := role.MayBreakGlass(who.Entity)
	if len(m.Mismatch) > 0 {
		a.log.Warn("a group of this name is another group than the role was first matched to", "role", name)
	}
	if !m.OK {
		return nil, errNoGlass()
	}
	if len(m.Pin) > 0 {
		if role, err = a.pin(ctx, name, m.Pin); err != nil {
			return nil, err
		}
	}
	return role, nil
}

// draftGlass checks everything that was asked. Whatever the role says of
// ordinary requests, an emergency gives its reason and its ticket.
func (a *Access) draftGlass(ctx context.Context, who actor, role *domain.Role, target *domain.Target, ask Ask) (domain.Request, error) {
	rules := *role
	rules.RequireJustification, rules.RequireTicket = true, true
	rules.TTL, rules.MaxTTL = role.EmergencyTTL(), role.EmergencyTTL()
	rules.Start = domain.StartApproval
	if !ask.Start.IsZero() {
		var p fault.Problems
		p.Add("start_time", "an emergency starts at once")
		return domain.Request{}, p.Err()
	}
	r, err := a.draft(ctx, who, &rules, target, ask)
	if err != nil {
		return r, err
	}
	r.Kind, r.RoleRevision = domain.KindBreakGlass, role.Revision()
	r.FirstRead, r.ClaimWithin = false, 0
	r.Digest = a.digest(r, r.RoleRevision, r.TargetRevision, r.Principal)
	now := a.now()
	if domain.EditedBy(role.Editors, who.person, who.ID, now) || domain.EditedBy(target.Editors, who.person, who.ID, now) {
		return r, fault.New(fault.Denied, fault.CodeEditor,
			"access denied: you edited this role or its target within 24 hours; nobody breaks a glass that they set up themselves", nil).
			With("role", role.Name)
	}
	return r, nil
}

// breakNow writes the ledger, the person's record, then the request: a crash in
// between leaves entries that name nothing, which count for nothing.
func (a *Access) breakNow(ctx context.Context, who actor, role *domain.Role, r domain.Request, ask Ask) (out *domain.Request, existing bool, err error) {
	if err := a.settleLedger(ctx, role.Name); err != nil {
		return nil, false, err
	}
	defer a.ledgers.fly(r.ID)()
	err = a.store.WithPerson(who.person, func(tx *store.PersonTx) error {
		rec, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		open, kept, err := a.openOf(ctx, rec, role.Name)
		if err != nil {
			return err
		}
		glasses := 0
		for _, o := range open {
			if !o.BreaksGlass() || o.At(a.now()) != domain.Active {
				continue
			}
			if glasses++; sameAsk(o, r, ask) && o.Ticket == r.Ticket {
				out, existing = &o, true
				return nil
			}
		}
		if glasses >= role.MaxActive {
			return fault.Newf(fault.Conflict, fault.CodeLimit,
				"limit reached: the role allows %d emergency grant(s) for each person at a time; give one back first", role.MaxActive)
		}
		return a.writeGlass(ctx, tx, kept, r, role, &out)
	})
	return out, existing, err
}

func (a *Access) writeGlass(ctx context.Context, tx *store.PersonTx, rec domain.PersonRecord, r domain.Request, role *domain.Role, out **domain.Request) error {
	now := a.now()
	owed := domain.ReviewOf(*role, "the glass was broken", now)
	r = domain.BreakGlassNow(r, owed, role.BreakGlassRotate, now)
	if err := a.noteUse(ctx, r, role, true); err != nil {
		return err
	}
	a.step("break-glass noted")
	rec.Entries = append(rec.Entries, domain.PersonEntry{
		ID: r.ID, Role: r.Role, Params: domain.ParamsHash(r.Params), At: now, Until: latestEnd(r),
	})
	if err := tx.Put(ctx, rec); err != nil {
		return err
	}
	a.step("break-glass of a person noted")
	err := a.store.WithRequest(r.ID, func(tx *store.RequestTx) error { return a.save(ctx, tx, r, "glass broken") })
	*out = &r
	return err
}

// noteUse enters a request into the ledger of its role; with limited only if
// the role's limits and what the person owes allow it.
func (a *Access) noteUse(ctx context.Context, r domain.Request, role *domain.Role, limited bool) error {
	now := a.now()
	_, _, period := role.EmergencyLimits()
	return a.ledgers.change(ctx, role.Name, func(l domain.Ledger) (domain.Ledger, bool, error) {
		l = l.Pruned(period, now)
		for _, u := range l.Uses {
			if u.ID == r.ID {
				return l, false, nil
			}
		}
		if p := l.Barred(*role, r.Requester.Person, r.Requester.Entity, r.Ticket, now); limited && p != nil {
			if p.Request != "" {
				return l, false, errOwed(role.Name, p.Request, p.Text)
			}
			return l, false, fault.New(fault.Denied, fault.CodeLimit, "access denied: limit reached: "+p.Text, nil).With("role", role.Name)
		}
		l.Uses = append(l.Uses, domain.GlassUse{
			ID: r.ID, Kind: r.Kind, Person: r.Requester.Person, Entity: r.Requester.Entity, Name: r.Requester.Name,
			Ticket: r.Ticket, At: now, Deadline: r.Review.Deadline, Heard: !r.BreaksGlass(),
		})
		return l, true, nil
	})
}

// oweReview has a request that is about to be written owe a review, for a
// reason in our words. The ledger is written here, before the request: the
// caller writes the request next.
func (a *Access) oweReview(ctx context.Context, r domain.Request, role *domain.Role, why string) (domain.Request, error) {
	now := a.now()
	next := r.Owe(domain.ReviewOf(*role, why, now), now)
	return next, a.noteUse(ctx, next, role, false)
}

// mayStill tells whether a person may still have credentials under a grant: as
// they are at this moment, in the way in which they got it.
func (a *Access) mayStill(who actor, role *domain.Role, r *domain.Request) error {
	switch {
	case r.BreaksGlass() && (who.machine || !role.MayBreakGlass(who.Entity).OK):
		return errNoGlass()
	case !r.BreaksGlass() && !role.Eligible(who.Entity, a.now()).OK:
		return errNotEligible()
	}
	return nil
}

// readableRole is eligibleRole for reads of credentials: who is not eligible
// may still have broken the glass. It costs no read.
func (a *Access) readableRole(ctx context.Context, who actor, name string) (*domain.Role, error) {
	role, err := a.eligibleRole(ctx, who, name)
	if !fault.Is(err, fault.CodeNotEligible) {
		return role, err
	}
	for _, r := range a.index.ofPerson(who.person) {
		if r.role() == name && r.glass && r.state == domain.Active {
			if role, glass := a.glassRole(ctx, who, name); glass == nil {
				return role, nil
			}
		}
	}
	return nil, err
}

// EmergencyView is what somebody may do in an emergency.
type EmergencyView struct {
	TTL     domain.Seconds
	Left    int    // uses in the current period
	Limits  string // in words
	Barred  string // why not now; "" = they may
	Command string
}

// emergency tells who may break a role's glass what that gives; nil = they may
// not.
func (a *Access) emergency(ctx context.Context, who actor, role *domain.Role) (*EmergencyView, error) {
	if who.machine || !role.MayBreakGlass(who.Entity).OK {
		return nil, nil //nolint:nilnil // nobody but those in the groups
	}
	l, err := a.ledgers.of(ctx, role.Name)
	if err != nil {
		return nil, err
	}
	now := a.now()
	perPerson, perRole, period := role.EmergencyLimits()
	v := &EmergencyView{
		TTL: role.EmergencyTTL(), Left: l.Left(*role, who.person, who.ID, now),
		Limits: fmt.Sprintf("each person %d times and everybody together %d times within %s; one ticket %d times until its review, which is due within %s",
			perPerson, perRole, period, role.EmergencyUses(), role.ReviewWithin()),
		Command: "vault write pim/break-glass/" + role.Name + ` justification="…" ticket=…`,
	}
	for _, u := range l.Uses {
		if p := l.Barred(*role, who.person, who.ID, u.Ticket, now); p != nil && u.Of(who.person, who.ID) && u.Owed() {
			v.Barred = p.Text
		}
	}
	if p := l.Barred(*role, who.person, who.ID, "", now); v.Barred == "" && p != nil && p.Request == "" {
		v.Barred = p.Text
	}
	return v, nil
}

// editors notes who made an edit: whoever breaks a glass did not set it up
// within 24 hours. Of an edit of two people both are noted.
func (a *Access) editors(list []domain.Editor, by editor, o EditOptions) []domain.Editor {
	now := a.now()
	if o.confirms != nil {
		list = domain.NoteEditor(list, o.confirms.By, now)
	}
	return domain.NoteEditor(list, by.Party, now)
}
