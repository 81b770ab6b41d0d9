package access

import (
	"context"
	"errors"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// job is one issue on its way: intend, issue, settle.
type job struct {
	who    actor
	role   domain.Role
	req    domain.Request // as last read or written
	ask    CredsAsk
	p      *opened
	limits contract.Limits
	cred   domain.Credential
	in     contract.Input
	ttl    time.Duration
	nonce  string
}

// issue yields a credential under a grant: the shared one within the reuse
// window, the one that was being prepared, or a new one.
func (a *Access) issue(ctx context.Context, who actor, role domain.Role, r domain.Request, ask CredsAsk) (*Answer, error) {
	if err := a.verify(ctx, role, r); err != nil {
		return nil, err
	}
	if err := a.free(ctx, scopeOf(r)); err != nil {
		return nil, err
	}
	if s, ok := a.reuse.get(r.ID, a.now()); ok {
		return a.share(ctx, role, r, s, ask)
	}
	if ans, done, err := a.prepared(ctx, role, r, ask); done {
		return ans, err
	}
	if err := a.paced(ctx, who); err != nil {
		return nil, err
	}
	return a.issueNew(ctx, who, role, r, ask)
}

func (a *Access) issueNew(ctx context.Context, who actor, role domain.Role, r domain.Request, ask CredsAsk) (*Answer, error) {
	j, err := a.plan(ctx, who, role, r, ask)
	if err != nil {
		return nil, err
	}
	if err := a.intend(ctx, j); err != nil {
		return nil, err
	}
	return a.carryOut(ctx, j)
}

// issueFresh files a request of a role that approves by itself and issues
// under it.
func (a *Access) issueFresh(ctx context.Context, who actor, role domain.Role, ask CredsAsk) (*Answer, error) {
	if err := a.ready(ctx, role.Target); err != nil {
		return nil, err
	}
	if err := a.paced(ctx, who); err != nil {
		return nil, err
	}
	r, _, err := a.file(ctx, who, role, ask.Ask, filing{fresh: true})
	if err != nil {
		return nil, err
	}
	if !usable(*r, a.now()) {
		return nil, a.noGrant(role, finding{request: r})
	}
	return a.issueNew(ctx, who, role, *r, ask)
}

// verify re-reads, live, that the grant still stands: the digest under the
// role and target as they are, and the approvers whose decisions are needed.
func (a *Access) verify(ctx context.Context, role domain.Role, r domain.Request) error {
	sealed, err := a.sealedNow(ctx, r, role)
	if err != nil {
		return err
	}
	if sealed != r.Digest {
		return fault.New(fault.Conflict, fault.CodeRoleChanged,
			"no active grant: the role or its target changed since request "+string(r.ID)+" was filed; run: "+requestCommand(role), nil).
			With("request_id", string(r.ID)).With("role", role.Name).With("state", string(r.State)).With("next", requestCommand(role))
	}
	if r.Auto {
		return nil
	}
	standings, err := a.standing(ctx, role, needed(r))
	if err != nil {
		return err
	}
	o := domain.Evaluate(role, r.Requester, r.Requester.Person, standings)
	if !o.Met && len(standings) < len(r.Decisions) {
		// Of those that were enough one no longer counts: ask about them all.
		if standings, err = a.standing(ctx, role, r.Decisions); err != nil {
			return err
		}
		o = domain.Evaluate(role, r.Requester, r.Requester.Person, standings)
	}
	if o.Met {
		return nil
	}
	why := "an approver does not count any more"
	for _, res := range o.Rules {
		if res.Rule == "approval" {
			why = res.Reason
			break
		}
	}
	return fault.New(fault.Denied, fault.CodeNotApprover, "access denied: the approvals of request "+string(r.ID)+" no longer suffice: "+why, nil).
		With("request_id", string(r.ID)).With("role", role.Name).
		With("approvals", map[string]any{"have": o.Have, "need": o.Need})
}

// needed are the decisions that made the quorum: those until it was met.
func needed(r domain.Request) []domain.Decision {
	for i, d := range r.Decisions {
		if d.At.After(r.Times.Quorum) {
			return r.Decisions[:i]
		}
	}
	return r.Decisions
}

// ready refuses to issue at a target where a restore is being cleaned up. A
// process that has not read that state yet knows nothing, so it waits for it.
func (a *Access) ready(ctx context.Context, target string) error {
	if a.reaper.unswept.Load() == nil {
		st, err := a.store.State(ctx)
		if err != nil {
			return err
		}
		a.reaper.setUnswept(st.Unswept)
	}
	if !a.reaper.unsweptTargets()[target] {
		return nil
	}
	return fault.New(fault.Conflict, fault.CodeEpoch,
		"issuing at this target is stopped until everything from before rotate-epoch has ended; see pim/config", nil).
		With("poll_after_seconds", 10)
}

func (a *Access) paced(ctx context.Context, who actor) error {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return err
	}
	n := cfg.IssueRate
	if who.machine {
		n = cfg.MachineIssueRate
	}
	if !a.rates.allow(who.person, n, a.now()) {
		return fault.Newf(fault.Conflict, fault.CodeRate, "limit reached: %d credentials a minute", n).With("poll_after_seconds", 60)
	}
	return nil
}

