package access

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Decision is what an approver says.
type Decision struct {
	Verdict domain.Verdict
	Comment string
	Digest  string          // of what the approver saw; required to approve
	TTL     *domain.Seconds // shortens the window
}

// Decide adds an approver's decision to a request. It binds to the digest of
// exactly what was asked, under the role and target as they then were: a
// difference makes the request void instead.
func (a *Access) Decide(ctx context.Context, c Caller, id domain.RequestID, d Decision) (RequestView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return RequestView{}, err
	}
	r, asked, role, err := a.decidable(ctx, who, id)
	if err != nil {
		return RequestView{}, err
	}
	if err := checkDecision(d, asked, role); err != nil {
		return RequestView{}, err
	}
	if err := a.free(ctx, scopeOf(*r)); err != nil {
		return RequestView{}, err
	}
	if err := a.free(ctx, domain.Scope{Person: who.person, Entity: who.ID}); err != nil {
		return RequestView{}, err
	}
	if d.Verdict == domain.Approve {
		if err := a.runsTaken(ctx, role, r); err != nil {
			return RequestView{}, err
		}
	}
	var next *domain.Request
	if asked.Kind == domain.KindExtension {
		next, err = a.decideExtension(ctx, who, role, *r, asked, d)
	} else {
		next, err = a.decide(ctx, who, role, *r, d)
	}
	if err != nil {
		return RequestView{}, err
	}
	a.reaper.nudge()
	return a.view(ctx, *next, who)
}

// decidable finds a pending request for somebody who can decide on it. Who
// cannot is told no more than of an unknown id; the requester, who knows it,
// is told why.
func (a *Access) decidable(ctx context.Context, who actor, id domain.RequestID) (*domain.Request, domain.Request, *domain.Role, error) {
	r, err := a.store.Request(ctx, id)
	if err != nil {
		return nil, domain.Request{}, nil, err
	}
	if r == nil {
		return nil, domain.Request{}, nil, errUnknown()
	}
	asked := *r
	if x, open := r.Extending(a.now()); open {
		asked = x
	}
	role, err := a.mayDecide(ctx, who, *r, asked)
	return r, asked, role, err
}

// mayDecide is the role of a request that somebody can decide on. asked is what
// is decided: the request, or more time under it.
func (a *Access) mayDecide(ctx context.Context, who actor, r, asked domain.Request) (*domain.Role, error) {
	if r.Requester.Person == who.person || r.Requester.Entity == who.ID {
		return nil, fault.New(fault.Denied, fault.CodeNotApprover, "access denied: nobody decides on their own request", nil)
	}
	role, err := a.store.Role(ctx, r.Role)
	if err != nil {
		return nil, err
	}
	decided, seen := hasDecided(asked, who), hasDecided(r, who)
	if role == nil {
		if !decided && !seen {
			return nil, errUnknown()
		}
		return nil, fault.New(fault.Conflict, fault.CodeVoid, "the role of this request does not exist any more", nil)
	}
	m := role.ApproverAt(asked.Stage, who.Entity)
	switch {
	case !m.OK && !decided && !seen:
		return nil, errUnknown()
	case who.machine:
		return nil, fault.New(fault.Denied, fault.CodeNotApprover, "access denied: machines may request, but never decide", nil)
	case asked.At(a.now()) != domain.Pending:
		return nil, errClosed(r, r.At(a.now()))
	case decided:
		return nil, fault.New(fault.Conflict, fault.CodeAlreadyDecided, "you have already decided on this request", nil)
	case !m.OK: // decided at another stage, which is all there is to decide
		return nil, fault.New(fault.Denied, fault.CodeNotApprover, "access denied: the request waits for others now", nil)
	}
	return a.pinned(ctx, role, m)
}

// pinned is the role with what a match taught about its groups.
func (a *Access) pinned(ctx context.Context, role *domain.Role, m domain.Match) (*domain.Role, error) {
	if len(m.Pin) == 0 {
		return role, nil
	}
	return a.pin(ctx, role.Name, m.Pin)
}

func hasDecided(r domain.Request, who actor) bool {
	for _, d := range r.Decisions {
		if d.By.Person == who.person || d.By.Entity == who.ID {
			return true
		}
	}
	return false
}

// hasDecidedOnMore tells whether somebody decided on more time under a request.
func hasDecidedOnMore(r domain.Request, who actor) bool {
	return slices.ContainsFunc(r.Extensions, func(e domain.Extension) bool {
		return hasDecided(domain.Request{Decisions: e.Decisions}, who)
	})
}

