package access

import (
	"context"
	"errors"
	"slices"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// ExtendAsk is an ask for more time.
type ExtendAsk struct {
	TTL           domain.Seconds
	Justification string
}

// Extend asks for more time under an active grant of the caller: a new decision
// over the same grant, never beyond the role's max_extension. The same ask while
// it waits changes nothing.
func (a *Access) Extend(ctx context.Context, c Caller, id domain.RequestID, ask ExtendAsk) (RequestView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return RequestView{}, err
	}
	r, err := a.store.Request(ctx, id)
	if err != nil {
		return RequestView{}, err
	}
	if r == nil || r.Requester.Person != who.person {
		return RequestView{}, errUnknown()
	}
	role, err := a.eligibleRole(ctx, who, r.Role)
	if err != nil {
		return RequestView{}, err
	}
	if err := a.stepUp(ctx, who, role); err != nil {
		return RequestView{}, err
	}
	if err := a.extendable(ctx, who, role, *r, ask); err != nil {
		return RequestView{}, err
	}
	if x, open := r.Extending(a.now()); open && x.TTL == ask.TTL && x.Justification == ask.Justification {
		return a.explained(ctx, *r, who)
	}
	out, err := a.fileExtension(ctx, who, role, *r, ask)
	if err != nil {
		return RequestView{}, err
	}
	return a.explained(ctx, *out, who)
}

// extendable reports everything that is wrong with an ask for more time.
func (a *Access) extendable(ctx context.Context, who actor, role *domain.Role, r domain.Request, ask ExtendAsk) error {
	if r.BreaksGlass() || role.MaxExtension == 0 {
		return fault.New(fault.Denied, fault.CodePolicy, "access denied: this role does not extend grants; ask again: "+requestCommand(role), nil).
			With("role", role.Name).With("next", requestCommand(role))
	}
	var p fault.Problems
	checkFree(&p, "justification", ask.Justification, domain.MaxJustification, role.RequireJustification, role.JustificationPattern)
	if ask.TTL <= 0 {
		p.Add("ttl", "is required: how much longer")
	} else if r.ExtendedBy()+ask.TTL > role.MaxExtension {
		p.Addf("ttl", "goes beyond the role's max_extension: at most %d seconds more", role.MaxExtension-r.ExtendedBy())
	}
	if err := p.Err(); err != nil {
		return err
	}
	if seen := r.At(a.now()); seen != domain.Active {
		return fault.Newf(fault.Conflict, fault.CodeNotActive, "no active grant: only an active grant can be extended, and the request is %s", seen).
			With("state", string(seen)).With("request_id", string(r.ID))
	}
	return a.unbarred(ctx, who, r)
}

// fileExtension judges the ask by the role's policy and writes it down; where the
// role approves by itself the window is longer at once.
func (a *Access) fileExtension(ctx context.Context, who actor, role *domain.Role, r domain.Request, ask ExtendAsk) (*domain.Request, error) {
	if _, err := a.verify(ctx, who, role, &r); err != nil {
		return nil, err
	}
	ext := domain.Extension{TTL: ask.TTL, Justification: ask.Justification, ExpiresAt: a.now().Add(role.RequestTTL.Duration())}
	ext.Digest = a.extensionDigest(r, ask.TTL, len(r.Extensions)+1)
	asked, err := r.AskExtension(ext, role.MaxExtension, a.now())
	if err != nil {
		return nil, extensionFault(r, err)
	}
	x, _ := asked.Extending(a.now())
	f, err := a.factsFor(ctx, role, &x, nil, a.calling(who))
	if err != nil {
		return nil, err
	}
	o := domain.Evaluate(*role, f)
	if o.Blocked {
		return nil, errPolicy(role, o)
	}
	var out *domain.Request
	err = a.store.WithRequest(r.ID, func(tx *store.RequestTx) error {
		cur, err := a.load(ctx, tx, r.ID, &r)
		if err != nil {
			return err
		}
		if cur == nil {
			return errMeanwhile()
		}
		// As it is now: another ask may have come and gone since it was read.
		ext.Digest = a.extensionDigest(*cur, ask.TTL, len(cur.Extensions)+1)
		next, err := cur.AskExtension(ext, role.MaxExtension, a.now())
		if err != nil {
			return extensionFault(*cur, err)
		}
		if o.Met {
			x, _ := next.Extending(a.now())
			if next, err = next.DecideExtension(x, domain.Party{}, o, a.now()); err != nil {
				return extensionFault(*cur, err)
			}
		}
		out = &next
		return a.grow(ctx, tx, next, "extension asked")
	})
	a.reaper.nudge()
	return out, err
}

