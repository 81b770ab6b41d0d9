package domain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// voice is one person with every approval that counts as theirs.
type voice struct {
	person    Person
	standings []Standing
}

func sortedVoices(by map[Person]*voice) []voice {
	out := make([]voice, 0, len(by))
	for _, v := range by {
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b voice) int { return cmp.Compare(a.person, b.person) })
	return out
}

// fills tells whether a person's approval at a stage counts for a threshold.
func (v voice) fills(role Role, stage int, t Threshold) bool {
	return slices.ContainsFunc(v.standings, func(s Standing) bool {
		return s.Decision.Stage == stage && MatchEntity(*s.Now, t.Groups, t.Entities, role.Pins).OK
	})
}

// searchBudget bounds the choices between alternatives that one evaluation
// looks at. Stages depend on one another only where two approvers of different
// stages turn out to be one person; everywhere else the first choice that fits
// is final.
const searchBudget = 2048

// quorum finds people for all thresholds of all stages, each person once: a
// matching, so that nobody's place depends on who came first.
type quorum struct {
	role   Role
	facts  Facts
	voices []voice
	steps  int
}

// slot is one approval that a stage takes.
type slot struct {
	stage     int
	threshold Threshold
}

// matching gives people to slots.
type matching struct {
	slots []slot
	taken []int // voice -> slot, or -1
}

// option is one way in which a stage can be met.
type option struct {
	slots    []slot
	fallback bool
}

// plan is how one stage stands: the ways in which it can be met now, the
// thresholds that are open, and what is wrong with its conditions.
type plan struct {
	options []option
	open    []Threshold
	notes   []string
	failed  bool
}

// decide fills in where the request stands, stage by stage.
func (q *quorum) decide(o *Outcome) {
	stages := q.role.Staged()
	if len(stages) == 0 || o.Need < 1 {
		o.rule("approvals", Failed, "the role asks for no approval and does not approve by itself")
		return
	}
	plans := make([]plan, len(stages))
	for i, s := range stages {
		plans[i] = q.plan(i, s)
	}
	start := matching{taken: make([]int, len(q.voices))}
	for i := range start.taken {
		start.taken[i] = -1
	}
	depth, m, fallback := q.solve(plans, 0, start)
	o.Stage, o.Fallback = depth, fallback && depth == len(stages)
	if depth == len(stages) && len(m.slots) == 0 && !o.Fallback {
		o.Stage, depth = 0, 0
		o.rule("approvals", Failed, "no stage applies, and nobody would approve")
	}
	q.explain(o, stages, plans, depth, m)
	if depth < len(stages) {
		o.Open = plans[depth].open
	}
}

// solve meets stages from i on with what is left of the people. It returns the
// first stage that cannot be met, or the number of stages.
func (q *quorum) solve(plans []plan, i int, m matching) (int, matching, bool) {
	if i == len(plans) {
		return i, m, false
	}
	best, bestM, bestFallback := i, m, false
	for _, opt := range plans[i].options {
		if q.steps--; q.steps < 0 {
			return best, bestM, bestFallback
		}
		next, ok := q.add(m, opt.slots)
		if !ok {
			continue
		}
		depth, dm, fallback := q.solve(plans, i+1, next)
		if depth > best {
			best, bestM, bestFallback = depth, dm, fallback || opt.fallback
		}
		if best == len(plans) {
			break
		}
	}
	return best, bestM, bestFallback
}

// add finds people for more slots; those who are given to a slot already may
// move to another one that they fill.
func (q *quorum) add(m matching, more []slot) (matching, bool) {
	next := matching{slots: append(slices.Clone(m.slots), more...), taken: slices.Clone(m.taken)}
	for s := len(m.slots); s < len(next.slots); s++ {
		if !q.augment(&next, s, make([]bool, len(q.voices))) {
			return m, false
		}
	}
	return next, true
}

func (q *quorum) augment(m *matching, s int, seen []bool) bool {
	for v := range q.voices {
		if seen[v] || !q.voices[v].fills(q.role, m.slots[s].stage, m.slots[s].threshold) {
			continue
		}
		seen[v] = true
		if m.taken[v] < 0 || q.augment(m, m.taken[v], seen) {
			m.taken[v] = s
			return true
		}
	}
	return false
}

