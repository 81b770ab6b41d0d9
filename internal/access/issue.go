package access

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// job is one issue on its way: intend, issue, settle.
type job struct {
	who    actor
	role   *domain.Role
	req    domain.Request // as last read or written
	until  time.Time      // end of what still stands of its window; zero = all of it
	ask    CredsAsk
	p      *opened
	limits contract.Limits
	cred   domain.Credential
	in     contract.Input
	ttl    time.Duration
	nonce  string
	noted  bool // it is on record
	flight *flight
	land   func()
}

// issue yields a credential under a grant: the shared one within the reuse
// window, the one that was being prepared, or a new one.
func (a *Access) issue(ctx context.Context, who actor, role *domain.Role, r *domain.Request, ask CredsAsk) (*Answer, error) {
	if err := a.mayStill(who, role, r); err != nil {
		return nil, err
	}
	until, err := a.verify(ctx, who, role, r)
	if err != nil {
		return nil, err
	}
	if err := a.free(ctx, scopeOf(*r)); err != nil {
		return nil, err
	}
	run, err := runOf(role, r, ask.Params)
	if err != nil {
		return nil, err
	}
	if r.Series != nil {
		ask.Params = run
	}
	if s, ok := a.reuse.get(r.ID, a.now()); ok {
		ans, err := a.share(ctx, role, *r, s, ask)
		if !errors.Is(err, errCrowded) {
			return ans, err
		}
	}
	if ans, done, err := a.prepared(ctx, role, r, ask); done {
		return ans, err
	}
	if err := a.paced(ctx, who); err != nil {
		return nil, err
	}
	return a.issueNew(ctx, who, role, r, until, ask)
}

