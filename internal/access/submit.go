package access

import (
	"context"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Submitted is a filed request.
type Submitted struct {
	View     RequestView
	Existing bool // the same ask was open already
}

// Submit files a request, or finds the same ask that is open already.
func (a *Access) Submit(ctx context.Context, c Caller, roleName string, ask Ask) (Submitted, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return Submitted{}, err
	}
	role, err := a.eligibleRole(ctx, who, roleName)
	if err != nil {
		return Submitted{}, err
	}
	if err := a.stepUp(ctx, who, role); err != nil {
		return Submitted{}, err
	}
	r, existing, err := a.file(ctx, who, role, ask, filing{})
	if err != nil {
		return Submitted{}, err
	}
	v, err := a.view(ctx, *r, who)
	return Submitted{View: v, Existing: existing}, err
}

// filing says how a request came about.
type filing struct {
	byRead bool // a read of creds files it (auto_request)
	fresh  bool // never join an open one (auto-approved reads)
	auto   bool // only if the role approves it by itself; else nothing is filed
}

// file writes a new request, or returns the same ask that is open.
func (a *Access) file(ctx context.Context, who actor, role *domain.Role, ask Ask, how filing) (*domain.Request, bool, error) {
	target, err := a.store.Target(ctx, role.Target)
	if err != nil {
		return nil, false, err
	}
	r, err := a.draft(ctx, who, role, target, ask)
	if err != nil {
		return nil, false, err
	}
	r, o, err := a.admitted(ctx, who, role, r)
	if err != nil || how.auto && !o.Met {
		return nil, false, err
	}
	if err := a.unbarred(ctx, who, r); err != nil {
		return nil, false, err
	}
	var out *domain.Request
	existing := false
	err = a.store.WithPerson(who.person, func(tx *store.PersonTx) error {
		rec, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		open, kept, err := a.openOf(ctx, rec, role.Name)
		if err != nil {
			return err
		}
		if open, err = a.stillMeant(ctx, open, r); err != nil {
			return err
		}
		if same := slices.IndexFunc(open, func(o domain.Request) bool { return sameAsk(o, r, ask) }); same >= 0 && !how.fresh {
			out, existing = &open[same], true
			return nil
		}
		if err := a.room(ctx, who, role, o, kept, open); err != nil {
			return err
		}
		return a.writeNew(ctx, tx, kept, r, role, o, how, &out)
	})
	if err == nil && !existing {
		err = a.stillFree(ctx, *out)
	}
	return out, existing, err
}

// admitted judges a new request by the role's rules and hours. Its outcome is
// met when the role approves by itself.
func (a *Access) admitted(ctx context.Context, who actor, role *domain.Role, r domain.Request) (domain.Request, domain.Outcome, error) {
	observe := observed(role, r, a.now())
	if err := openWithin(role, r, a.now()); err != nil && !observe {
		return r, domain.Outcome{}, err
	}
	f, err := a.factsFor(ctx, role, &r, nil, a.calling(who))
	if err != nil {
		return r, domain.Outcome{}, err
	}
	o := domain.Evaluate(*role, f)
	switch {
	case observe:
		r, o = r.Observe(o)
	case o.Blocked:
		return r, o, errPolicy(role, o)
	}
	return r, o, nil
}

// observed tells whether a request passes because its role's policy is only
// observed. Elevating somebody's own principal never is.
func observed(role *domain.Role, r domain.Request, now time.Time) bool {
	return role.Observing(now) && r.Principal == ""
}

// openWithin refuses what could never be used: the role is closed for all of
// the window that is asked.
func openWithin(role *domain.Role, r domain.Request, from time.Time) error {
	if !r.StartTime.IsZero() {
		from = r.StartTime
	}
	h := role.HoursAt(from)
	if h.Open || r.FirstRead && !h.Change.IsZero() {
		return nil
	}
	if h.Change.IsZero() || !h.Change.Before(from.Add(r.TTL.Duration())) {
		return errHours(role, h)
	}
	return nil
}

// stillFree looks for holds once more now that a request is on record: a kill
// switch that was pulled meanwhile either has found it there, or has left its
// hold here.
func (a *Access) stillFree(ctx context.Context, r domain.Request) error {
	held := a.free(ctx, scopeOf(r))
	if held == nil {
		return nil
	}
	if err := a.endRequest(ctx, r.ID, domain.Party{}, "held while it was filed"); err != nil {
		return err
	}
	return held
}