// plan works out, without any lock, everything the credential will be.
func (a *Access) plan(ctx context.Context, who actor, role domain.Role, r domain.Request, ask CredsAsk) (*job, error) {
	if err := a.ready(ctx, role.Target); err != nil {
		return nil, err
	}
	p, err := a.providers.of(ctx, role.Target)
	if err != nil {
		return nil, err
	}
	fields := fieldsOf(p.descriptor, role.Fields)
	j := &job{who: who, role: role, req: r, ask: ask, p: p, limits: p.descriptor.Limits(fields)}
	if principal, err := a.principal(ctx, who, role); err != nil {
		return nil, err
	} else if principal != r.Principal {
		return nil, fault.New(fault.Conflict, fault.CodeRoleChanged, "no active grant: your principal at the target is another one than was approved; run: "+requestCommand(role), nil)
	}
	if err := j.life(a.now(), a.host.MaxLeaseTTL()); err != nil {
		return nil, err
	}
	id, err := a.newID()
	if err != nil {
		return nil, err
	}
	if j.nonce, err = a.newID(); err != nil {
		return nil, err
	}
	now := a.now()
	j.in = contract.Input{
		Credential: domain.CredentialID(id), Request: r.ID, Role: role.Name, EntityID: who.ID,
		Person: displayName(who.Entity), Ticket: r.Ticket, Principal: r.Principal, Fields: fields, Params: r.Params,
		NotAfter: now.Add(j.ttl),
	}
	h, err := p.Plan(ctx, j.in)
	if err != nil {
		return nil, providerFault(err)
	}
	h.Place = p.target.Place
	if _, err := h.Encode(); err != nil {
		return nil, err
	}
	j.cred = domain.Credential{
		ID: j.in.Credential, Handle: h, Boot: a.boot, Call: who.call, Expires: j.in.NotAfter, Until: j.in.NotAfter,
		Due: now.Add(max(j.limits.IssueTimeout, callBudget) + secondLook), Nonces: []domain.Nonce{{ID: j.nonce, Until: j.in.NotAfter}},
	}
	return j, nil
}

// life resolves the lease: whole seconds, never beyond the window.
func (j *job) life(now time.Time, mountMax time.Duration) error {
	left := j.req.WindowEnd.Sub(now)
	if j.req.State == domain.Scheduled && j.req.FirstRead {
		left = j.req.Granted.Duration()
	}
	ttl, ok := domain.ResolveLease(j.role, left, j.limits.MinTTL, j.limits.MaxTTL, mountMax)
	if !ok {
		return fault.Newf(fault.Conflict, fault.CodeWindowEnding,
			"no active grant: the access window of request %s is ending; run: %s", j.req.ID, requestCommand(j.role)).
			With("request_id", string(j.req.ID)).With("role", j.role.Name).With("state", string(j.req.State)).
			With("expires_at", stamp(j.req.WindowEnd)).With("next", requestCommand(j.role))
	}
	j.ttl = ttl
	return nil
}

// intend writes the credential down before anything of it exists. That write
// is the first side effect.
func (a *Access) intend(ctx context.Context, j *job) error {
	return a.store.SharedTarget(j.role.Target, func() error {
		t, err := a.store.Target(ctx, j.role.Target)
		if err != nil {
			return err
		}
		if t == nil || t.Revision() != j.p.target.Revision() {
			return fault.New(fault.Conflict, fault.CodeBusy, "busy: the target is being changed; try again", nil).With("poll_after_seconds", 1)
		}
		if t.MaxLive > 0 && a.index.liveAt(t.Name) >= t.MaxLive {
			return fault.Newf(fault.Conflict, fault.CodeLimit, "limit reached: %d live credentials at this target", t.MaxLive)
		}
		return a.store.WithRequest(j.req.ID, func(tx *store.RequestTx) error { return a.intendLocked(ctx, tx, j) })
	})
}

