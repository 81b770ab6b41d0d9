package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
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
	Runs       []string          // of a series: its sets of parameters, as sentences
	Next       string            // the command that comes next, for this reader
	Reader     string            // requester, approver or auditor
	Problem    string            // why it could not be issued as things are; "" = nothing known
}

// view builds what one reader sees. A zero actor is an auditor.
func (a *Access) view(ctx context.Context, r domain.Request, who actor) (RequestView, error) {
	v := RequestView{Request: r, State: r.At(a.now()), Params: r.Params, Reader: "auditor"}
	role, err := a.store.Role(ctx, r.Role)
	if err != nil {
		return v, err
	}
	if role != nil {
		if !r.BreaksGlass() {
			v.Need = role.Quorum()
		}
		v.Revocation = a.revocationOf(ctx, role, r.Target)
		v.Params = maskParams(role, r.Params)
		v.Runs = runsOf(role, r)
		if v.State == domain.Pending {
			v.WaitingFor = waitingFor(role, r.Stage)
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
func maskParams(role *domain.Role, params map[string]string) map[string]string {
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

// runsOf are the sets of parameters of a series, as sentences.
func runsOf(role *domain.Role, r domain.Request) []string {
	if r.Series == nil {
		return nil
	}
	var out []string
	for _, set := range r.Series.Each {
		masked := maskParams(role, set)
		var parts []string
		for _, k := range contract.SortedKeys(masked) {
			parts = append(parts, k+"="+domain.Printable(masked[k]))
		}
		if len(parts) == 0 {
			parts = []string{"no parameters"}
		}
		out = append(out, strings.Join(parts, ", "))
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
	if r.Requester.Person == who.person || r.Requester.Entity == who.ID || hasDecided(*r, who) || hasDecidedOnMore(*r, who) || a.couldApprove(ctx, who, r.Role, r.Stage) {
		return r, nil
	}
	return nil, errUnknown()
}

// anyStage stands for all stages of a role.
const anyStage = -1

// couldApprove tells whether somebody is an approver of a role's stage now.
func (a *Access) couldApprove(ctx context.Context, who actor, name string, stage int) bool {
	if who.machine {
		return false
	}
	role, err := a.store.Role(ctx, name)
	if err != nil || role == nil {
		return false
	}
	if stage == anyStage {
		return role.Approver(who.Entity).OK
	}
	return role.ApproverAt(stage, who.Entity).OK
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
	return a.explained(ctx, *r, who)
}

// explained is the view of a request with what its role's policy says of it now,
// rule by rule.
func (a *Access) explained(ctx context.Context, r domain.Request, who actor) (RequestView, error) {
	v, err := a.view(ctx, r, who)
	if err != nil || v.State.Terminal() {
		return v, err
	}
	role, err := a.store.Role(ctx, r.Role)
	if err != nil || role == nil || r.BreaksGlass() {
		return v, err
	}
	f, err := a.factsOf(ctx, role, &r, r.Decisions)
	if err != nil {
		a.log.Warn("how the rules of a role stand cannot be told now", "request", string(r.ID), "error", err)
		return v, nil
	}
	o := domain.Evaluate(*role, f)
	v.Rules = o.Rules
	if v.State == domain.Pending && o.WaitingFor() != "" {
		v.WaitingFor = o.WaitingFor()
	}
	return v, nil
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
	r, err := a.visible(ctx, who, id)
	if err != nil {
		return RequestView{}, err
	}
	seen := r.At(a.now())
	if seen == domain.Pending || seen == domain.Scheduled && !r.FirstRead {
		a.waitFor(ctx, *r)
		if r, err = a.visible(ctx, who, id); err != nil {
			return RequestView{}, err
		}
	}
	return a.view(ctx, *r, who)
}

// waitFor returns when an open request is no longer as it was seen, or after
// MaxWait.
func (a *Access) waitFor(ctx context.Context, r domain.Request) {
	// Asked for only now, so that unknown ids and closed requests leave nothing
	// behind; what changed since it was seen shows in its revision.
	changed := a.index.changed(r.ID)
	if !a.index.current(r.ID, r.Rev) {
		return
	}
	wait := MaxWait
	if at := dueAt(r, a.boot, a.now()); !at.IsZero() {
		wait = min(wait, max(at.Sub(a.now()), 0))
	}
	a.waitChange(ctx, changed, wait)
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
	if r == nil {
		return RequestView{}, errUnknown()
	}
	seen := hasDecided(*r, who)
	if x, open := r.Extending(a.now()); open {
		r = &x
	}
	if !seen && !hasDecided(*r, who) && (r.Requester.Person == who.person || !a.couldApprove(ctx, who, r.Role, r.Stage)) {
		return RequestView{}, errUnknown()
	}
	v, err := a.explained(ctx, *r, who)
	if err == nil && v.State == domain.Pending {
		v.Problem, err = a.problemOf(ctx, *r)
	}
	return v, err
}

// problemOf tells an approver what already stands in the way of an issue.
func (a *Access) problemOf(ctx context.Context, r domain.Request) (string, error) {
	role, err := a.store.Role(ctx, r.Role)
	if err != nil || role == nil {
		return "", err
	}
	err = a.runsTaken(ctx, role, &r)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Public, nil
	}
	return "", err
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
	return a.explained(ctx, *r, actor{})
}

// revocationOf computes what a role promises about the end of its credentials.
func (a *Access) revocationOf(ctx context.Context, role *domain.Role, target string) domain.Revocation {
	none := domain.Revocation{Class: domain.ExpiryOnly}
	t, err := a.store.Target(ctx, target)
	if err != nil || t == nil {
		return none
	}
	d, ok := a.descriptors[t.Type]
	if !ok {
		return none
	}
	return d.Revocation(a.fields.of(d, role))
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

// waitChange waits until a request changes, ctx ends or the time is over.
func (a *Access) waitChange(ctx context.Context, ch <-chan struct{}, d time.Duration) {
	select {
	case <-ch:
	case <-ctx.Done():
	case <-a.clock.After(d):
	}
}
