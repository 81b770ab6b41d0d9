package access

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// SimulateAsk is a request that nobody files.
type SimulateAsk struct {
	Ask
	Entity    string    // who would ask
	At        time.Time // zero = now
	Decisions []SupposedDecision
	Change    *RoleEdit // an edit of the role to try; nil = the role as it is
	Against   int       // stored requests of the role to look at; 0 = none
}

// SupposedDecision is what somebody would decide.
type SupposedDecision struct {
	Entity  string
	Verdict domain.Verdict
	TTL     domain.Seconds
}

// Simulated is everything that would be decided.
type Simulated struct {
	Eligible   bool
	Outcome    domain.Outcome
	State      domain.RequestState // that the request would have
	Hours      domain.Hours
	Digest     string
	Revocation domain.Revocation
	Problems   []string // why it could not be filed or issued
	Ignored    []string // supposed decisions that could not be made
	Looked     int      // stored requests that were looked at
	Differ     []Difference
}

// Difference is a stored request that would come out otherwise.
type Difference struct {
	Request domain.RequestID
	Was     string
	Would   string
	Why     string
}

// Simulate works out what a role's policy says of a request, without filing
// one: for any entity, parameters, time and decisions, and for an edit that
// nobody has made. It changes nothing.
func (a *Access) Simulate(ctx context.Context, name string, ask SimulateAsk) (Simulated, error) {
	var out Simulated
	role, err := a.store.Role(ctx, name)
	if err != nil {
		return out, err
	}
	if role == nil {
		return out, errUnknown()
	}
	if ask.Change != nil {
		next, err := a.editedRole(ctx, name, role, *ask.Change)
		if err != nil {
			return out, err
		}
		if _, err := a.checkRole(ctx, next); err != nil {
			return out, err
		}
		role = next
	}
	if ask.Against > 0 {
		if out.Differ, out.Looked, err = a.differences(ctx, role, ask.Against); err != nil {
			return out, err
		}
	}
	if ask.Entity == "" {
		return out, nil
	}
	return out, a.suppose(ctx, role, ask, &out)
}

// suppose fills in what would become of one request.
func (a *Access) suppose(ctx context.Context, role *domain.Role, ask SimulateAsk, out *Simulated) error {
	who, err := a.supposed(ctx, ask.Entity)
	if err != nil {
		return err
	}
	now := ask.At
	if now.IsZero() {
		now = a.now()
	}
	target, err := a.store.Target(ctx, role.Target)
	if err != nil {
		return err
	}
	var p fault.Problems
	ttl := checkAsk(&p, role, &ask.Ask, now)
	if err := p.Err(); err != nil {
		out.Problems = append(out.Problems, publicText(err))
	}
	out.Eligible = role.Eligible(who.Entity, now).OK
	out.Hours, out.Revocation = role.HoursAt(now), a.revocationOf(ctx, role, role.Target)
	r := domain.Request{
		Kind: domain.KindNormal, Role: role.Name, RoleRevision: role.Revision(), Target: role.Target, Requester: who.party(),
		Justification: ask.Justification, Ticket: ask.Ticket, Params: ask.Params, TTL: ttl, StartTime: ask.Start,
		FirstRead: role.Start == domain.StartFirstRead, ClaimWithin: role.ClaimWithin,
	}
	if r.Principal, err = a.principal(ctx, who, role); err != nil {
		out.Problems = append(out.Problems, publicText(err))
	}
	if err := a.stillTaken(ctx, role, ask.Params); err != nil {
		out.Problems = append(out.Problems, publicText(err))
	}
	if target != nil {
		r.TargetRevision = target.Revision()
		r.Digest = a.digest(r, r.RoleRevision, r.TargetRevision, r.Principal)
		out.Digest = r.Digest
	}
	if err := openWithin(role, r, now); err != nil && !observed(role, r, now) {
		out.Problems = append(out.Problems, publicText(err))
	}
	r = domain.File(r, role.RequestTTL, now)
	out.Outcome, out.State, err = a.supposedOutcome(ctx, role, r, who, ask, out)
	return err
}

