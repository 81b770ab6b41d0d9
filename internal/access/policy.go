package access

import (
	"context"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// factsOf gathers, live and without any lock, what a role's policy is judged by
// for a request: the standing of everybody who decided, and of its requester. A
// requester that the host does not know, or that is disabled, has no person.
func (a *Access) factsOf(ctx context.Context, role *domain.Role, r *domain.Request, decisions []domain.Decision) (domain.Facts, error) {
	e, err := a.directory.Entity(ctx, r.Requester.Entity, len(role.Conditions()) > 0)
	if err != nil {
		return domain.Facts{}, err
	}
	return a.factsFor(ctx, role, r, decisions, asking{requester: e, at: a.now()})
}

// asking is who asks, and when.
type asking struct {
	requester *domain.Entity // as the host knows them; nil = it does not
	caller    *actor         // the requester while they call; nil = somebody else does
	at        time.Time
}

// calling is a requester who asks now.
func (a *Access) calling(who actor) asking {
	return asking{requester: &who.Entity, caller: &who, at: a.now()}
}

// factsFor is factsOf for a requester that has been read.
func (a *Access) factsFor(ctx context.Context, role *domain.Role, r *domain.Request, decisions []domain.Decision, by asking) (domain.Facts, error) {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return domain.Facts{}, err
	}
	f := domain.Facts{Requester: r.Requester, Asked: r.Times.Requested, Now: by.at, TTL: r.TTL}
	if f.Asked.IsZero() {
		f.Asked = f.Now // not filed yet
	}
	if by.requester != nil && !by.requester.Disabled {
		f.RequesterNow, _ = domain.PersonOf(*by.requester, cfg.PersonKey)
		if f.Judge, err = a.judge(ctx, role, r, by); err != nil {
			return f, err
		}
	}
	known := a.directory
	if by.caller != nil && by.caller.early != nil {
		known = by.caller.early
	}
	f.Standings, err = a.standing(ctx, role, known, decisions)
	return f, err
}

// refusals are the reasons for which a role's rules refuse a request.
func refusals(o domain.Outcome) string {
	var out []string
	for _, r := range o.Rules {
		if r.Status != domain.Met && (r.Rule == "deny_when" || strings.HasPrefix(r.Rule, "require ")) {
			out = append(out, r.Rule+": "+r.Reason)
		}
	}
	return strings.Join(out, "; ")
}

func errPolicy(role *domain.Role, o domain.Outcome) error {
	return fault.New(fault.Denied, fault.CodePolicy, "access denied: the rules of the role refuse this: "+refusals(o), nil).
		With("role", role.Name)
}

// within refuses what a role's hours do not allow now.
func (a *Access) within(role *domain.Role) error {
	h := role.HoursAt(a.now())
	if h.Open {
		return nil
	}
	return errHours(role, h)
}

func errHours(role *domain.Role, h domain.Hours) error {
	text := "access denied: role " + role.Name + " is closed now: " + h.Why
	if !h.Change.IsZero() {
		text += "; it opens at " + stamp(h.Change)
	}
	err := fault.New(fault.Denied, fault.CodeHours, text, nil).With("role", role.Name)
	if !h.Change.IsZero() {
		err = err.With("opens_at", stamp(h.Change))
	}
	return err
}

// reconsider looks again at a pending request that nobody has decided on in
// time, where a stage of its role says what happens then.
func (a *Access) reconsider(ctx context.Context, id domain.RequestID, s *sight) error {
	r, err := a.glance(ctx, id, s)
	if err != nil || r == nil {
		return err
	}
	now := a.now()
	if r.At(now) != domain.Pending || r.Reconsider.IsZero() || now.Before(r.Reconsider) {
		return nil
	}
	role, o, err := a.outcomeNow(ctx, *r)
	if err != nil || role == nil {
		return err
	}
	return a.store.WithRequest(id, func(tx *store.RequestTx) error {
		cur, err := a.look(ctx, tx, id, s)
		if err != nil || cur == nil || cur.Rev != r.Rev {
			return err // it changed: the next look sees it
		}
		next, err := a.reconsidered(ctx, *cur, role, o, now)
		if err != nil {
			return err
		}
		return a.saveSeen(ctx, tx, next, "reconsidered", s)
	})
}

// heldAgain is how long what time would approve waits under a hold for another look.
const heldAgain = time.Minute

// reconsidered is a pending request after time has brought what its role says.
// Under a hold time approves nothing: it is looked at again.
func (a *Access) reconsidered(ctx context.Context, r domain.Request, role *domain.Role, o domain.Outcome, now time.Time) (domain.Request, error) {
	next := r.Considered(*role, o, now)
	if !o.Met {
		return next.Escalated(o.WaitingFor(), now), nil
	}
	switch err := a.free(ctx, scopeOf(r)); {
	case fault.Is(err, fault.CodeHeld):
		return r.Postponed(now.Add(heldAgain)), nil
	case err != nil:
		return r, err
	}
	return next.Apply(next.Grant(o, now), now)
}

// outcomeNow is what a pending request's policy says now, for a requester who is
// still there. A nil role means that the request is void, which whoever looks at
// it next finds.
func (a *Access) outcomeNow(ctx context.Context, r domain.Request) (*domain.Role, domain.Outcome, error) {
	role, err := a.store.Role(ctx, r.Role)
	if err != nil || role == nil {
		return nil, domain.Outcome{}, err
	}
	sealed, err := a.sealedNow(ctx, &r, role)
	if err != nil || sealed != r.Digest {
		return nil, domain.Outcome{}, err
	}
	f, err := a.factsOf(ctx, role, &r, r.Decisions)
	if err != nil {
		return nil, domain.Outcome{}, err
	}
	o := domain.Evaluate(*role, f)
	o.Met = o.Met && f.RequesterNow != ""
	return role, o, nil
}
