package domain

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// FieldProblem is one thing wrong with a field, never with its value.
type FieldProblem struct{ Field, Text string }

// NewRole is a role with the defaults of DESIGN §3.
func NewRole(name, incarnation string) Role {
	return Role{
		Name: name, Incarnation: incarnation, Approvals: 1,
		TTL: DefaultTTL, MaxTTL: DefaultMaxTTL, RequestTTL: DefaultRequestTTL, MinTTL: DefaultMinTTL,
		Start: StartApproval, MaxActive: DefaultMaxActive, MaxCredentials: DefaultMaxCredentials,
		RequireJustification: true,
	}
}

// LooksLikeID tells whether a reference to a group is an id rather than a
// name.
func LooksLikeID(ref string) bool { return entityIDPattern.MatchString(ref) }

// MatchName matches a name against a pattern in which * stands for any run of
// characters.
func MatchName(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	ok, err := regexp.MatchString("^"+strings.Join(parts, ".*")+"$", name)
	return err == nil && ok
}

type problems []FieldProblem

func (p *problems) add(field, text string) { *p = append(*p, FieldProblem{field, text}) }

// Problems reports everything that is wrong with the role's core fields.
func (r Role) Problems() []FieldProblem {
	var p problems
	if r.Target == "" {
		p.add("target", "is required")
	} else if !ValidName(r.Target) {
		p.add("target", "is not a target's name")
	}
	r.checkPeople(&p)
	r.checkDurations(&p)
	r.checkCounts(&p)
	r.checkTexts(&p)
	r.checkParams(&p)
	r.checkPolicy(&p)
	r.checkBreakGlass(&p)
	r.checkStepUp(&p)
	if r.MinRevocation != "" && !r.MinRevocation.Valid() {
		p.add("min_revocation", "must be immediate, propagating or expiry_only")
	}
	return p
}

func (r Role) checkPeople(p *problems) {
	refs(p, "eligible_groups", r.EligibleGroups, CheckGroupRef)
	refs(p, "approver_groups", r.ApproverGroups, CheckGroupRef)
	refs(p, "eligible_entities", r.EligibleEntities, CheckEntityRef)
	refs(p, "approver_entities", r.ApproverEntities, CheckEntityRef)
	if len(r.EligibleGroups)+len(r.EligibleEntities) == 0 {
		p.add("eligible_groups", "nobody is eligible: name eligible_groups or eligible_entities")
	}
	approvers := len(r.ApproverGroups) + len(r.ApproverEntities)
	if len(r.Stages) > 0 {
		return // checkStages says what may stand beside them
	}
	switch {
	case r.AutoApprove && r.Approvals != 0 && approvers == 0 && r.Approvals != 1:
		p.add("approvals", "a role with auto_approve=true takes no approvals")
	case r.AutoApprove:
	case r.Approvals < 1:
		p.add("approvals", "must be at least 1; a role without approvals says auto_approve=true")
	case approvers == 0:
		p.add("approver_groups", "nobody can approve: name approver_groups or approver_entities")
	case len(r.ApproverGroups) == 0 && r.Approvals > len(unique(r.ApproverEntities)):
		p.add("approvals", "asks for more approvals than there are approver_entities")
	}
	if r.AutoApprove && approvers > 0 {
		p.add("auto_approve", "a role that approves by itself has no approvers")
	}
}

func (r Role) checkDurations(p *problems) {
	between := func(field string, v, least, most Seconds) {
		if v < least || v > most {
			p.add(field, "must be from "+least.Duration().String()+" to "+most.Duration().String())
		}
	}
	between("ttl", r.TTL, 1, LimitTTL)
	between("max_ttl", r.MaxTTL, 1, LimitTTL)
	between("request_ttl", r.RequestTTL, 1, LimitTTL)
	between("lease_ttl", r.LeaseTTL, 0, LimitTTL)
	between("min_ttl", r.MinTTL, 1, LimitTTL)
	between("reuse_window", r.ReuseWindow, 0, LimitReuseWindow)
	between("max_extension", r.MaxExtension, 0, LimitTTL)
	between("wrap_ttl", r.WrapTTL, 0, 24*3600)
	if r.TTL > r.MaxTTL {
		p.add("ttl", "is longer than max_ttl")
	}
	if r.MinTTL > r.MaxTTL {
		p.add("min_ttl", "is longer than max_ttl")
	} else if r.TTL < r.MinTTL {
		p.add("ttl", "is shorter than min_ttl")
	}
	if r.LeaseTTL > 0 && r.LeaseTTL < r.MinTTL {
		p.add("lease_ttl", "is shorter than min_ttl")
	}
	switch r.Start {
	case StartApproval:
		if r.ClaimWithin != 0 {
			p.add("claim_within", "goes with start=first_read only")
		}
	case StartFirstRead:
		between("claim_within", r.ClaimWithin, 1, LimitTTL)
	default:
		p.add("start", "must be approval or first_read")
	}
}

func (r Role) checkCounts(p *problems) {
	if r.MaxActive < 1 || r.MaxActive > 100 {
		p.add("max_active", "must be from 1 to 100")
	}
	if r.MaxCredentials < 1 || r.MaxCredentials > LimitMaxCredentials {
		p.add("max_credentials", "must be from 1 to 32")
	}
	if r.Approvals > 100 {
		p.add("approvals", "must be at most 100")
	}
	if r.AutoRequest && r.WrapTTL > 0 {
		p.add("wrap_ttl", "is refused with auto_request: clients that template cannot read wrapped answers")
	}
	if r.AutoRequest && r.AutoApprove {
		p.add("auto_request", "a role that approves by itself needs no auto_request")
	}
	if r.AutoRequestAgain && !r.AutoRequest {
		p.add("auto_request_again", "goes with auto_request only")
	}
}

func (r Role) checkTexts(p *problems) {
	if why := CheckText(r.Description, MaxJustification); why != "" {
		p.add("description", why)
	}
	if why := CheckText(r.Owner, MaxJustification); why != "" {
		p.add("owner", why)
	}
	if len(r.Labels) > 64 {
		p.add("labels", "more than 64")
	}
	for k, v := range r.Labels {
		if CheckText(k, 128) != "" || CheckText(v, 256) != "" {
			p.add("labels", "have a key or value that is too long or not plain text")
			break
		}
	}
	if _, err := CompilePattern(r.JustificationPattern); err != nil {
		p.add("justification_pattern", err.Error())
	}
	if _, err := CompilePattern(r.TicketPattern); err != nil {
		p.add("ticket_pattern", err.Error())
	}
}

var paramNamePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

func (r Role) checkParams(p *problems) {
	if len(r.Params) > 32 {
		p.add("params", "more than 32")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(r.Params)) {
		d, field := r.Params[name], "params."+name
		if !paramNamePattern.MatchString(name) {
			p.add("params", "a name is 1 to 63 of a-z, 0-9 and _, and starts with a letter")
			continue
		}
		switch {
		case (d.Pattern == "") == (len(d.Allowed) == 0):
			p.add(field, "declares either a pattern or allowed values")
		case d.Pattern != "":
			re, err := CompilePattern(d.Pattern)
			if err != nil {
				p.add(field, err.Error())
			} else if d.Default != "" && !re.MatchString(d.Default) {
				p.add(field, "its default does not match its pattern")
			}
		case d.Default != "" && !slices.Contains(d.Allowed, d.Default):
			p.add(field, "its default is not among the allowed values")
		}
	}
}
