package domain

import (
	"fmt"
	"sort"
)

// Verdict is what a decision says.
type Verdict string

// The verdicts.
const (
	Approve Verdict = "approve"
	Deny    Verdict = "deny"
)

// Standing is a decision together with what is true of its author now. A nil
// entity is unknown to the host: deleted, or merged into another one.
type Standing struct {
	Decision Decision
	Now      *Entity
	Person   Person // current person value; "" = none
	Machine  bool
}

// RuleStatus says how a rule came out. Failed counts as unmet.
type RuleStatus string

// The outcomes of a rule.
const (
	Met    RuleStatus = "met"
	Unmet  RuleStatus = "unmet"
	Failed RuleStatus = "failed"
)

// RuleResult is one rule with its reason, for people.
type RuleResult struct {
	Rule   string
	Status RuleStatus
	Reason string
}

// Outcome is the quorum of a request, derived from its decisions each time.
type Outcome struct {
	Met    bool
	Denied bool
	Have   int
	Need   int
	TTL    Seconds // smallest over the counted decisions; 0 = nobody shortened it
	Rules  []RuleResult
}

// Evaluate derives the quorum. requesterNow is the requester's current person
// value. The order of standings never matters; one person counts once, under
// the value stored with the decision and the current one alike; the requester
// never counts.
func Evaluate(role Role, requester Party, requesterNow Person, standings []Standing) Outcome {
	out := Outcome{Need: role.Approvals}
	if role.AutoApprove {
		out.Need = 0
	}
	people := newPeople()
	people.join(requester.Person, requesterNow)
	var counted []Standing
	for _, s := range standings {
		if s.Decision.Verdict == Deny {
			out.Denied = true
			out.rule("no denial", Unmet, Printable(s.Decision.By.Name)+" denied")
			continue
		}
		if why := disqualified(role, s); why != "" {
			out.rule("approval", Unmet, fmt.Sprintf("%s no longer counts: %s", Printable(s.Decision.By.Name), why))
			continue
		}
		people.join(s.Decision.By.Person, s.Person)
		counted = append(counted, s)
	}
	own := people.find(requester.Person)
	voices := map[Person]bool{}
	for _, s := range counted {
		voice := people.find(s.Person)
		if voice == own {
			out.rule("approval", Unmet, "the requester's own approval never counts")
			continue
		}
		voices[voice] = true
		if t := s.Decision.TTL; t > 0 && (out.TTL == 0 || t < out.TTL) {
			out.TTL = t
		}
	}
	out.Have = len(voices)
	out.finish(role)
	return out
}

func (o *Outcome) rule(name string, status RuleStatus, reason string) {
	o.Rules = append(o.Rules, RuleResult{Rule: name, Status: status, Reason: reason})
}

// finish decides. A need below one is met only by a role that says
// auto_approve, whatever else is stored.
func (o *Outcome) finish(role Role) {
	switch {
	case role.AutoApprove:
		o.Met = !o.Denied
		o.rule("approvals", Met, "the role approves by itself")
	case o.Need < 1:
		o.rule("approvals", Failed, "the role asks for no approval and does not approve by itself")
	case o.Have >= o.Need:
		o.Met = !o.Denied
		o.rule("approvals", Met, fmt.Sprintf("%d of %d", o.Have, o.Need))
	default:
		o.rule("approvals", Unmet, fmt.Sprintf("%d of %d", o.Have, o.Need))
	}
	sort.SliceStable(o.Rules, func(i, j int) bool {
		a, b := o.Rules[i], o.Rules[j]
		if a.Rule != b.Rule {
			return a.Rule < b.Rule
		}
		return a.Reason < b.Reason
	})
}

func disqualified(role Role, s Standing) string {
	switch {
	case s.Now == nil:
		return "unknown to the host"
	case s.Now.Disabled:
		return "disabled"
	case len(s.Now.Aliases) == 0:
		return "has no login in this namespace"
	case s.Machine:
		return "is a machine"
	case s.Person == "":
		return "has no person key"
	case !role.Approver(*s.Now).OK:
		return "is no approver any more"
	}
	return ""
}

// people joins person values that belong to one human being. Joined sets, not
// first come first served: so the count cannot depend on any order.
type people struct{ parent map[Person]Person }

func newPeople() *people { return &people{parent: map[Person]Person{}} }

func (p *people) find(x Person) Person {
	root, ok := p.parent[x]
	if !ok {
		p.parent[x] = x
		return x
	}
	if root == x {
		return x
	}
	root = p.find(root)
	p.parent[x] = root
	return root
}

func (p *people) join(a, b Person) {
	if a == "" || b == "" {
		return
	}
	ra, rb := p.find(a), p.find(b)
	if ra == rb {
		return
	}
	if rb < ra {
		ra, rb = rb, ra
	}
	p.parent[rb] = ra
}