// writeNew writes the person's record, then the request: a crash in between
// leaves an entry that names nothing, which counts for nothing.
func (a *Access) writeNew(ctx context.Context, tx *store.PersonTx, rec domain.PersonRecord, r domain.Request, role *domain.Role, o domain.Outcome, how filing, out **domain.Request) error {
	if err := a.enter(ctx, r.ID); err != nil {
		return err
	}
	defer a.index.leave(r.ID)
	now := a.now()
	r = domain.File(r, role.RequestTTL, now).Considered(*role, o, now)
	if o.Met {
		r.Auto = true
		next, err := r.Apply(r.Grant(o, now), now)
		if err != nil {
			return err
		}
		r = next
	}
	rec.Entries = append(rec.Entries, domain.PersonEntry{
		ID: r.ID, Role: r.Role, Params: domain.ParamsHash(r.Params), At: now, Auto: how.byRead, NoBar: r.Auto, Until: latestEnd(r),
	})
	a.step("before put person")
	if err := tx.Put(ctx, rec); err != nil {
		return err
	}
	a.step("after put person")
	err := a.store.WithRequest(r.ID, func(tx *store.RequestTx) error { return a.save(ctx, tx, r, "request filed") })
	*out = &r
	return err
}

// latestEnd is when the window of a request ends at the latest, as far as that
// is known when it is filed; zero = it is not.
func latestEnd(r domain.Request) time.Time {
	if r.State == domain.Scheduled && r.FirstRead {
		return r.ExpiresAt.Add(r.Granted.Duration())
	}
	return r.WindowEnd
}

// draft checks everything that was asked, at once, and seals the digest.
func (a *Access) draft(ctx context.Context, who actor, role *domain.Role, target *domain.Target, ask Ask) (domain.Request, error) {
	var p fault.Problems
	kind, ttl, series, err := a.checkWhat(&p, role, target, &ask)
	if err != nil {
		return domain.Request{}, err
	}
	if target == nil {
		p.Add("role", "its target does not exist")
	} else if err := a.checkValues(&p, role, target, ask.Params); err != nil {
		return domain.Request{}, err
	}
	if err := p.Err(); err != nil {
		return domain.Request{}, err
	}
	if err := a.runsTaken(ctx, role, &domain.Request{Params: ask.Params, Series: series}); err != nil {
		return domain.Request{}, err
	}
	principal, err := a.principal(ctx, who, role)
	if err != nil {
		return domain.Request{}, err
	}
	id, err := a.newID()
	if err != nil {
		return domain.Request{}, err
	}
	r := domain.Request{
		ID: domain.RequestID(id), Kind: kind, Series: series, Role: role.Name, RoleRevision: role.Revision(),
		Target: target.Name, TargetRevision: target.Revision(), Requester: who.party(),
		Justification: ask.Justification, Ticket: ask.Ticket, Params: ask.Params, Principal: principal,
		TTL: ttl, StartTime: ask.Start, FirstRead: role.Start == domain.StartFirstRead, ClaimWithin: role.ClaimWithin,
	}
	r.Digest = a.digest(r, role.Revision(), target.Revision(), principal)
	return r, nil
}

// checkWhat validates what is asked: one grant, or a series of runs.
func (a *Access) checkWhat(p *fault.Problems, role *domain.Role, target *domain.Target, ask *Ask) (kind string, ttl domain.Seconds, series *domain.Series, err error) {
	if ask.Series == nil {
		return domain.KindNormal, checkAsk(p, role, ask, a.now()), nil, nil
	}
	series, ttl, err = a.checkSeries(p, role, target, ask)
	plain := *ask
	plain.TTL, plain.Params = nil, series.First()
	checkAsk(p, role, &plain, a.now())
	ask.Params = nil
	return domain.KindSeries, ttl, series, err
}

// checkValues has the target's type look at the parameters, so that nobody is
// asked to approve what could never be issued.
func (a *Access) checkValues(p *fault.Problems, role *domain.Role, target *domain.Target, params map[string]string) error {
	d, err := a.descriptorOf(target)
	if err != nil || d.CheckParams == nil {
		return err
	}
	for _, problem := range d.CheckParams(fieldsOf(d, role.All()), params).Problems {
		p.Add("params."+problem.Field, problem.Text)
	}
	return nil
}

// stillTaken asks the target whether it would take a request's parameters now.
// No lock is held: it may be a call.
func (a *Access) stillTaken(ctx context.Context, role *domain.Role, params map[string]string) error {
	p, err := a.providers.of(ctx, role.Target)
	if err != nil {
		return err
	}
	checker, ok := p.Provider.(contract.ParamChecker)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, undoBudget)
	defer cancel()
	if err := checker.CheckParams(ctx, fieldsOf(p.descriptor, role.All()), params); err != nil {
		return providerFault(err)
	}
	return nil
}

// digest seals what was asked under the role and target as they are.
func (a *Access) digest(r domain.Request, roleRev, targetRev, principal string) string {
	return a.sealed(r, roleRev, targetRev, principal).Digest()
}

