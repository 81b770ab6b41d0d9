package access

import (
	"context"
	"reflect"
	"slices"
	"sort"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// CredsAsk is a read of creds/:role.
type CredsAsk struct {
	Ask
	RequestID string
	Compose   bool // single-line composites too
}

// Answer is a credential with its lease.
type Answer struct {
	Data    map[string]any
	Lease   LeaseData
	TTL     time.Duration // whole seconds; the lease is not renewable
	WrapTTL time.Duration // the role forces wrapping; 0 = it does not
}

// Creds yields a credential under the caller's grant, or says what is missing.
// It never piles up requests or credentials, however often it is called.
func (a *Access) Creds(ctx context.Context, c Caller, roleName string, ask CredsAsk) (*Answer, error) {
	who, err := a.reader(ctx, c, roleName, ask)
	if err != nil {
		return nil, err
	}
	role, err := a.readableRole(ctx, who, roleName)
	if err != nil {
		return nil, err
	}
	if err := a.stepUp(ctx, who, role); err != nil {
		return nil, err
	}
	if err := checkRead(role, &ask); err != nil {
		return nil, err
	}
	found, err := a.find(ctx, who, role, ask)
	if err != nil {
		return nil, err
	}
	if role.AutoApprove && ask.RequestID == "" && !a.outlasts(found, role) {
		return a.issueFresh(ctx, who, role, ask)
	}
	if found.grant != nil {
		return a.issue(ctx, who, role, found.grant, ask)
	}
	return a.withoutGrant(ctx, who, role, found, ask)
}

// reader is the caller of a read, for whom what they most likely need is asked
// for ahead. Without a person key that is known before the caller is.
func (a *Access) reader(ctx context.Context, c Caller, roleName string, ask CredsAsk) (actor, error) {
	ahead := a.early(roleName, ask)
	if cfg, err := a.store.Config(ctx); err == nil {
		if p, ok := domain.PersonOf(domain.Entity{ID: c.EntityID}, cfg.PersonKey); ok {
			ahead.expect(ctx, p)
		}
	}
	who, err := a.actor(ctx, c)
	if err != nil {
		return actor{}, err
	}
	ahead.expect(ctx, who.person)
	ahead.arrive()
	who.early = ahead
	return who, nil
}

// withoutGrant is a read of somebody who has no grant: their read may be the
// request, where the role says so.
func (a *Access) withoutGrant(ctx context.Context, who actor, role *domain.Role, found finding, ask CredsAsk) (*Answer, error) {
	if r, err := a.fileByRule(ctx, who, role, found, ask); err != nil {
		return nil, err
	} else if r != nil {
		return a.issueFiled(ctx, who, role, r, ask)
	}
	if found.request == nil && role.AutoRequest && ask.RequestID == "" && found.mayAsk(role, a.now()) {
		r, _, err := a.file(ctx, who, role, ask.Ask, filing{byRead: true})
		if err != nil {
			return nil, err
		}
		found.request = r
	}
	return nil, a.noGrant(role, found)
}

// checkRead validates what a read says. At a role that approves by itself a
// read is a request: it must name its parameters, and gets no grant that has
// others.
func checkRead(role *domain.Role, ask *CredsAsk) error {
	if err := checkSaid(ask.Ask); err != nil {
		return err
	}
	if !role.AutoApprove || ask.RequestID != "" {
		return nil
	}
	var p fault.Problems
	ask.Params = checkParams(&p, role, ask.Params)
	return p.Err()
}

// checkSaid refuses texts that could never be part of a request, even where a
// grant makes them needless.
func checkSaid(ask Ask) error {
	var p fault.Problems
	checkFree(&p, "justification", ask.Justification, domain.MaxJustification, false, "")
	checkFree(&p, "ticket", ask.Ticket, domain.MaxTicket, false, "")
	return p.Err()
}

// outlasts tells whether a grant of a role that approves by itself may take
// another issue: it has a full lease left, or it still shares its credential.
// One with less takes none, so that no job inherits another's last minute.
func (a *Access) outlasts(f finding, role *domain.Role) bool {
	switch {
	case f.grant == nil:
		return false
	case f.grant.State == domain.Scheduled, a.keeps(f.grant.ID):
		return true
	}
	return f.grant.WindowEnd.Sub(a.now()) >= fullLease(role)
}

// keeps tells whether memory holds a credential of the request for its next
// reader: a shared one, or one that is being prepared.
func (a *Access) keeps(id domain.RequestID) bool {
	return a.reuse.has(id) || a.preparing.get(id) != nil
}

// fullLease is the lease that a role's credentials have by default.
func fullLease(role *domain.Role) time.Duration {
	if role.LeaseTTL > 0 {
		return role.LeaseTTL.Duration()
	}
	return role.TTL.Duration()
}

// finding is what a person has for a role.
type finding struct {
	grant   *domain.Request     // usable now
	request *domain.Request     // the newest other one that is open
	last    *domain.PersonEntry // the newest closed one
	asked   int                 // requests filed by reads in the last 24 h
	perDay  int
	cool    time.Duration
}

// find reads the person's record and their open requests for the role. One read
// is enough where they name their grant, or have but one.
func (a *Access) find(ctx context.Context, who actor, role *domain.Role, ask CredsAsk) (finding, error) {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return finding{}, err
	}
	if ask.RequestID != "" {
		f, err := a.findByID(ctx, who, role, ask)
		f.cool = cfg.AutoRequestCooldown.Duration()
		return f, err
	}
	if g, err := a.onlyGrant(ctx, who, role, ask); g != nil || err != nil {
		return finding{grant: g}, err
	}
	rec, err := a.store.Person(ctx, who.person)
	if err != nil {
		return finding{}, err
	}
	f := finding{cool: cfg.AutoRequestCooldown.Duration(), perDay: cfg.AutoRequestPerDay}
	var grants []domain.Request
	now := a.now()
	for _, e := range rec.Entries {
		if e.Role != role.Name {
			continue
		}
		f.count(e, now)
		if !a.worthReading(e, role, ask, now) {
			continue
		}
		r, err := a.openOrArchived(ctx, e.ID)
		if err != nil {
			return f, err
		}
		if r != nil && !f.take(*r, now) {
			grants = append(grants, *r)
		}
	}
	f.grant, err = choose(grants, ask.Params, role.AutoApprove)
	return f, err
}

