package domain

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
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

// Facts are everything that a role's policy is judged by.
type Facts struct {
	Requester    Party
	RequesterNow Person // the requester's current person value
	Standings    []Standing
	Asked        time.Time // when the request was filed
	Now          time.Time
	TTL          Seconds // the window that is asked
	Judge        Judge   // of conditions; nil: every condition fails
}

// Outcome is what a role's policy says of a request, derived from its decisions
// each time.
type Outcome struct {
	Met      bool
	Denied   bool
	Blocked  bool // by deny_when or a rule of require
	Auto     bool // approved by the role itself
	Have     int
	Need     int
	Stage    int         // the first one that is unmet; the first is 0
	Open     []Threshold // those of that stage that can be met now
	Fallback bool        // met only since nobody answered in time: a review is owed
	TTL      Seconds     // smallest over the counted decisions; 0 = nobody shortened it
	Rules    []RuleResult
}

// Evaluate derives what a role's policy says. The order of standings never
// matters; one person counts once over all stages, under the value stored with
// the decision and the current one alike; the requester never counts.
func Evaluate(role Role, f Facts) Outcome {
	out := Outcome{Need: role.Quorum()}
	out.conditions(role, f)
	q := quorum{role: role, facts: f, voices: out.voices(role, f), steps: searchBudget}
	out.Have = len(q.voices)
	out.denials(role, f.Standings)
	switch {
	case role.AutoApprove:
		out.Auto = true
		out.rule("approvals", Met, "the role approves by itself")
	case out.Auto: // its condition says so, which is a rule of its own
	default:
		q.decide(&out)
	}
	out.Met = !out.Denied && !out.Blocked && (out.Auto || out.Stage == len(role.Staged()) && out.Need > 0)
	sort.SliceStable(out.Rules, func(i, j int) bool {
		a, b := out.Rules[i], out.Rules[j]
		if a.Rule != b.Rule {
			return a.Rule < b.Rule
		}
		return a.Reason < b.Reason
	})
	return out
}

func (o *Outcome) rule(name string, status RuleStatus, reason string) {
	o.Rules = append(o.Rules, RuleResult{Rule: name, Status: status, Reason: reason})
}

// judged tells how a condition comes out; without a judge it fails.
func (f Facts) judged(expr string) RuleStatus {
	status, _ := f.judgedNow(expr)
	return status
}

// judgedNow is judged, and whether the condition can be judged at all while
// somebody else than the requester calls.
func (f Facts) judgedNow(expr string) (status RuleStatus, now bool) {
	if f.Judge == nil {
		return Failed, true
	}
	switch ok, err := f.Judge(expr); {
	case errors.Is(err, ErrNotNow):
		return Unmet, false
	case err != nil:
		return Failed, true
	case ok:
		return Met, true
	}
	return Unmet, true
}

// conditions judges what the role says over the request as a whole. What cannot
// be judged denies, and approves nothing.
func (o *Outcome) conditions(role Role, f Facts) {
	if role.DenyWhen != "" {
		o.denyWhen(f.judgedNow(role.DenyWhen))
	}
	for _, need := range role.Require {
		status, now := f.judgedNow(need.When)
		reason := "holds"
		switch {
		case !now:
			reason = ErrNotNow.Error()
		case status != Met:
			o.Blocked = true
			reason = Printable(need.Text())
		}
		o.rule("require "+Printable(need.Name), status, reason)
	}
	if role.AutoApproveWhen != "" {
		status := f.judged(role.AutoApproveWhen)
		o.Auto = status == Met
		reason := map[RuleStatus]string{
			Met: "the role approves this by itself", Unmet: "does not hold: people decide", Failed: "cannot be judged: people decide",
		}[status]
		o.rule("auto_approve_when", status, reason)
	}
}

func (o *Outcome) denyWhen(status RuleStatus, now bool) {
	switch {
	case !now:
		o.rule("deny_when", Unmet, ErrNotNow.Error())
	case status == Unmet:
		o.rule("deny_when", Met, "its condition does not hold")
	case status == Met:
		o.Blocked = true
		o.rule("deny_when", Unmet, "the role refuses this: its deny_when holds")
	default:
		o.Blocked = true
		o.rule("deny_when", Failed, "the role refuses this: its deny_when cannot be judged")
	}
}

// voices are the people whose approvals count, with the smallest ttl any of
// them granted.
func (o *Outcome) voices(role Role, f Facts) []voice {
	people := newPeople()
	people.join(f.Requester.Person, f.RequesterNow)
	var counted []Standing
	for _, s := range f.Standings {
		if s.Decision.Verdict == Deny {
			continue
		}
		if why := disqualified(role, s); why != "" {
			o.rule("approval", Unmet, fmt.Sprintf("%s no longer counts: %s", Printable(s.Decision.By.Name), why))
			continue
		}
		people.join(s.Decision.By.Person, s.Person)
		counted = append(counted, s)
	}
	own := people.find(f.Requester.Person)
	byPerson := map[Person]*voice{}
	for _, s := range counted {
		person := people.find(s.Person)
		if person == own {
			o.rule("approval", Unmet, "the requester's own approval never counts")
			continue
		}
		if byPerson[person] == nil {
			byPerson[person] = &voice{person: person}
		}
		byPerson[person].standings = append(byPerson[person].standings, s)
		if t := s.Decision.TTL; t > 0 && (o.TTL == 0 || t < o.TTL) {
			o.TTL = t
		}
	}
	return sortedVoices(byPerson)
}

// denials counts refusals as they were given: who may no longer approve has
// still said no.
func (o *Outcome) denials(role Role, standings []Standing) {
	stages := role.Staged()
	said := map[int]int{}
	for _, s := range standings {
		if s.Decision.Verdict != Deny {
			continue
		}
		i := s.Decision.Stage
		said[i]++
		need := 1
		if i >= 0 && i < len(stages) {
			need = stages[i].DenialsNeeded()
		}
		if said[i] >= need {
			o.Denied = true
		}
		o.rule("no denial", Unmet, Printable(s.Decision.By.Name)+" denied")
	}
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
	case !role.ApproverAt(s.Decision.Stage, *s.Now).OK:
		return "is no approver any more"
	}
	return ""
}

// Text is what people read when the rule does not hold.
func (r Requirement) Text() string {
	if r.Message == "" {
		return "does not hold"
	}
	return r.Message
}

// WaitingFor names who can decide now: groups and entities as the role names
// them.
func (o Outcome) WaitingFor() string { return NamesOf(o.Open) }

// NamesOf names the people of thresholds, each once.
func NamesOf(ts []Threshold) string {
	var out []string
	seen := map[string]bool{}
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, t := range ts {
		for _, g := range t.Groups {
			add("group " + Printable(g))
		}
	}
	for _, t := range ts {
		for _, e := range t.Entities {
			add(Printable(e))
		}
	}
	return strings.Join(out, ", ")
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