func (a *Access) sealed(r domain.Request, roleRev, targetRev, principal string) domain.Sealed {
	start := ""
	if !r.StartTime.IsZero() {
		start = r.StartTime.UTC().Format(time.RFC3339)
	}
	return domain.Sealed{
		Mount: a.mount, Request: r.ID, Kind: r.Kind, Person: r.Requester.Person, Requester: r.Requester.Entity,
		Role: r.Role, RoleRevision: roleRev, Target: r.Target, TargetRevision: targetRev,
		Principal: principal, Params: r.Params, TTL: r.TTL, Start: start, Series: r.Series,
	}
}

// principal resolves the caller's own principal at the target, for kinds that
// elevate what exists.
func (a *Access) principal(ctx context.Context, who actor, role *domain.Role) (string, error) {
	p, err := a.providers.of(ctx, role.Target)
	if err != nil {
		return "", err
	}
	resolver, ok := p.Provider.(contract.PrincipalResolver)
	if !ok {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, undoBudget)
	defer cancel()
	principal, err := resolver.ResolvePrincipal(ctx, who.Entity, a.fields.of(p.descriptor, role))
	if err != nil {
		return "", providerFault(err)
	}
	return principal, nil
}

// openOf reads a person's open requests for a role and cuts what is old off
// their record. Entries that name nothing are dangling and count for nothing.
func (a *Access) openOf(ctx context.Context, rec domain.PersonRecord, role string) ([]domain.Request, domain.PersonRecord, error) {
	now := a.now()
	kept := domain.PersonRecord{Person: rec.Person, Usage: rec.Usage}
	var open []domain.Request
	last := lastClosed(rec)
	for _, e := range rec.Entries {
		if e.Closed != "" {
			if e.ID == last[e.Role] || e.Auto && now.Sub(e.At) < 24*time.Hour {
				kept.Entries = append(kept.Entries, e)
			}
			continue
		}
		if e.Role != role {
			if !a.index.absent(e.ID) || now.Sub(e.At) <= time.Minute {
				kept.Entries = append(kept.Entries, e)
			}
			continue
		}
		r, err := a.store.OpenRequest(ctx, e.ID)
		if err != nil {
			return nil, kept, err
		}
		if r == nil && now.Sub(e.At) > time.Minute {
			continue // dangling, or archived: the archiving repairs its own entry
		}
		kept.Entries = append(kept.Entries, e)
		if r != nil && r.Open(now) {
			open = append(open, *r)
		}
	}
	return open, kept, nil
}

// lastClosed finds, for each role, the request that was closed last: it decides
// what a read without a grant answers and whether it may ask again.
func lastClosed(rec domain.PersonRecord) map[string]domain.RequestID {
	last := map[string]domain.PersonEntry{}
	for _, e := range rec.Entries {
		if before, ok := last[e.Role]; e.Closed != "" && (!ok || !e.At.Before(before.At)) {
			last[e.Role] = e
		}
	}
	out := make(map[string]domain.RequestID, len(last))
	for role, e := range last {
		out[role] = e.ID
	}
	return out
}

// ordinary counts requests that are no emergencies.
func ordinary(open []domain.Request) int {
	n := 0
	for _, r := range open {
		if !r.BreaksGlass() {
			n++
		}
	}
	return n
}

// room refuses a request beyond the limits of the person or the role.
func (a *Access) room(ctx context.Context, who actor, role *domain.Role, o domain.Outcome, rec domain.PersonRecord, open []domain.Request) error {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return err
	}
	all := 0
	for _, e := range rec.Entries {
		if e.Closed == "" {
			all++
		}
	}
	mine := cfg.PersonMaxOpen
	if who.machine {
		mine = cfg.MachineMaxOpen
	}
	switch {
	case !o.Auto && ordinary(open) >= role.MaxActive:
		return fault.Newf(fault.Conflict, fault.CodeLimit,
			"limit reached: the role allows %d open request(s) for each person; yours is %s: cancel it first: vault delete pim/requests/%s",
			role.MaxActive, open[0].ID, open[0].ID).With("request_id", string(open[0].ID))
	case all >= mine:
		return fault.Newf(fault.Conflict, fault.CodeLimit, "limit reached: you have %d open requests", all)
	}
	return nil
}

// enter refuses a request beyond the limit of the mount, and keeps its place until it
// is written.
func (a *Access) enter(ctx context.Context, id domain.RequestID) error {
	cfg, err := a.store.Config(ctx)
	if err == nil && !a.index.enter(id, cfg.MaxOpen) {
		err = fault.Newf(fault.Conflict, fault.CodeLimit, "limit reached: this mount has %d open requests", cfg.MaxOpen)
	}
	return err
}