// issueNew issues a new credential, which ends at until at the latest; zero =
// with the window.
func (a *Access) issueNew(ctx context.Context, who actor, role *domain.Role, r *domain.Request, until time.Time, ask CredsAsk) (*Answer, error) {
	j, err := a.plan(ctx, who, role, r, until, ask)
	if err != nil {
		return nil, err
	}
	if err := a.intend(ctx, j); err != nil {
		if j.noted {
			err = a.undo(ctx, j, err)
		}
		return nil, err
	}
	return a.carryOut(ctx, j)
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
func (a *Access) plan(ctx context.Context, who actor, role *domain.Role, r *domain.Request, until time.Time, ask CredsAsk) (*job, error) {
	if err := a.ready(ctx, role.Target); err != nil {
		return nil, err
	}
	p, err := a.providers.of(ctx, role.Target)
	if err != nil {
		return nil, err
	}
	run, err := runOf(role, r, ask.Params)
	if err != nil {
		return nil, err
	}
	fields := a.fields.of(p.descriptor, role)
	j := &job{who: who, role: role, req: *r, until: until, ask: ask, p: p, limits: p.descriptor.Limits(fields)}
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
		Person: displayName(who.Entity), Ticket: r.Ticket, Principal: r.Principal, Fields: fields, Params: run,
		NotAfter: now.Add(j.ttl), Metadata: maps.Clone(who.Metadata),
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

// intend writes the credential down before anything of it exists. That write
// is the first side effect.
func (a *Access) intend(ctx context.Context, j *job) error {
	return a.store.SharedRole(j.role.Name, func() error {
		return a.store.SharedTarget(j.role.Target, func() error {
			if err := a.unchanged(ctx, j); err != nil {
				return err
			}
			return a.store.WithRequest(j.req.ID, func(tx *store.RequestTx) error { return a.intendLocked(ctx, tx, j) })
		})
	})
}

// unchanged insists, while nobody can change them, that role and target are
// still what the credential was planned with.
func (a *Access) unchanged(ctx context.Context, j *job) error {
	role, err := a.store.RoleRevision(ctx, j.role.Name)
	if err != nil {
		return err
	}
	target, err := a.store.TargetRevision(ctx, j.role.Target)
	if err != nil {
		return err
	}
	t, err := a.store.Target(ctx, j.role.Target)
	if err != nil {
		return err
	}
	if role != j.req.RoleRevision || t == nil || target != j.p.revision {
		return fault.New(fault.Conflict, fault.CodeBusy, "busy: the role or its target is being changed; try again", nil).With("poll_after_seconds", 1)
	}
	if t.MaxLive > 0 && a.index.liveAt(t.Name) >= t.MaxLive {
		return fault.Newf(fault.Conflict, fault.CodeLimit, "limit reached: %d live credentials at this target", t.MaxLive)
	}
	return nil
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
	next, err := a.started(*cur, j.who)
	if err != nil {
		return err
	}
	if live := a.counted(next); live >= j.role.MaxCredentials {
		return fault.Newf(fault.Conflict, fault.CodeLimit, "limit reached: %d live credentials under request %s", live, next.ID).
			With("request_id", string(next.ID))
	}
	if next.Series != nil && next.RunsLeft() == 0 {
		return errSeriesOver(next)
	}
	next = next.Plan(j.cred, now)
	j.flight, j.land = a.flights.issue(j.cred.ID)
	save := func() error {
		err := a.grow(ctx, tx, next, "issue intended")
		if err == nil {
			j.req, j.noted = next, true
		}
		return err
	}
	if err := a.join(ctx, j, save); err != nil {
		j.land()
		return err
	}
	return nil
}

// started brings a request up to now; a first read starts its window.
func (a *Access) started(r domain.Request, who actor) (domain.Request, error) {
	next, err := a.settleTime(r)
	if err != nil || next.State != domain.Scheduled {
		return next, err
	}
	return next.Apply(domain.Event{Kind: domain.Started, By: who.party()}, a.now())
}

// counted is how many credentials count against the limit of a grant. One that
// another process was issuing is abandoned: it is undone and counts for
// nothing.
func (a *Access) counted(r domain.Request) int {
	n := 0
	for i := range r.Credentials {
		c := &r.Credentials[i]
		if c.State.MayExist() && (c.State != domain.CredIssuing || c.Boot == a.boot) {
			n++
		}
	}
	return n
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
	issued, err := a.issueAt(ctx, j, false)
	if err == nil && issued.PollAfter > 0 {
		return a.prepare(ctx, j)
	}
	j.land()
	if err != nil {
		return nil, a.undo(ctx, j, err)
	}
	return a.settle(ctx, j, issued)
}

// issueAt makes what the handle names. No lock is held.
// In the background it goes on until what it made is usable.
func (a *Access) issueAt(ctx context.Context, j *job, background bool) (contract.Issued, error) {
	timeout := j.limits.IssueTimeout
	if timeout <= 0 || (!background && timeout > callBudget) {
		timeout = callBudget
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !j.flight.board(cancel) {
		return contract.Issued{}, errMeanwhile()
	}
	landed := false
	defer func() {
		if !landed { // it broke: nothing is in flight any more, so the credential can be undone
			j.land()
		}
	}()
	issued, err := a.callUntilUsable(ctx, j, background)
	landed = true
	if err != nil && j.flight.wasStopped() {
		a.log.Debug("an issue was called back, since its access ended", "credential", string(j.cred.ID), "error", err)
		return issued, errMeanwhile() // the target has done nothing wrong
	}
	return issued, err
}

// callUntilUsable repeats the call with the same handle, which makes one
// credential, until that is usable.
func (a *Access) callUntilUsable(ctx context.Context, j *job, background bool) (contract.Issued, error) {
	for {
		a.step("before provider issue")
		issued, err := j.p.Issue(ctx, j.in, j.cred.Handle, func(h domain.Handle) error { return a.checkpoint(ctx, j, h) })
		a.step("after provider issue")
		if err == nil && issued.Handle.Provider != "" {
			j.cred.Handle = issued.Handle
		}
		if err != nil || issued.PollAfter <= 0 || !background {
			return issued, err
		}
		select { // it exists, but is not usable yet
		case <-ctx.Done():
			return contract.Issued{}, ctx.Err()
		case <-a.clock.After(issued.PollAfter):
		}
	}
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
		if _, ok := errors.AsType[*domain.MoveError](err); ok {
			return nil // somebody ended it already
		}
		if err != nil {
			return err
		}
		return a.save(ctx, tx, next, "issue failed")
	})
	if err == nil {
		err = a.finish(ctx, j.req.ID, j.cred.ID, "the issue failed", &sight{})
	}
	if err != nil {
		a.log.Warn("undoing a failed issue is left to the reaper", "request", string(j.req.ID), "credential", string(j.cred.ID), "error", err)
		a.reaper.nudge()
	}
	a.log.Warn("issue failed", "request", string(j.req.ID), "credential", string(j.cred.ID), "error", failed)
	return providerFault(failed)
}
