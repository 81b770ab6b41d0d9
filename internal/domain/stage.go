package domain

import (
	"fmt"
	"time"
)

// Threshold is how many people of whom a stage takes. People count in one
// threshold only.
type Threshold struct {
	Approvals int      `json:"approvals"`
	Groups    []string `json:"groups,omitempty"`
	Entities  []string `json:"entities,omitempty"`
	When      string   `json:"when,omitempty"`  // condition; "" = always
	After     Seconds  `json:"after,omitempty"` // opens once the request is this old; of any_of only
}

// What a stage does when nobody has answered within its timeout.
const (
	OnTimeoutDeny     = "deny"     // it waits on; the request expires undecided
	OnTimeoutEscalate = "escalate" // the fallback thresholds open
	OnTimeoutApprove  = "approve"  // on-call requesters pass, and owe a review
)

// Stage is one step of an approval: all of some thresholds, and one of others.
type Stage struct {
	Name           string      `json:"name,omitempty"` // for people
	AllOf          []Threshold `json:"all_of,omitempty"`
	AnyOf          []Threshold `json:"any_of,omitempty"`
	Denials        int         `json:"denials,omitempty"`         // that end the request; 0 = 1
	RequireComment bool        `json:"require_comment,omitempty"` // of its approvers
	Timeout        Seconds     `json:"timeout,omitempty"`         // age of the request, for on_timeout
	OnTimeout      string      `json:"on_timeout,omitempty"`      // "" = deny
	Fallback       []Threshold `json:"fallback,omitempty"`        // with escalate: one of them is enough
	OnCallWhen     string      `json:"on_call_when,omitempty"`    // with approve: who passes
}

// Bounds of stages: a policy stays readable, and its evaluation cheap.
const (
	LimitStages     = 5
	LimitThresholds = 8
	LimitApprovals  = 100
)

// Staged is the role's approval as stages: as written, or the one stage that
// approvals and approver_* are short for.
func (r Role) Staged() []Stage {
	if len(r.Stages) > 0 {
		return r.Stages
	}
	if r.AutoApprove {
		return nil
	}
	return []Stage{{AllOf: []Threshold{{Approvals: r.Approvals, Groups: r.ApproverGroups, Entities: r.ApproverEntities}}}}
}

// Thresholds are all of the stage's, in the order in which they are written.
func (s Stage) Thresholds() []Threshold {
	out := append(append([]Threshold(nil), s.AllOf...), s.AnyOf...)
	return append(out, s.Fallback...)
}

// DenialsNeeded is how many denials end a request at this stage.
func (s Stage) DenialsNeeded() int { return max(s.Denials, 1) }

// Title names a stage for people.
func (s Stage) Title(i int) string {
	if s.Name == "" {
		return fmt.Sprintf("stage %d", i+1)
	}
	return fmt.Sprintf("stage %d (%s)", i+1, Printable(s.Name))
}

// Approver looks for an entity among the approvers of all stages.
func (r Role) Approver(e Entity) Match { return r.approver(e, r.Staged()) }

// ApproverAt looks for an entity among the approvers of one stage, the first
// being 0.
func (r Role) ApproverAt(stage int, e Entity) Match {
	all := r.Staged()
	if stage < 0 || stage >= len(all) {
		return Match{}
	}
	return r.approver(e, all[stage:stage+1])
}

func (r Role) approver(e Entity, stages []Stage) Match {
	var last Match
	for _, s := range stages {
		for _, t := range s.Thresholds() {
			m := MatchEntity(e, t.Groups, t.Entities, r.Pins)
			if m.OK {
				return m
			}
			last.Mismatch = append(last.Mismatch, m.Mismatch...)
		}
	}
	return last
}

// ApproverRefs are all groups and entities that may decide, in any stage.
func (r Role) ApproverRefs() (groups, entities []string) {
	for _, s := range r.Staged() {
		for _, t := range s.Thresholds() {
			groups = append(groups, t.Groups...)
			entities = append(entities, t.Entities...)
		}
	}
	return groups, entities
}

// Reconsider is when the next stage of a request that was filed at a moment
// will have waited in vain: others can decide then, or it approves by itself.
// Zero = no stage has such a time any more.
func (r Role) Reconsider(filed, now time.Time) time.Time {
	var next time.Time
	sooner := func(age Seconds) {
		at := filed.Add(age.Duration())
		if age > 0 && at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, s := range r.Staged() {
		sooner(s.Timeout)
		for _, t := range s.AnyOf {
			sooner(t.After)
		}
	}
	return next
}

// Postponed is a pending request that is looked at again at a later moment: what
// time has brought may not happen yet.
func (r Request) Postponed(to time.Time) Request {
	r.Reconsider = to
	r.Rev++
	return r
}

// CanDecide looks for an entity among the approvers that a request waits for.
func (r Role) CanDecide(o Outcome, e Entity) Match {
	for _, t := range o.Open {
		if m := MatchEntity(e, t.Groups, t.Entities, r.Pins); m.OK {
			return m
		}
	}
	return Match{}
}

// Quorum is how many approvals the role takes at least, over all stages.
func (r Role) Quorum() int {
	n := 0
	for _, s := range r.Staged() {
		for _, t := range s.AllOf {
			n += t.Approvals
		}
		n += cheapest(s.AnyOf)
	}
	return n
}

func cheapest(ts []Threshold) int {
	least := 0
	for i, t := range ts {
		if i == 0 || t.Approvals < least {
			least = t.Approvals
		}
	}
	return least
}