func errClosed(r domain.Request, seen domain.RequestState) error {
	return fault.Newf(fault.Conflict, fault.CodeNotPending, "the request is not pending: it is %s", seen).
		With("state", string(seen)).With("request_id", string(r.ID))
}

func checkDecision(d Decision, r domain.Request, role *domain.Role) error {
	var p fault.Problems
	switch d.Verdict {
	case domain.Approve, domain.Deny:
	default:
		p.Add("decision", "must be approve or deny")
	}
	if why := domain.CheckText(d.Comment, domain.MaxComment); why != "" {
		p.Add("comment", why)
	}
	if d.Digest == "" && d.Verdict == domain.Approve {
		p.Add("digest", "is required to approve: it is in pim/approvals/"+string(r.ID))
	}
	if d.TTL != nil {
		switch {
		case *d.TTL <= 0:
			p.Add("ttl", "must be longer than zero")
		case *d.TTL > r.TTL:
			p.Add("ttl", "can only shorten what was asked")
		case *d.TTL < role.MinTTL:
			p.Add("ttl", "is shorter than the role's min_ttl")
		}
	}
	if err := p.Err(); err != nil {
		return err
	}
	if d.Digest != "" && d.Digest != r.Digest {
		return fault.New(fault.Conflict, fault.CodeDigest, "the digest is not that of this request: read it again before deciding", nil)
	}
	return nil
}

// decide reads the standing of everybody who decided before, then writes the
// decision and what follows from it in one step.
func (a *Access) decide(ctx context.Context, who actor, role *domain.Role, r domain.Request, d Decision) (*domain.Request, error) {
	sealed, err := a.sealedNow(ctx, &r, role)
	if err != nil {
		return nil, err
	}
	facts, err := a.factsOf(ctx, role, &r, r.Decisions)
	if err != nil {
		return nil, err
	}
	stage, err := stageFor(who, role, facts, r, d)
	if err != nil {
		return nil, err
	}
	var out *domain.Request
	void := false
	err = a.store.WithRequest(r.ID, func(tx *store.RequestTx) error {
		cur, err := a.load(ctx, tx, r.ID, &r)
		if err != nil {
			return err
		}
		now := a.now()
		switch {
		case cur == nil:
			return a.errArchived(ctx, r.ID)
		case cur.Rev != r.Rev && cur.At(now) != domain.Pending:
			return errClosed(*cur, cur.At(now))
		case cur.Rev != r.Rev:
			return fault.New(fault.Conflict, fault.CodeBusy, "busy: somebody else decided at the same moment; read the request again", nil).
				With("poll_after_seconds", 1)
		case sealed != r.Digest || facts.RequesterNow == "":
			void = true
			next, err := cur.Apply(domain.Event{Kind: domain.Voided, Reason: "role, target or person changed after the request was filed"}, now)
			if err != nil {
				return err
			}
			out = &next
			return a.save(ctx, tx, next, "request voided")
		}
		next, err := decided(*cur, role, facts, who, stage, d, a.now())
		if err != nil {
			return err
		}
		out = &next
		return a.save(ctx, tx, next, "decision")
	})
	if err == nil && void {
		err = errVoid()
	}
	return out, err
}

// errArchived is the answer when a request was closed and archived while
// somebody who may know of it was deciding.
func (a *Access) errArchived(ctx context.Context, id domain.RequestID) error {
	r, err := a.store.Request(ctx, id)
	switch {
	case err != nil:
		return err
	case r == nil:
		return errUnknown()
	}
	return errClosed(*r, r.At(a.now()))
}

func errVoid() error {
	return fault.New(fault.Conflict, fault.CodeVoid,
		"the request is void: role, target or person changed after it was filed; it has to be filed again", nil)
}

// decided is the request after one more decision. Pure.
func decided(r domain.Request, role *domain.Role, facts domain.Facts, who actor, stage int, d Decision, now time.Time) (domain.Request, error) {
	dec := domain.Decision{By: who.party(), Verdict: d.Verdict, Comment: d.Comment, Digest: r.Digest, Stage: stage}
	if d.TTL != nil {
		dec.TTL = *d.TTL
	}
	next, err := r.Decide(dec, now)
	if err != nil {
		return r, decisionFault(r, err, now)
	}
	entity := who.Entity
	facts.Standings = append(slices.Clone(facts.Standings), domain.Standing{
		Decision: next.Decisions[len(next.Decisions)-1], Now: &entity, Person: who.person, Machine: who.machine,
	})
	o := domain.Evaluate(*role, facts)
	next = next.Considered(*role, o, now)
	switch {
	case o.Denied:
		return next.Apply(domain.Event{Kind: domain.Refused, By: who.party()}, now)
	case o.Met:
		return next.Apply(next.Grant(o, now), now)
	}
	return next, nil
}