// plan works out the ways in which a stage can be met now.
func (q *quorum) plan(i int, s Stage) plan {
	var p plan
	var base []slot
	for _, t := range s.AllOf {
		switch q.applies(t) {
		case Met:
			base = append(base, slots(i, t)...)
			p.open = append(p.open, t)
		case Unmet:
			p.notes = append(p.notes, "not asked: "+NamesOf([]Threshold{t}))
		case Failed:
			p.failed = true
			p.notes = append(p.notes, "the condition of a threshold cannot be judged")
		}
	}
	var ways []option
	for _, t := range s.AnyOf {
		status := q.applies(t)
		wait := t.After.Duration() - q.facts.Now.Sub(q.facts.Asked)
		switch {
		case status == Failed:
			p.notes = append(p.notes, "the condition of an alternative cannot be judged")
		case status == Met && wait > 0:
			p.notes = append(p.notes, fmt.Sprintf("%s can decide from %s", NamesOf([]Threshold{t}), stamp(q.facts.Asked.Add(t.After.Duration()))))
		case status == Met:
			ways = append(ways, option{slots: append(slices.Clone(base), slots(i, t)...)})
			p.open = append(p.open, t)
		}
	}
	if len(s.AnyOf) == 0 {
		ways = []option{{slots: base}}
	}
	if !p.failed {
		p.options = ways
	}
	q.overdue(i, s, &p)
	return p
}

// overdue adds what a stage allows when nobody has answered in time.
func (q *quorum) overdue(i int, s Stage, p *plan) {
	if s.Timeout <= 0 || q.facts.Now.Sub(q.facts.Asked) < s.Timeout.Duration() {
		return
	}
	switch s.OnTimeout {
	case OnTimeoutEscalate:
		for _, t := range s.Fallback {
			if q.applies(t) == Met {
				p.options = append(p.options, option{slots: slots(i, t)})
				p.open = append(p.open, t)
			}
		}
		p.notes = append(p.notes, "nobody answered in time: the fallback can decide")
	case OnTimeoutApprove:
		switch {
		case q.facts.TTL > q.role.FallbackTTL():
			p.notes = append(p.notes, fmt.Sprintf("nobody answered in time, but more than %s was asked", q.role.FallbackTTL().Duration()))
		case q.facts.judged(s.OnCallWhen) == Met:
			p.options = append(p.options, option{fallback: true})
			p.notes = append(p.notes, "nobody answered in time and the requester is on call: a review is owed")
		default:
			p.notes = append(p.notes, "nobody answered in time, and the requester is not on call")
		}
	}
}

func slots(stage int, t Threshold) []slot {
	out := make([]slot, t.Approvals)
	for i := range out {
		out[i] = slot{stage, t}
	}
	return out
}

// applies tells whether a threshold is asked for this request.
func (q *quorum) applies(t Threshold) RuleStatus {
	if t.When == "" {
		return Met
	}
	return q.facts.judged(t.When)
}

// explain adds one rule for each stage. A role in the short form has one, under
// the name of its field.
func (q *quorum) explain(o *Outcome, stages []Stage, plans []plan, depth int, m matching) {
	if len(q.role.Stages) == 0 {
		status := Unmet
		if depth == len(stages) {
			status = Met
		}
		o.rule("approvals", status, fmt.Sprintf("%d of %d", o.Have, o.Need))
		return
	}
	for i, s := range stages {
		p := plans[i]
		var status RuleStatus
		var text string
		switch {
		case i < depth:
			status, text = Met, "met"
		case i > depth:
			status, text = Unmet, "waits for the stage before it"
		case p.failed:
			status, text = Failed, "cannot be met"
		default:
			have, need := q.progress(m, p)
			status, text = Unmet, fmt.Sprintf("%d of %d, waiting for %s", have, need, NamesOf(p.open))
		}
		if len(p.notes) > 0 {
			text += "; " + strings.Join(p.notes, "; ")
		}
		o.rule(s.Title(i), status, text)
	}
}

// progress is how near the nearest way of meeting a stage is.
func (q *quorum) progress(m matching, p plan) (have, need int) {
	for _, opt := range p.options {
		next, got := m, 0
		for _, s := range opt.slots {
			if more, ok := q.add(next, []slot{s}); ok {
				next = more
				got++
			}
		}
		if need == 0 || len(opt.slots)-got < need-have {
			have, need = got, len(opt.slots)
		}
	}
	return have, need
}
