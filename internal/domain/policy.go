package domain

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Requirement is a named rule that must hold for a request, with what people
// read when it does not.
type Requirement struct {
	Name    string `json:"name"`
	When    string `json:"when"` // condition
	Message string `json:"message,omitempty"`
}

// LimitRequire bounds the rules of a role, and LimitCondition the length of
// one, in bytes.
const (
	LimitRequire   = 16
	LimitCondition = 2048
)

// Conditions are all expressions of a role, each with the field that it stands
// in.
func (r Role) Conditions() map[string]string {
	if !r.mayHaveConditions() {
		return nil
	}
	out := map[string]string{}
	add := func(field, expr string) {
		if expr != "" {
			out[field] = expr
		}
	}
	add("auto_approve_when", r.AutoApproveWhen)
	add("deny_when", r.DenyWhen)
	for i, q := range r.Require {
		add(fmt.Sprintf("require.%d.when", i+1), q.When)
	}
	for i, s := range r.Stages {
		at := fmt.Sprintf("stages.%d.", i+1)
		add(at+"on_call_when", s.OnCallWhen)
		for list, ts := range s.lists() {
			for j, t := range ts {
				add(fmt.Sprintf("%s%s.%d.when", at, list, j+1), t.When)
			}
		}
	}
	return out
}

// mayHaveConditions is false for most roles.
func (r *Role) mayHaveConditions() bool {
	return r.AutoApproveWhen != "" || r.DenyWhen != "" || len(r.Require) > 0 || len(r.Stages) > 0
}

// JudgedByItself tells whether a condition may ask about the role itself, and so
// about its owner and labels: whoever changes these then changes what it decides.
func (r Role) JudgedByItself() bool {
	for _, expr := range r.Conditions() {
		if strings.Contains(expr, "role") {
			return true
		}
	}
	return false
}

func (s Stage) lists() map[string][]Threshold {
	return map[string][]Threshold{"all_of": s.AllOf, "any_of": s.AnyOf, "fallback": s.Fallback}
}

// FallbackTTL is the longest window that a stage may approve because nobody
// answered.
func (r Role) FallbackTTL() Seconds { return r.EmergencyTTL() }

// Eligible looks for an entity among the eligible at a moment. A deny wins over
// everything, and what has run out counts no more.
func (r Role) Eligible(e Entity, now time.Time) Match {
	if r.deniedTo(e) {
		return Match{}
	}
	return MatchEntity(e, r.lasting(r.EligibleGroups, now), r.lasting(r.EligibleEntities, now), r.Pins)
}

// deniedTo matches group names wider than eligibility does: a group that took
// over a denied name is denied too.
func (r Role) deniedTo(e Entity) bool {
	for _, ref := range r.DenyEntities {
		if entityMatches(e, ref) {
			return true
		}
	}
	for _, ref := range r.DenyGroups {
		for _, g := range e.Groups {
			if g.ID == ref || strings.EqualFold(g.Name, ref) || r.Pins[ref] != "" && g.ID == r.Pins[ref] {
				return true
			}
		}
	}
	return false
}

func (r Role) lasting(refs []string, now time.Time) []string {
	if len(r.EligibleUntil) == 0 {
		return refs
	}
	var out []string
	for _, ref := range refs {
		if until, bounded := r.EligibleUntil[ref]; !bounded || now.Before(until) {
			out = append(out, ref)
		}
	}
	return out
}

// GroupRefs are all groups that the role names, anywhere.
func (r Role) GroupRefs() []string {
	approvers, _ := r.ApproverRefs()
	out := append(slices.Clone(r.EligibleGroups), r.DenyGroups...)
	return slices.Concat(out, approvers, r.EmergencyGroups())
}

func (r Role) checkPolicy(p *problems) {
	refs(p, "deny_groups", r.DenyGroups, CheckGroupRef)
	refs(p, "deny_entities", r.DenyEntities, CheckEntityRef)
	for _, ref := range slices.Sorted(maps.Keys(r.EligibleUntil)) {
		if !slices.Contains(r.EligibleGroups, ref) && !slices.Contains(r.EligibleEntities, ref) {
			p.add("eligible_until", "names somebody who is not in eligible_groups or eligible_entities")
			break
		}
	}
	if r.AutoApproveWhen != "" && r.AutoApprove {
		p.add("auto_approve_when", "is needless: the role says auto_approve=true")
	}
	if len(r.Require) > LimitRequire {
		p.add("require", fmt.Sprintf("more than %d rules", LimitRequire))
	}
	named := map[string]bool{}
	for i, q := range r.Require {
		field := fmt.Sprintf("require.%d", i+1)
		switch {
		case !ValidName(q.Name):
			p.add(field+".name", "must be a name of a-z, 0-9 and -")
		case named[q.Name]:
			p.add(field+".name", "is the name of another rule too")
		}
		named[q.Name] = true
		if q.When == "" {
			p.add(field+".when", "is required: the condition that must hold")
		}
		if why := CheckText(q.Message, 512); why != "" {
			p.add(field+".message", why)
		}
	}
	r.checkStages(p)
	r.checkSchedule(p)
	r.checkObserve(p)
	r.checkSeries(p)
}

