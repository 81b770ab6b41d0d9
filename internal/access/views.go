package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// RequestView is a request as a reader sees it.
type RequestView struct {
	Request    domain.Request
	State      domain.RequestState // as seen now
	Have       int
	Need       int
	Rules      []domain.RuleResult
	WaitingFor string
	Revocation domain.Revocation
	Params     map[string]string // sensitive ones as hashes
	Next       string            // the command that comes next, for this reader
	Reader     string            // requester, approver or auditor
}

// view builds what one reader sees. A zero actor is an auditor.
func (a *Access) view(ctx context.Context, r domain.Request, who actor) (RequestView, error) {
	v := RequestView{Request: r, State: r.At(a.now()), Params: r.Params, Reader: "auditor"}
	role, err := a.store.Role(ctx, r.Role)
	if err != nil {
		return v, err
	}
	if role != nil {
		v.Need = role.Approvals
		v.Revocation = a.revocationOf(*role, r.Target)
		v.Params = maskParams(*role, r.Params)
		if v.State == domain.Pending {
			v.WaitingFor = waitingFor(*role)
		}
	}
	v.Have = approvals(r)
	switch {
	case who.ID == "":
	case r.Requester.Person == who.person:
		v.Reader = "requester"
		v.Next = nextForRequester(r, v.State)
	default:
		v.Reader = "approver"
		if v.State == domain.Pending && !hasDecided(r, who) {
			v.Next = fmt.Sprintf("vault write pim/approvals/%s decision=approve digest=%s", r.ID, r.Digest)
		}
	}
	return v, nil
}

func nextForRequester(r domain.Request, seen domain.RequestState) string {
	switch seen {
	case domain.Pending:
		return "vault read pim/requests/" + string(r.ID) + "/wait"
	case domain.Active:
		return "vault read pim/creds/" + r.Role
	case domain.Scheduled:
		if r.FirstRead {
			return "vault read pim/creds/" + r.Role
		}
		return "vault read pim/requests/" + string(r.ID)
	case domain.Ended, domain.Denied, domain.Cancelled, domain.Expired, domain.Revoked, domain.Void:
	}
	return ""
}

// maskParams shows sensitive parameters as hashes.
func maskParams(role domain.Role, params map[string]string) map[string]string {
	out := make(map[string]string, len(params))
	for k, v := range params {
		if role.Params[k].Sensitive {
			sum := sha256.Sum256([]byte(v))
			v = "sha256:" + hex.EncodeToString(sum[:8])
		}
		out[k] = v
	}
	return out
}

// visible finds a request for its requester, for who has decided on it, and
// for those who can decide now. For everybody else it does not exist.
func (a *Access) visible(ctx context.Context, who actor, id domain.RequestID) (*domain.Request, error) {
	r, err := a.store.Request(ctx, id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errUnknown()
	}
	if r.Requester.Person == who.person || r.Requester.Entity == who.ID || hasDecided(*r, who) || a.couldApprove(ctx, who, r.Role) {
		return r, nil
	}
	return nil, errUnknown()
}

// couldApprove tells whether somebody is an approver of a role now.
func (a *Access) couldApprove(ctx context.Context, who actor, name string) bool {
	if who.machine {
		return false
	}
	role, err := a.store.Role(ctx, name)
	return err == nil && role != nil && role.Approver(who.Entity).OK
}

// Request reads one request for somebody who may see it.
func (a *Access) Request(ctx context.Context, c Caller, id domain.RequestID) (RequestView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return RequestView{}, err
	}
	r, err := a.visible(ctx, who, id)
	if err != nil {
		return RequestView{}, err
	}
	return a.view(ctx, *r, who)
}

// MaxWait is how long requests/:id/wait waits at most.
const MaxWait = 25 * time.Second