// decisionFault says why a decision cannot be taken.
func decisionFault(r domain.Request, err error, now time.Time) error {
	switch {
	case errors.Is(err, domain.ErrAlreadyDecided):
		return fault.New(fault.Conflict, fault.CodeAlreadyDecided, "you have already decided on this request", nil)
	case errors.Is(err, domain.ErrOwnRequest):
		return fault.New(fault.Denied, fault.CodeNotApprover, "access denied: nobody decides on their own request", nil)
	case errors.Is(err, domain.ErrNotPending):
		return errClosed(r, r.At(now))
	}
	return err
}

// stageFor is the stage at which a decision counts. An approval needs rules that
// let the request through, and a threshold that is open to its author.
func stageFor(who actor, role *domain.Role, facts domain.Facts, r domain.Request, d Decision) (int, error) {
	o := domain.Evaluate(*role, facts)
	stages := role.Staged()
	if len(stages) == 0 {
		return 0, nil
	}
	stage := min(o.Stage, len(stages)-1)
	switch {
	case o.Stage < len(stages) && len(o.Open) > 0 && !role.CanDecide(o, who.Entity).OK:
		return 0, fault.Newf(fault.Denied, fault.CodeNotApprover,
			"access denied: request %s waits for others now: %s", r.ID, o.WaitingFor()).With("request_id", string(r.ID))
	case d.Verdict == domain.Deny:
	case o.Blocked:
		return 0, errPolicy(role, o)
	case stages[stage].RequireComment && d.Comment == "":
		var p fault.Problems
		p.Add("comment", "is required by the role at this stage")
		return 0, p.Err()
	case len(o.Open) == 0 && o.Stage < len(stages):
		return 0, fault.Newf(fault.Denied, fault.CodeNotApprover,
			"access denied: nobody can approve request %s as its role's conditions stand", r.ID).With("request_id", string(r.ID))
	}
	return stage, nil
}

// sealedNow recomputes the digest under the role and target as they are now. The
// revision is that of the very role whose rules the request is judged by: one that
// was read a moment later could be another's.
func (a *Access) sealedNow(ctx context.Context, r *domain.Request, role *domain.Role) (string, error) {
	target, err := a.store.TargetRevision(ctx, r.Target)
	if err != nil {
		return "", err
	}
	if target == "" || role.Target != r.Target {
		return "", nil
	}
	return a.digest(*r, a.store.RevisionOf(role), target, r.Principal), nil
}

// Cancel withdraws a request, or gives an active grant back. Doing it twice
// changes nothing.
func (a *Access) Cancel(ctx context.Context, c Caller, id domain.RequestID) (RequestView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return RequestView{}, err
	}
	var out *domain.Request
	err = a.store.WithRequest(id, func(tx *store.RequestTx) error {
		r, err := a.load(ctx, tx, id, nil)
		if err != nil {
			return err
		}
		if r == nil {
			if r, err = a.store.Request(ctx, id); err != nil {
				return err
			}
		}
		if r == nil || r.Requester.Person != who.person {
			return errUnknown()
		}
		out = r
		ev := domain.Event{Kind: domain.Withdrawn, By: who.party()}
		switch r.At(a.now()) {
		case domain.Pending, domain.Scheduled:
		case domain.Active:
			ev.Kind = domain.GivenBack
		case domain.Ended, domain.Denied, domain.Cancelled, domain.Expired, domain.Revoked, domain.Void:
			return nil
		}
		cur, err := a.settleTime(*r)
		if err != nil {
			return err
		}
		next, err := cur.Apply(ev, a.now())
		if err != nil {
			return err
		}
		out = &next
		return a.save(ctx, tx, next, "cancelled")
	})
	if err != nil {
		return RequestView{}, err
	}
	a.reaper.nudge()
	return a.view(ctx, *out, who)
}

// settleTime applies what time alone has brought, so that an event meets the
// state that everybody sees.
func (a *Access) settleTime(r domain.Request) (domain.Request, error) {
	now := a.now()
	for {
		ev, due := r.Due(now)
		if !due {
			return r, nil
		}
		next, err := r.Apply(domain.Event{Kind: ev}, now)
		if err != nil {
			return r, err
		}
		r = next
	}
}