// supposedOutcome plays the decisions in their order, each at the stage at which
// it would be given.
func (a *Access) supposedOutcome(ctx context.Context, role *domain.Role, r domain.Request, who actor, ask SimulateAsk, out *Simulated) (domain.Outcome, domain.RequestState, error) {
	now := r.Times.Requested
	f, err := a.factsFor(ctx, role, &r, nil, asking{requester: &who.Entity, at: now})
	if err != nil {
		return domain.Outcome{}, "", err
	}
	o := domain.Evaluate(*role, f)
	for _, d := range ask.Decisions {
		by, err := a.supposed(ctx, d.Entity)
		if err != nil {
			return o, "", err
		}
		dec := domain.Decision{By: by.party(), Verdict: d.Verdict, TTL: d.TTL, Digest: r.Digest, Stage: o.Stage}
		next, err := r.Decide(dec, now)
		if err != nil {
			out.Ignored = append(out.Ignored, displayName(by.Entity)+": "+err.Error())
			continue
		}
		who := by.Entity
		f.Standings = append(f.Standings, domain.Standing{Decision: dec, Now: &who, Person: by.person, Machine: by.machine})
		r, o = next, domain.Evaluate(*role, f)
	}
	return o, supposedState(role, r, o, out, now), nil
}

func supposedState(role *domain.Role, r domain.Request, o domain.Outcome, out *Simulated, now time.Time) domain.RequestState {
	switch {
	case !out.Eligible || len(out.Problems) > 0 || o.Blocked:
		return "" // it would not be filed
	case o.Denied:
		return domain.Denied
	case !o.Met:
		return domain.Pending
	case r.Grant(o, now).Kind == domain.Planned, role.Start == domain.StartFirstRead:
		return domain.Scheduled
	}
	return domain.Active
}

// supposed reads an entity as if it called.
func (a *Access) supposed(ctx context.Context, id string) (actor, error) {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return actor{}, err
	}
	e, err := a.directory.Entity(ctx, id, true)
	if err != nil {
		return actor{}, err
	}
	if e == nil {
		return actor{}, fault.New(fault.Invalid, fault.CodeInvalid, "invalid input: an entity_id is not known to the host", nil)
	}
	p, _ := domain.PersonOf(*e, cfg.PersonKey)
	return actor{Entity: *e, person: p, machine: domain.IsMachine(*e, cfg.HumanMounts)}, nil
}

// publicText is what of an error may be shown.
func publicText(err error) string {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Public
	}
	return "it could not be worked out"
}

// differences finds those of a role's last requests that would come out
// otherwise under a role as given, by the decisions that were made and the
// people as they are now.
func (a *Access) differences(ctx context.Context, role *domain.Role, last int) ([]Difference, int, error) {
	ids, err := a.allIDs(ctx)
	if err != nil {
		return nil, 0, err
	}
	ids = ids[max(0, len(ids)-10*MaxPage):]
	slices.Reverse(ids)
	var out []Difference
	looked := 0
	for _, s := range ids {
		if looked == last {
			break
		}
		id, err := domain.ParseRequestID(s)
		if err != nil {
			continue
		}
		r, err := a.store.Request(ctx, id)
		if err != nil {
			return nil, looked, err
		}
		if r == nil || r.Role != role.Name || r.BreaksGlass() {
			continue
		}
		looked++
		d, err := a.difference(ctx, role, *r)
		if err != nil {
			return nil, looked, err
		}
		if d != nil {
			out = append(out, *d)
		}
	}
	return out, looked, nil
}

func (a *Access) difference(ctx context.Context, role *domain.Role, r domain.Request) (*Difference, error) {
	e, err := a.directory.Entity(ctx, r.Requester.Entity, true)
	if err != nil {
		return nil, err
	}
	at := r.Times.Quorum
	if at.IsZero() {
		at = r.Times.Closed
	}
	if at.IsZero() {
		at = a.now()
	}
	f, err := a.factsFor(ctx, role, &r, r.Decisions, asking{requester: e, at: at})
	if err != nil {
		return nil, err
	}
	o := domain.Evaluate(*role, f)
	was, would := "waits", "waits"
	switch {
	case r.Granted > 0:
		was = "approved"
	case r.State == domain.Denied:
		was = "denied"
	}
	why := o.Rules
	switch {
	case e == nil || !role.Eligible(*e, f.Now).OK:
		would, why = "not filed: not eligible", nil
	case o.Blocked:
		would = "not filed: the rules refuse it"
	case o.Denied:
		would = "denied"
	case o.Met:
		would = "approved"
	}
	if was == would {
		return nil, nil //nolint:nilnil // no difference is an ordinary answer
	}
	d := &Difference{Request: r.ID, Was: was, Would: would}
	for _, rule := range why {
		if rule.Status != domain.Met {
			d.Why += rule.Rule + ": " + rule.Reason + "; "
		}
	}
	return d, nil
}