func (a *Access) intendLocked(ctx context.Context, tx *store.RequestTx, j *job) error {
	cur, err := a.load(ctx, tx, j.req.ID, &j.req)
	if err != nil {
		return err
	}
	now := a.now()
	if cur == nil || !usable(*cur, now) || cur.Digest != j.req.Digest || len(cur.Decisions) != len(j.req.Decisions) {
		return errMeanwhile()
	}
	if err := a.free(ctx, scopeOf(*cur)); err != nil {
		return err
	}
	next, err := a.settleTime(*cur)
	if err != nil {
		return err
	}
	if next.State == domain.Scheduled {
		if next, err = next.Apply(domain.Event{Kind: domain.Started, By: j.who.party()}, now); err != nil {
			return err
		}
	}
	live := 0
	for _, c := range next.Credentials {
		// One of another process is abandoned: it is undone and counts for
		// nothing.
		if c.State.MayExist() && (c.State != domain.CredIssuing || c.Boot == a.boot) {
			live++
		}
	}
	if live >= j.role.MaxCredentials {
		return fault.Newf(fault.Conflict, fault.CodeLimit, "limit reached: %d live credentials under request %s", live, next.ID).
			With("request_id", string(next.ID))
	}
	if err := a.claim(ctx, j.cred.Handle); err != nil {
		return err
	}
	next = next.Plan(j.cred, now)
	if err := a.save(ctx, tx, next, "issue intended"); err != nil {
		return err
	}
	j.req = next
	return nil
}

func errMeanwhile() error {
	return fault.New(fault.Conflict, fault.CodeNotActive, "no active grant: the request changed at this moment; read it again", nil).
		With("poll_after_seconds", 1)
}

// carryOut calls the target and settles, within this call where it can.
func (a *Access) carryOut(ctx context.Context, j *job) (*Answer, error) {
	if j.limits.Slow {
		return a.prepare(ctx, j)
	}
	issued, err := a.issueAt(ctx, j)
	if err != nil {
		return nil, a.undo(ctx, j, err)
	}
	return a.settle(ctx, j, issued, true)
}

// issueAt makes what the handle names. No lock is held.
func (a *Access) issueAt(ctx context.Context, j *job) (contract.Issued, error) {
	timeout := j.limits.IssueTimeout
	if timeout <= 0 || (!j.limits.Slow && timeout > callBudget) {
		timeout = callBudget
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	land := a.flights.issue(j.cred.ID, cancel)
	defer land()
	a.step("before provider issue")
	issued, err := j.p.Issue(ctx, j.in, j.cred.Handle, func(h domain.Handle) error { return a.checkpoint(ctx, j, h) })
	a.step("after provider issue")
	if err == nil && issued.Handle.Provider != "" {
		j.cred.Handle = issued.Handle
	}
	return issued, err
}

// checkpoint writes down a name that was learnt on the way, before it is used
// for anything.
func (a *Access) checkpoint(ctx context.Context, j *job, h domain.Handle) error {
	h.Place, h.Credential, h.Target, h.Shared = j.cred.Handle.Place, j.cred.ID, j.cred.Handle.Target, j.cred.Handle.Shared
	if _, err := h.Encode(); err != nil {
		return err
	}
	return a.store.WithRequest(j.req.ID, func(tx *store.RequestTx) error {
		cur, err := a.load(ctx, tx, j.req.ID, &j.req)
		if err != nil {
			return err
		}
		if cur == nil {
			return errMeanwhile()
		}
		next, err := cur.Edit(j.cred.ID, func(c *domain.Credential) { c.Handle = h })
		if err != nil {
			return err
		}
		if err := a.save(ctx, tx, next, "checkpoint"); err != nil {
			return err
		}
		j.req, j.cred.Handle = next, h
		if c, _ := next.Credential(j.cred.ID); c.State != domain.CredIssuing {
			return errMeanwhile() // it is being ended already: make nothing more
		}
		return nil
	})
}

// undo ends what a failed issue may have left, and answers with its error.
func (a *Access) undo(ctx context.Context, j *job, failed error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoBudget)
	defer cancel()
	err := a.store.WithRequest(j.req.ID, func(tx *store.RequestTx) error {
		cur, err := a.load(ctx, tx, j.req.ID, &j.req)
		if err != nil || cur == nil {
			return err
		}
		next, err := cur.ApplyCredential(j.cred.ID, domain.CredFailed, "the issue failed", a.now())
		var move *domain.MoveError
		if errors.As(err, &move) {
			return nil // somebody ended it already
		}
		if err != nil {
			return err
		}
		return a.save(ctx, tx, next, "issue failed")
	})
	if err == nil {
		err = a.finish(ctx, j.req.ID, j.cred.ID, "the issue failed")
	}
	if err != nil {
		a.log.Warn("undoing a failed issue is left to the reaper", "request", string(j.req.ID), "credential", string(j.cred.ID), "code", codeOf(err))
		a.reaper.nudge()
	}
	a.log.Warn("issue failed", "request", string(j.req.ID), "credential", string(j.cred.ID), "code", codeOf(failed))
	return providerFault(failed)
}