func refs(p *problems, field string, list []string, check func(string) string) {
	for _, x := range list {
		if why := check(x); why != "" {
			p.add(field, why)
			return
		}
	}
}

func (r Role) checkStages(p *problems) {
	if len(r.Stages) == 0 {
		return
	}
	if r.AutoApprove || len(r.ApproverGroups)+len(r.ApproverEntities) > 0 || r.Approvals != 0 {
		p.add("stages", "take the place of approvals, approver_groups, approver_entities and auto_approve: leave these out")
	}
	if len(r.Stages) > LimitStages {
		p.add("stages", fmt.Sprintf("more than %d", LimitStages))
	}
	for i, s := range r.Stages {
		s.check(p, fmt.Sprintf("stages.%d", i+1), r.RequestTTL)
	}
}

func (s Stage) check(p *problems, field string, requestTTL Seconds) {
	if why := CheckText(s.Name, 128); why != "" {
		p.add(field+".name", why)
	}
	if len(s.AllOf)+len(s.AnyOf) == 0 {
		p.add(field, "nobody can approve: it needs all_of or any_of")
	}
	if s.Denials < 0 || s.Denials > LimitApprovals {
		p.add(field+".denials", "must be from 1 to 100")
	}
	for list, ts := range s.lists() {
		if len(ts) > LimitThresholds {
			p.add(field+"."+list, fmt.Sprintf("more than %d thresholds", LimitThresholds))
		}
		for j, t := range ts {
			t.check(p, fmt.Sprintf("%s.%s.%d", field, list, j+1), list, requestTTL)
		}
	}
	s.checkTimeout(p, field, requestTTL)
}

func (t Threshold) check(p *problems, field, list string, requestTTL Seconds) {
	switch {
	case t.Approvals < 1:
		p.add(field+".approvals", "must be at least 1")
	case t.Approvals > LimitApprovals:
		p.add(field+".approvals", "must be at most 100")
	case len(t.Groups)+len(t.Entities) == 0:
		p.add(field, "nobody can approve: name groups or entities")
	case len(t.Groups) == 0 && t.Approvals > len(unique(t.Entities)):
		p.add(field+".approvals", "asks for more approvals than there are entities")
	}
	refs(p, field+".groups", t.Groups, CheckGroupRef)
	refs(p, field+".entities", t.Entities, CheckEntityRef)
	switch {
	case t.After < 0 || t.After > LimitTTL:
		p.add(field+".after", "must be from 0s to "+LimitTTL.Duration().String())
	case t.After > 0 && list != "any_of":
		p.add(field+".after", "goes with any_of only: an escalation is an alternative")
	case t.After > 0 && t.After >= requestTTL:
		p.add(field+".after", "is not before the request expires (request_ttl)")
	}
}

func unique(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

func (s Stage) checkTimeout(p *problems, field string, requestTTL Seconds) {
	switch s.OnTimeout {
	case "", OnTimeoutDeny:
		if s.Timeout != 0 {
			p.add(field+".timeout", "goes with on_timeout=escalate or approve; a request that nobody decides expires after request_ttl")
		}
	case OnTimeoutEscalate, OnTimeoutApprove:
		if s.Timeout <= 0 || s.Timeout >= requestTTL {
			p.add(field+".timeout", "must be longer than 0s and shorter than request_ttl")
		}
	default:
		p.add(field+".on_timeout", "must be deny, escalate or approve")
	}
	if (len(s.Fallback) > 0) != (s.OnTimeout == OnTimeoutEscalate) {
		p.add(field+".fallback", "goes with on_timeout=escalate, which needs it")
	}
	if (s.OnCallWhen != "") != (s.OnTimeout == OnTimeoutApprove) {
		p.add(field+".on_call_when", "goes with on_timeout=approve, which needs it")
	}
}