// Wait reads one request once it has changed, or as it is after MaxWait. It
// holds no lock and reads no storage while it waits.
func (a *Access) Wait(ctx context.Context, c Caller, id domain.RequestID) (RequestView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return RequestView{}, err
	}
	changed := a.index.changed(id)
	r, err := a.visible(ctx, who, id)
	if err != nil {
		return RequestView{}, err
	}
	seen := r.At(a.now())
	if seen == domain.Pending || seen == domain.Scheduled && !r.FirstRead {
		wait := MaxWait
		if at := dueAt(*r, a.boot, a.now()); !at.IsZero() {
			wait = min(wait, max(at.Sub(a.now()), 0))
		}
		a.waitChange(ctx, changed, wait)
		if r, err = a.visible(ctx, who, id); err != nil {
			return RequestView{}, err
		}
	}
	return a.view(ctx, *r, who)
}

// Approval reads one request for somebody who can decide on it.
func (a *Access) Approval(ctx context.Context, c Caller, id domain.RequestID) (RequestView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return RequestView{}, err
	}
	r, err := a.store.Request(ctx, id)
	if err != nil {
		return RequestView{}, err
	}
	if r == nil || !hasDecided(*r, who) && (r.Requester.Person == who.person || !a.couldApprove(ctx, who, r.Role)) {
		return RequestView{}, errUnknown()
	}
	return a.view(ctx, *r, who)
}

// Grant reads one request that was granted.
func (a *Access) Grant(ctx context.Context, c Caller, id domain.RequestID) (RequestView, error) {
	v, err := a.Request(ctx, c, id)
	if err == nil && v.Request.Granted == 0 {
		return RequestView{}, errUnknown()
	}
	return v, err
}

// AuditRequest reads any request, for auditors.
func (a *Access) AuditRequest(ctx context.Context, id domain.RequestID, grant bool) (RequestView, error) {
	r, err := a.store.Request(ctx, id)
	if err != nil {
		return RequestView{}, err
	}
	if r == nil || grant && r.Granted == 0 {
		return RequestView{}, errUnknown()
	}
	return a.view(ctx, *r, actor{})
}

// Page is one page of a list: keys in order, with what can be said of each
// without reading it.
type Page struct {
	Keys []string
	Info map[string]map[string]any
}

// MaxPage is the longest page of a list.
const MaxPage = 100

func pageOf(rows []row, after string, limit int) Page {
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	p := Page{Info: map[string]map[string]any{}}
	for _, r := range rows {
		if len(p.Keys) == limit {
			break
		}
		if string(r.id) <= after {
			continue
		}
		p.Keys = append(p.Keys, string(r.id))
		p.Info[string(r.id)] = map[string]any{
			"role": r.role, "who": domain.Printable(r.name), "state": string(r.state),
			"ttl": int(r.ttl), "requested": stamp(r.filed), "expires_at": stamp(r.expires), "until": stamp(r.until),
			"have": r.approved,
		}
	}
	return p
}

// MyRequests lists the caller's requests that are not archived.
func (a *Access) MyRequests(ctx context.Context, c Caller, after string, limit int) (Page, error) {
	return a.mine(ctx, c, after, limit, func(row) bool { return true })
}

// MyGrants lists the caller's grants that are not archived.
func (a *Access) MyGrants(ctx context.Context, c Caller, after string, limit int) (Page, error) {
	now := a.now()
	return a.mine(ctx, c, after, limit, func(r row) bool {
		return r.live > 0 || r.state == domain.Active && r.until.After(now)
	})
}

func (a *Access) mine(ctx context.Context, c Caller, after string, limit int, keep func(row) bool) (Page, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return Page{}, err
	}
	if err := a.indexed(ctx); err != nil {
		return Page{}, err
	}
	rows := slices.DeleteFunc(a.index.ofPerson(who.person), func(r row) bool { return !keep(r) })
	return pageOf(rows, after, limit), nil
}