// settle re-reads request and holds under the lock. If the access ended
// meanwhile, the credential is undone and never answered.
func (a *Access) settle(ctx context.Context, j *job, issued contract.Issued, first bool) (*Answer, error) {
	ended := false
	err := a.store.WithRequest(j.req.ID, func(tx *store.RequestTx) error {
		cur, err := a.load(ctx, tx, j.req.ID, &j.req)
		if err != nil {
			return err
		}
		if cur == nil {
			return errMeanwhile()
		}
		now := a.now()
		c, _ := cur.Credential(j.cred.ID)
		held := a.free(ctx, scopeOf(*cur))
		var next domain.Request
		if cur.At(now) != domain.Active || c.State != domain.CredIssuing || held != nil {
			ended = true
			if c.State != domain.CredIssuing {
				return nil
			}
			next, err = cur.ApplyCredential(j.cred.ID, domain.CredFailed, "the access ended while it was issued", now)
		} else {
			next, err = settled(*cur, j, issued, now)
		}
		if err != nil {
			return err
		}
		if err := a.save(ctx, tx, next, "issue settled"); err != nil {
			return err
		}
		j.req = next
		return nil
	})
	switch {
	case err != nil:
		return nil, a.undo(ctx, j, err)
	case ended:
		return nil, a.undo(ctx, j, errMeanwhile())
	}
	if j.role.ReuseWindow > 0 && first {
		until := a.now().Add(j.role.ReuseWindow.Duration())
		a.reuse.keep(j.req.ID, shared{credential: j.cred.ID, issued: issued, until: earlier(until, j.cred.Expires)})
	}
	return a.answer(j.role, j.req, j.cred, j.nonce, issued, j.ttl, j.ask.Compose, false), nil
}

func settled(r domain.Request, j *job, issued contract.Issued, now time.Time) (domain.Request, error) {
	next, err := r.ApplyCredential(j.cred.ID, domain.CredIssued, "", now)
	if err != nil {
		return r, err
	}
	if !issued.NotAfter.IsZero() && issued.NotAfter.Before(j.cred.Expires) {
		j.cred.Expires = issued.NotAfter
		j.ttl = min(j.ttl, issued.NotAfter.Sub(now)).Truncate(time.Second)
	}
	return next.Edit(j.cred.ID, func(c *domain.Credential) {
		c.Handle, c.Expires = j.cred.Handle, j.cred.Expires
		c.Nonces = []domain.Nonce{{ID: j.nonce, Until: j.cred.Expires}}
	})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// share answers with a credential that another read already got, under a lease
// of its own.
func (a *Access) share(ctx context.Context, role domain.Role, r domain.Request, s shared, ask CredsAsk) (*Answer, error) {
	nonce, err := a.newID()
	if err != nil {
		return nil, err
	}
	var cred domain.Credential
	err = a.store.WithRequest(r.ID, func(tx *store.RequestTx) error {
		cur, err := a.load(ctx, tx, r.ID, &r)
		if err != nil {
			return err
		}
		if cur == nil || cur.At(a.now()) != domain.Active {
			return errMeanwhile()
		}
		c, ok := cur.Credential(s.credential)
		if !ok || c.State != domain.CredActive {
			return errMeanwhile()
		}
		next, err := cur.Edit(c.ID, func(c *domain.Credential) {
			c.Nonces = append(append([]domain.Nonce(nil), c.Nonces...), domain.Nonce{ID: nonce, Until: c.Expires})
		})
		if err != nil {
			return err
		}
		r, cred = next, c
		return a.save(ctx, tx, next, "shared")
	})
	if err != nil {
		return nil, err
	}
	ttl := cred.Expires.Sub(a.now()).Truncate(time.Second)
	if ttl < time.Second {
		return nil, errMeanwhile()
	}
	return a.answer(role, r, cred, nonce, s.issued, ttl, ask.Compose, true), nil
}

// answer puts the credential and our own fields together.
func (a *Access) answer(role domain.Role, r domain.Request, c domain.Credential, nonce string, issued contract.Issued, ttl time.Duration, compose, sharedRead bool) *Answer {
	data := map[string]any{}
	for k, v := range issued.Data.Reveal() {
		if k != "data" && k != "metadata" { // clients take these two for something else
			data[k] = v
		}
	}
	if compose || role.Composite {
		for k, v := range issued.Composite {
			data[k] = v.Reveal()
		}
	}
	data["pim_request_id"] = string(r.ID)
	data["pim_credential_id"] = string(c.ID)
	data["pim_expires_at"] = stamp(c.Expires)
	data["pim_window_ends_at"] = stamp(r.WindowEnd)
	data["pim_history_head"] = r.History.Head
	data["pim_shared"] = sharedRead
	for k, v := range revocationFields(a.revocationOf(role, r.Target)) {
		data[k] = v
	}
	return &Answer{
		Data: data, TTL: ttl, WrapTTL: role.WrapTTL.Duration(),
		Lease: LeaseData{Request: r.ID, Credential: c.ID, Nonce: nonce, Handle: c.Handle},
	}
}