// extensionDigest seals an ask for more time: of exactly this grant, as it was
// approved, on top of the window as it ends now. nth is which ask of the grant it
// is, the first being 1: the same ask made again takes decisions of its own.
func (a *Access) extensionDigest(r domain.Request, ttl domain.Seconds, nth int) string {
	x := r
	x.Kind, x.TTL, x.StartTime = domain.KindExtension, ttl, r.WindowEnd
	s := a.sealed(x, r.RoleRevision, r.TargetRevision, r.Principal)
	s.Extension = nth
	return s.Digest()
}

func extensionFault(r domain.Request, err error) error {
	switch {
	case errors.Is(err, domain.ErrNotActive), errors.Is(err, domain.ErrNotPending):
		return errMeanwhile()
	case errors.Is(err, domain.ErrExtending):
		return fault.New(fault.Conflict, fault.CodeBusy, "busy: another extension of this grant waits for its decision", nil).
			With("request_id", string(r.ID))
	case errors.Is(err, domain.ErrExtendedEnough):
		return fault.New(fault.Conflict, fault.CodeLimit, "limit reached: the role's max_extension allows no more time for this grant", nil).
			With("request_id", string(r.ID))
	}
	return err
}

// decideExtension adds an approver's decision on more time.
func (a *Access) decideExtension(ctx context.Context, who actor, role *domain.Role, r, x domain.Request, d Decision) (*domain.Request, error) {
	sealed, err := a.sealedNow(ctx, &r, role)
	if err != nil {
		return nil, err
	}
	if sealed != r.Digest || x.Digest != a.extensionDigest(r, x.TTL, len(r.Extensions)) {
		return nil, errVoid()
	}
	facts, err := a.factsOf(ctx, role, &x, x.Decisions)
	if err != nil {
		return nil, err
	}
	stage, err := stageFor(who, role, facts, x, d)
	if err != nil {
		return nil, err
	}
	var out *domain.Request
	err = a.store.WithRequest(r.ID, func(tx *store.RequestTx) error {
		cur, err := a.load(ctx, tx, r.ID, &r)
		if err != nil {
			return err
		}
		now := a.now()
		if cur == nil {
			return a.errArchived(ctx, r.ID)
		}
		open, ok := cur.Extending(now)
		if !ok || open.Digest != x.Digest || len(open.Decisions) != len(x.Decisions) || facts.RequesterNow == "" {
			return fault.New(fault.Conflict, fault.CodeBusy, "busy: the request changed at this moment; read it again", nil).With("poll_after_seconds", 1)
		}
		next, err := a.extended(*cur, open, role, facts, who, stage, d)
		if err != nil {
			return err
		}
		out = &next
		if d.Verdict == domain.Deny {
			return a.save(ctx, tx, next, "extension decided")
		}
		return a.grow(ctx, tx, next, "extension decided") // comments leave room for the end
	})
	return out, err
}

// extended is the request after one more decision on its extension.
func (a *Access) extended(r, x domain.Request, role *domain.Role, facts domain.Facts, who actor, stage int, d Decision) (domain.Request, error) {
	now := a.now()
	dec := domain.Decision{By: who.party(), Verdict: d.Verdict, Comment: d.Comment, Digest: x.Digest, Stage: stage}
	if d.TTL != nil {
		dec.TTL = *d.TTL
	}
	next, err := x.Decide(dec, now)
	if err != nil {
		return r, decisionFault(x, err, now)
	}
	entity := who.Entity
	facts.Standings = append(slices.Clone(facts.Standings), domain.Standing{
		Decision: next.Decisions[len(next.Decisions)-1], Now: &entity, Person: who.person, Machine: who.machine,
	})
	out, err := r.DecideExtension(next, who.party(), domain.Evaluate(*role, facts), now)
	if err != nil {
		return r, extensionFault(r, err)
	}
	return out, nil
}