// Inbox lists the pending requests that the caller can decide on.
func (a *Access) Inbox(ctx context.Context, c Caller, after string, limit int) (Page, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return Page{}, err
	}
	if err := a.indexed(ctx); err != nil {
		return Page{}, err
	}
	now := a.now()
	can := map[string]bool{}
	rows := a.index.pick(func(r row) bool {
		return r.state == domain.Pending && now.Before(r.expires) && r.person != who.person && r.entity != who.ID
	})
	rows = slices.DeleteFunc(rows, func(r row) bool {
		ok, known := can[r.role]
		if !known {
			ok = a.couldApprove(ctx, who, r.role)
			can[r.role] = ok
		}
		return !ok || slices.Contains(r.deciders, who.person)
	})
	return pageOf(rows, after, limit), nil
}

// AuditList lists every request, archived ones included; grants only those
// that were ever granted.
func (a *Access) AuditList(ctx context.Context, grants bool, after string, limit int) ([]string, error) {
	if limit <= 0 || limit > 10*MaxPage {
		limit = 10 * MaxPage
	}
	open, err := a.store.OpenIDs(ctx)
	if err != nil {
		return nil, err
	}
	old, err := a.store.ArchivedIDs(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	ids := append(open, old...)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if !grants {
		return store.Page(ids, after, limit), nil
	}
	var out []string
	for _, s := range store.Page(ids, after, 0) {
		id, err := domain.ParseRequestID(s)
		if err != nil {
			continue
		}
		r, err := a.store.Request(ctx, id)
		if err != nil {
			return nil, err
		}
		if r != nil && r.Granted > 0 {
			if out = append(out, s); len(out) == limit {
				break
			}
		}
	}
	return out, nil
}

// EligibleView is what somebody may request and how.
type EligibleView struct {
	Role       domain.Role
	Needs      []string // fields that a request must carry
	WaitingFor string
	Revocation domain.Revocation
	Command    string
	Provider   string
	Yields     string
}

// Eligible lists the roles that the caller may request.
func (a *Access) Eligible(ctx context.Context, c Caller, after string, limit int) ([]string, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return nil, err
	}
	names, err := a.store.Roles(ctx, after, 0)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = len(names)
	}
	var out []string
	for _, name := range names {
		role, err := a.store.Role(ctx, name)
		if err != nil {
			return nil, err
		}
		if role != nil && role.Eligible(who.Entity).OK {
			if out = append(out, name); len(out) == limit {
				break
			}
		}
	}
	return out, nil
}

// EligibleRole says what one role needs, yields and promises.
func (a *Access) EligibleRole(ctx context.Context, c Caller, name string) (EligibleView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return EligibleView{}, err
	}
	role, err := a.eligibleRole(ctx, who, name)
	if err != nil {
		return EligibleView{}, err
	}
	v := EligibleView{
		Role: role, WaitingFor: waitingFor(role), Revocation: a.revocationOf(role, role.Target), Command: requestCommand(role),
	}
	if role.AutoApprove {
		v.Command = "vault read pim/creds/" + role.Name
	}
	if role.RequireJustification {
		v.Needs = append(v.Needs, "justification"+described(role.JustificationPattern))
	}
	if role.RequireTicket {
		v.Needs = append(v.Needs, "ticket"+described(role.TicketPattern))
	}
	for _, p := range contract.SortedKeys(role.Params) {
		v.Needs = append(v.Needs, paramNeed(p, role.Params[p]))
	}
	if t, err := a.store.Target(ctx, role.Target); err == nil && t != nil {
		v.Provider = t.Type
		if d, ok := a.descriptors[t.Type]; ok {
			v.Yields = fieldsOf(d, role.Fields).String("credential_type")
		}
	}
	return v, nil
}

func described(pattern string) string {
	if pattern == "" {
		return ""
	}
	return " matching " + domain.Printable(pattern)
}