// onlyGrant is the grant of somebody who has no other one for the role, as far as
// memory knows: what it is, its record says. nil = their own record has to say
// more.
func (a *Access) onlyGrant(ctx context.Context, who actor, role *domain.Role, ask CredsAsk) (*domain.Request, error) {
	if role.AutoApprove {
		return nil, nil //nolint:nilnil // what else a read may mean, only the record of the person tells
	}
	id, ok := a.index.only(who.person, role.Name)
	if !ok {
		return nil, nil //nolint:nilnil // as above
	}
	r, err := who.early.open(ctx, id)
	if err != nil || r == nil || !theirs(r, who, role) || !usable(*r, a.now()) || !hasParams(*r, ask.Params) {
		return nil, err
	}
	return r, nil
}

// theirs tells whether a request is the caller's, for the role.
func theirs(r *domain.Request, who actor, role *domain.Role) bool {
	return r.Requester.Person == who.person && r.Role == role.Name
}

// worthReading tells whether a request may yield something, by its entry alone.
func (a *Access) worthReading(e domain.PersonEntry, role *domain.Role, ask CredsAsk, now time.Time) bool {
	switch {
	case e.Closed != "":
		return false
	case role.AutoApprove && e.NoBar && e.Until.Sub(now) < fullLease(role) && !a.keeps(e.ID):
		return false // it would take no new issue
	case role.AutoApprove && e.Params != domain.ParamsHash(ask.Params):
		return false // another run's
	}
	return true
}

// openOrArchived reads a request in one read when it is open. It may have been
// archived since the person's record was read, or never written.
func (a *Access) openOrArchived(ctx context.Context, id domain.RequestID) (*domain.Request, error) {
	r, err := a.store.OpenRequest(ctx, id)
	if err != nil || r != nil {
		return r, err
	}
	return a.store.Request(ctx, id)
}

// count takes note of an entry without reading its request.
func (f *finding) count(e domain.PersonEntry, now time.Time) {
	if e.Auto && now.Sub(e.At) < 24*time.Hour {
		f.asked++
	}
	if e.Closed != "" {
		f.close(e)
	}
}

