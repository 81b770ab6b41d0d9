package aws

import (
	"context"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// slack is kept beyond a session's own end before its deny is taken out: for
// clocks that differ.
const slack = time.Hour

// planRole names the role that is assumed. The session itself is named by the
// credential.
func (p *Provider) planRole(in contract.Input, d handleData) (handleData, error) {
	chosen, err := chosenRole(in)
	if err != nil {
		return d, err
	}
	a, ok := parseARN(chosen)
	name, isRole := a.roleName()
	if !ok || !isRole {
		return d, contract.Refused("plan", "bad_role", "role_arns has an entry that is no IAM role")
	}
	d.ARN, d.Role = chosen, name
	d.Chain = slices.Clone(in.Fields.Strings("allow_chaining"))
	d.Unrevocable = !revocable(in.Fields)
	return d, nil
}

// chosenRole is the one role, or the one that the request names.
func chosenRole(in contract.Input) (string, error) {
	arns := in.Fields.Strings("role_arns")
	if len(arns) == 1 {
		return arns[0], nil
	}
	if want := in.Params[paramRole]; slices.Contains(arns, want) {
		return want, nil
	}
	return "", contract.Refused("plan", "role_not_allowed", "the parameter role_arn must be one of the role's role_arns")
}

// paramRole is the request parameter that chooses among role_arns.
const paramRole = "role_arn"

// holders are the roles at which a session is denied, with the time until
// which that is needed.
func (d handleData) holders() map[holder]time.Time {
	out := map[holder]time.Time{}
	for _, chained := range d.Chain {
		if a, ok := parseARN(chained); ok {
			if name, ok := a.roleName(); ok {
				out[holder{roleHolder, name}] = d.end().Add(maxChained + slack)
			}
		}
	}
	if !d.Unrevocable {
		out[d.holder()] = d.end().Add(minSession + slack)
	}
	return out
}

// holder is the role, or the federating user, that carries the deny.
func (d handleData) holder() holder {
	a, ok := parseARN(d.ARN)
	if user, isUser := a.userName(); ok && isUser {
		return holder{userHolder, user}
	}
	return holder{roleHolder, d.Role}
}

// assumeRole issues a role session.
func (j *issuing) assumeRole(ctx context.Context) (contract.Issued, error) {
	p, d := j.p, j.d
	if err := p.notOurselves(d.ARN, j.who); err != nil {
		return contract.Issued{}, err
	}
	if err := p.reserve(ctx, j.h.Credential, d); err != nil {
		return contract.Issued{}, err
	}
	req, err := j.assumeInput(ctx)
	if err != nil {
		return contract.Issued{}, err
	}
	s, err := p.cloud.Issuer.Assume(ctx, req)
	if err != nil {
		if nothingDone(err) {
			p.void(j.h.Credential, d.end())
		}
		return contract.Issued{}, failed("assume role", err)
	}
	if got, ok := parseARN(s.ARN); !ok || got.account != j.h.Place || got.resource != "assumed-role/"+d.Role+"/"+req.SessionName {
		return contract.Issued{}, &contract.Error{
			Op: "assume role", Code: "not_as_asked", Public: "AWS issued a session of another role or name than was asked for",
		}
	}
	p.track(j.h.Credential, d)
	return j.answer(ctx, s)
}

// assumeInput is what STS is asked for.
func (j *issuing) assumeInput(ctx context.Context) (assumeInput, error) {
	f, d := j.in.Fields, j.d
	req := assumeInput{
		RoleARN: d.ARN, SessionName: sessionName(j.in.Credential), SourceIdentity: sessionName(j.in.Credential),
		ExternalID: f.String("external_id"), PolicyARNs: f.Strings("policy_arns"), Transitive: f.Strings("transitive_tags"),
	}
	// Both ids fit into a session name, so that CloudTrail joins without guessing.
	if j.in.Request != "" {
		req.SessionName += "-" + string(j.in.Request)
	}
	var err error
	if req.Policy, err = sessionPolicy(f.String("policy_document"), req.PolicyARNs, j.p.guardOf(j.in, d, j.who)); err != nil {
		return req, contract.Refused("assume role", "policy_size", "%s", err.Error())
	}
	if req.Tags, err = renderTags("session_tags", f.Map("session_tags"), j.in); err != nil {
		return req, err
	}
	req.Duration, err = j.p.sessionLife(ctx, d, j.who)
	return req, err
}

// guardOf is what a session may not do, whatever else it may.
func (p *Provider) guardOf(in contract.Input, d handleData, who identity) guard {
	g := guard{End: d.end(), Chain: d.Chain, Persist: in.Fields.Bool("can_persist"), Own: []string{p.arnOf("policy" + policyPath + "*")}}
	for _, a := range []string{d.ARN, p.set.BaseRole, p.set.RevokerRole, p.ownARN(who)} {
		if a != "" {
			g.Own = append(g.Own, a)
		}
	}
	return g
}

// ownARN is the IAM user or role that we are. STS does not tell a role's path;
// one without a path is what it finds.
func (p *Provider) ownARN(who identity) string {
	a, ok := parseARN(who.ARN)
	if !ok {
		return ""
	}
	if name, ok := a.sessionRole(); ok {
		if base, ok := parseARN(p.set.BaseRole); ok {
			if baseName, _ := base.roleName(); baseName == name {
				return "" // named with its path already
			}
		}
		return p.arnOf("role/" + name)
	}
	if _, ok := a.userName(); ok {
		return who.ARN
	}
	return ""
}

// notOurselves refuses the roles that pim itself acts as.
func (p *Provider) notOurselves(roleARN string, who identity) error {
	a, _ := parseARN(roleARN)
	name, _ := a.roleName()
	own, _ := parseARN(who.ARN)
	if running, ok := own.sessionRole(); (ok && running == name && a.account == own.account) ||
		roleARN == p.set.BaseRole || roleARN == p.set.RevokerRole {
		return contract.Refused("issue", "own_identity", "the role is the engine's own identity, which no role may use")
	}
	return nil
}

// sessionLife is how long STS is asked to let the session live: until the end
// of the window, within what AWS makes. The guard ends shorter windows.
func (p *Provider) sessionLife(ctx context.Context, d handleData, who identity) (time.Duration, error) {
	need := d.end().Sub(p.env.Clock.Now()).Truncate(time.Second)
	need = max(minSession, min(need, maxRoleSession))
	own, _ := parseARN(who.ARN)
	if _, chained := own.sessionRole(); chained {
		return min(need, maxChained), nil
	}
	if need <= time.Hour { // every role allows that
		return need, nil
	}
	longest, err := p.longestSession(ctx, d.Role)
	return min(need, longest), err
}

// rememberedRole is what was last seen of a role.
type rememberedRole struct {
	info roleInfo
	at   time.Time
}

// longestSession is the role's own limit. Where it may not be read, AWS is
// left to judge.
func (p *Provider) longestSession(ctx context.Context, role string) (time.Duration, error) {
	now := p.env.Clock.Now()
	p.mu.Lock()
	r, known := p.roles[role]
	p.mu.Unlock()
	if !known || now.Sub(r.at) > identityAge {
		info, err := p.cloud.Revoker.GetRole(ctx, role)
		switch {
		case familyOf(err) == denied:
			info.MaxSession = maxRoleSession
		case err != nil:
			return 0, failed("read role", err)
		case info.MaxSession < time.Hour:
			info.MaxSession = time.Hour
		}
		r = rememberedRole{info: info, at: now}
		p.mu.Lock()
		p.roles[role] = r
		p.mu.Unlock()
	}
	return r.info.MaxSession, nil
}

// conditionKey is by what a session is denied.
func (d handleData) conditionKey() string {
	if d.Kind == kindFederation {
		return keyUserID
	}
	return keySourceIdentity
}

// deniedName is the value by which a session is denied.
func deniedName(h domain.Handle, d handleData) string {
	if d.Kind == kindFederation {
		return h.Place + ":" + sessionName(h.Credential)
	}
	return sessionName(h.Credential)
}