func paramNeed(name string, p domain.Param) string {
	s := "params." + name
	if len(p.Allowed) > 0 {
		s += ": one of " + domain.Printable(strings.Join(p.Allowed, ", "))
	}
	s += described(p.Pattern)
	if !p.Required {
		s += " (optional)"
	}
	return s
}

// revocationOf computes what a role promises about the end of its credentials.
func (a *Access) revocationOf(role domain.Role, target string) domain.Revocation {
	none := domain.Revocation{Class: domain.ExpiryOnly}
	t, err := a.store.Target(context.Background(), target)
	if err != nil || t == nil {
		return none
	}
	d, ok := a.descriptors[t.Type]
	if !ok {
		return none
	}
	return d.Revocation(fieldsOf(d, role.Fields))
}

func revocationFields(r domain.Revocation) map[string]any {
	survives := make([]string, 0, len(r.Survives))
	for _, s := range r.Survives {
		survives = append(survives, string(s))
	}
	return map[string]any{
		"pim_revocation": string(r.Class), "pim_revocation_seconds": r.Seconds,
		"pim_revocation_survives": strings.Join(survives, ","),
	}
}

// RevocationFields are the three flat fields that say how hard the end bites.
func RevocationFields(r domain.Revocation) map[string]any { return revocationFields(r) }

// Config reads the mount's settings and how the epoch stands.
func (a *Access) Config(ctx context.Context) (domain.Config, domain.State, error) {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return cfg, domain.State{}, err
	}
	st, err := a.store.State(ctx)
	return cfg, st, err
}

// EpochDue tells whether the last sign of life is so old that the mount was
// sealed, or restored from a copy: somebody has to decide about rotate-epoch.
func (a *Access) EpochDue(st domain.State) bool {
	return a.stale.Load() || !st.Beat.IsZero() && a.now().Sub(st.Beat) > time.Hour
}

// WriteConfig changes settings; edit changes a copy of the present ones.
func (a *Access) WriteConfig(ctx context.Context, edit func(*domain.Config)) (domain.Config, error) {
	return a.store.UpdateConfig(ctx, func(c domain.Config) (domain.Config, error) {
		edit(&c)
		return c, checkConfig(c)
	})
}

func checkConfig(c domain.Config) error {
	var p fault.Problems
	positive := []struct {
		name string
		n    int
		most int
	}{
		{"max_open", c.MaxOpen, 1_000_000},
		{"person_max_open", c.PersonMaxOpen, 10_000},
		{"machine_max_open", c.MachineMaxOpen, 100_000},
		{"issue_rate", c.IssueRate, 100_000},
		{"machine_issue_rate", c.MachineIssueRate, 1_000_000},
		{"auto_request_per_day", c.AutoRequestPerDay, 100},
		{"hold_ttl", int(c.HoldTTL), int(domain.LimitTTL)},
		{"retention_human", int(c.RetentionHuman), 10 * int(domain.LimitTTL)},
		{"retention_auto", int(c.RetentionAuto), 10 * int(domain.LimitTTL)},
		{"reap_interval", int(c.ReapInterval), 60},
	}
	for _, x := range positive {
		if x.n < 1 || x.n > x.most {
			p.Addf(x.name, "must be from 1 to %d", x.most)
		}
	}
	if c.AutoRequestCooldown < 0 || c.AutoRequestCooldown > domain.LimitTTL {
		p.Addf("auto_request_cooldown", "must be from 0 to %d", domain.LimitTTL)
	}
	if c.MinRevocation != "" && !c.MinRevocation.Valid() {
		p.Add("min_revocation", "must be immediate, propagating or expiry_only")
	}
	if why := domain.CheckText(c.PersonKey, 128); why != "" {
		p.Add("person_key", why)
	}
	for _, m := range c.HumanMounts {
		if m == "" || strings.Contains(m, "*") {
			p.Add("human_mounts", "must be mount accessors")
			break
		}
	}
	return p.Err()
}