// close keeps the request that was closed last.
func (f *finding) close(e domain.PersonEntry) {
	if f.last == nil || !e.At.Before(f.last.At) {
		f.last = &e
	}
}

// take takes note of a request that gives no credential now; false = it does.
func (f *finding) take(r domain.Request, now time.Time) bool {
	switch seen := r.At(now); {
	case usable(r, now):
		return false
	case seen.Terminal():
		f.close(domain.PersonEntry{ID: r.ID, Role: r.Role, Closed: seen, At: closedAt(r, now)})
	default:
		f.request = &r
	}
	return true
}

func closedAt(r domain.Request, now time.Time) time.Time {
	if r.Times.Closed.IsZero() {
		return now
	}
	return r.Times.Closed
}

// usable tells whether a credential can be had under a request now.
func usable(r domain.Request, now time.Time) bool {
	seen := r.At(now)
	return seen == domain.Active || seen == domain.Scheduled && r.FirstRead
}

func (a *Access) findByID(ctx context.Context, who actor, role *domain.Role, ask CredsAsk) (finding, error) {
	rid, err := domain.ParseRequestID(ask.RequestID)
	if err != nil {
		return finding{}, fault.New(fault.Invalid, fault.CodeInvalid, "invalid input: request_id: not a request id", nil)
	}
	r, err := who.early.open(ctx, rid)
	if err != nil {
		return finding{}, err
	}
	if r == nil {
		if r, err = a.store.Request(ctx, rid); err != nil {
			return finding{}, err
		}
	}
	if r == nil || !theirs(r, who, role) {
		return finding{}, nil
	}
	if !hasParams(*r, ask.Params) {
		return finding{}, fault.New(fault.Invalid, fault.CodeInvalid,
			"invalid input: params: the request of this request_id has others; leave them out", nil)
	}
	var f finding
	if !f.take(*r, a.now()) {
		f.grant = r
	}
	return f, nil
}

// choose picks the grant that a read means: one with the parameters that it
// names, or with exactly these; of several the one that ends last. Different
// parameters are ambiguous.
func choose(grants []domain.Request, params map[string]string, exactly bool) (*domain.Request, error) {
	grants = slices.DeleteFunc(grants, func(g domain.Request) bool {
		return !hasParams(g, params) || exactly && len(g.Params) != len(params)
	})
	if len(grants) == 0 {
		return nil, nil //nolint:nilnil // no grant is an ordinary answer
	}
	sort.Slice(grants, func(i, j int) bool {
		if a, b := grants[i].BreaksGlass(), grants[j].BreaksGlass(); a != b {
			return a // who broke the glass could not use the other one
		}
		return grants[i].WindowEnd.After(grants[j].WindowEnd)
	})
	for _, g := range grants[1:] {
		if domain.ParamsHash(g.Params) != domain.ParamsHash(grants[0].Params) || len(params) == 0 && !reflect.DeepEqual(g.Series, grants[0].Series) {
			return nil, fault.New(fault.Conflict, fault.CodeAmbiguous,
				"you have several active grants for this role with different parameters: pass request_id; list them: vault list pim/grants/mine", nil)
		}
	}
	return &grants[0], nil
}

// hasParams tells whether a request was filed with these parameters, and maybe
// more.
func hasParams(r domain.Request, params map[string]string) bool {
	if r.Series != nil {
		return slices.ContainsFunc(r.Series.Each, func(run map[string]string) bool { return covers(run, params) })
	}
	return covers(r.Params, params)
}

func covers(all, some map[string]string) bool {
	for name, value := range some {
		if all[name] != value {
			return false
		}
	}
	return true
}

// mayAsk tells whether a read may file a request: not again after a refusal,
// after an end only if the role says so, and not too often.
func (f finding) mayAsk(role *domain.Role, now time.Time) bool {
	if f.asked >= f.perDay {
		return false
	}
	if f.last == nil {
		return true
	}
	switch f.last.Closed {
	case domain.Ended, domain.Expired:
		return role.AutoRequestAgain
	case domain.Denied, domain.Revoked, domain.Cancelled, domain.Void:
		return now.Sub(f.last.At) >= f.cool
	case domain.Pending, domain.Scheduled, domain.Active:
	}
	return false
}
