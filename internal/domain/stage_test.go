package domain

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// of is a threshold of some approvals by members of one group.
func of(n int, group string, edit ...func(*Threshold)) Threshold {
	t := Threshold{Approvals: n, Groups: []string{group}}
	for _, f := range edit {
		f(&t)
	}
	return t
}

func when(expr string) func(*Threshold) { return func(t *Threshold) { t.When = expr } }
func after(s Seconds) func(*Threshold)  { return func(t *Threshold) { t.After = s } }
func all(ts ...Threshold) Stage         { return Stage{AllOf: ts} }
func anyOf(ts ...Threshold) Stage       { return Stage{AnyOf: ts} }
func staged(stages ...Stage) Role {
	r := testRole()
	r.Stages, r.Approvals, r.ApproverGroups = stages, 0, nil
	return r
}
func (s Stage) with(edit func(*Stage)) Stage { edit(&s); return s }

// approves is an approval at a stage by somebody in some groups.
func approves(name string, stage int, groups ...string) Standing {
	e := entity(name, groups...)
	return Standing{
		Decision: Decision{By: party(name), Verdict: Approve, At: at("1h"), Digest: "d1", Stage: stage},
		Now:      &e, Person: party(name).Person,
	}
}

func refuses(name string, stage int) Standing {
	s := approves(name, stage)
	s.Decision.Verdict = Deny
	return s
}

// judgeOf answers conditions from a table; what is not in it cannot be judged.
func judgeOf(truths map[string]bool) Judge {
	return func(expr string) (bool, error) {
		v, ok := truths[expr]
		if !ok {
			return false, errors.New("unknown")
		}
		return v, nil
	}
}

func TestStages(t *testing.T) {
	twoSteps := staged(all(of(1, "leads")), all(of(1, "security")))
	both := staged(all(of(1, "leads"), of(1, "owners")))
	either := staged(anyOf(of(2, "leads"), of(1, "security")))
	escalates := staged(anyOf(of(1, "leads"), of(1, "directors", after(2*3600))))
	onlyProd := staged(all(of(1, "leads")), all(of(1, "security", when("prod"))))
	twoRefuse := staged(all(of(1, "leads")).with(func(s *Stage) { s.Denials = 2 }))
	fallsBack := staged(all(of(2, "leads")).with(func(s *Stage) {
		s.Timeout, s.OnTimeout, s.Fallback = 3600, OnTimeoutEscalate, []Threshold{of(1, "directors")}
	}))
	onCall := staged(all(of(1, "leads")).with(func(s *Stage) {
		s.Timeout, s.OnTimeout, s.OnCallWhen = 3600, OnTimeoutApprove, "on call"
	}))
	truths := map[string]bool{"prod": true, "on call": true}
	rows := []struct {
		name      string
		role      Role
		at        string
		truths    map[string]bool
		standings []Standing
		met       bool
		stage     int
	}{
		{"the second step waits for the first", twoSteps, "1h", nil, nil, false, 0},
		{"an approval of the second step does nothing for the first", twoSteps, "1h", nil, []Standing{approves("carol", 1, "security")}, false, 0},
		{"after the first step the second is asked", twoSteps, "1h", nil, []Standing{approves("bob", 0, "leads")}, false, 1},
		{"both steps make it", twoSteps, "1h", nil, []Standing{approves("bob", 0, "leads"), approves("carol", 1, "security")}, true, 2},
		{"one person is not two steps", twoSteps, "1h", nil, []Standing{approves("bob", 0, "leads", "security"), approves("bob", 1, "leads", "security")}, false, 1},
		{"who left the first group takes the first step back", twoSteps, "1h", nil, []Standing{approves("bob", 0), approves("carol", 1, "security")}, false, 0},
		{"all of means every threshold", both, "1h", nil, []Standing{approves("bob", 0, "leads"), approves("carol", 0, "leads")}, false, 0},
		{"one of each is all of", both, "1h", nil, []Standing{approves("bob", 0, "leads"), approves("carol", 0, "owners")}, true, 1},
		{"one who is in both groups counts once", both, "1h", nil, []Standing{approves("bob", 0, "leads", "owners")}, false, 0},
		{"places are given so that both fit", both, "1h", nil, []Standing{approves("bob", 0, "leads", "owners"), approves("carol", 0, "leads")}, true, 1},
		{"and whoever came first", both, "1h", nil, []Standing{approves("bob", 0, "leads"), approves("carol", 0, "leads", "owners")}, true, 1},
		{"any of means one alternative", either, "1h", nil, []Standing{approves("bob", 0, "security")}, true, 1},
		{"half of an alternative is none", either, "1h", nil, []Standing{approves("bob", 0, "leads")}, false, 0},
		{"an escalation is closed at first", escalates, "1h", nil, []Standing{approves("dave", 0, "directors")}, false, 0},
		{"and open later", escalates, "2h", nil, []Standing{approves("dave", 0, "directors")}, true, 1},
		{"a threshold whose condition holds is asked", onlyProd, "1h", truths, []Standing{approves("bob", 0, "leads")}, false, 1},
		{"one whose condition does not hold is not", onlyProd, "1h", map[string]bool{"prod": false}, []Standing{approves("bob", 0, "leads")}, true, 2},
		{"one that cannot be judged stays unmet", onlyProd, "1h", nil, []Standing{approves("bob", 0, "leads"), approves("carol", 1, "security")}, false, 1},
		{"nobody approves where no stage applies", staged(all(of(1, "leads", when("prod")))), "1h", map[string]bool{"prod": false}, nil, false, 0},
		{"an alternative that does not apply is none", staged(anyOf(of(1, "leads", when("prod")))), "1h", map[string]bool{"prod": false}, []Standing{approves("bob", 0, "leads")}, false, 0},
		{"one refusal of two is not enough", twoRefuse, "1h", nil, []Standing{approves("bob", 0, "leads"), refuses("carol", 0)}, true, 1},
		{"two are", twoRefuse, "1h", nil, []Standing{approves("bob", 0, "leads"), refuses("carol", 0), refuses("dave", 0)}, false, 1},
		{"the fallback is closed before its time", fallsBack, "59m", nil, []Standing{approves("dave", 0, "directors")}, false, 0},
		{"and open when nobody answered", fallsBack, "1h", nil, []Standing{approves("dave", 0, "directors")}, true, 1},
		{"who is on call waits for people first", onCall, "59m", truths, nil, false, 0},
		{"and passes when nobody answered", onCall, "1h", truths, nil, true, 1},
		{"who is not on call does not", onCall, "1h", map[string]bool{"on call": false}, nil, false, 0},
		{"nor whose call nobody can judge", onCall, "1h", nil, nil, false, 0},
		{"a refusal beats it", onCall, "1h", truths, []Standing{refuses("bob", 0)}, false, 1},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if p := row.role.Problems(); len(p) > 0 {
				t.Fatal("not a role that could be written:", p)
			}
			f := factsOf(party("alice").Person, row.standings)
			f.Now = at(row.at)
			if row.truths != nil {
				f.Judge = judgeOf(row.truths)
			}
			o := Evaluate(row.role, f)
			if o.Met != row.met || o.Stage != row.stage {
				t.Fatalf("met %v at stage %d: %+v", o.Met, o.Stage, o.Rules)
			}
			if len(o.Rules) == 0 {
				t.Fatal("nobody can see why")
			}
			slices.Reverse(f.Standings)
			if back := Evaluate(row.role, f); !reflect.DeepEqual(o, back) {
				t.Fatalf("the order matters:\n%+v\n%+v", o, back)
			}
		})
	}
}

func TestOnCallNeedsAShortWindow(t *testing.T) {
	role := staged(all(of(1, "leads")).with(func(s *Stage) {
		s.Timeout, s.OnTimeout, s.OnCallWhen = 3600, OnTimeoutApprove, "on call"
	}))
	f := factsOf(party("alice").Person, nil)
	f.Judge = judgeOf(map[string]bool{"on call": true})
	f.TTL = role.FallbackTTL()
	if o := Evaluate(role, f); !o.Met || !o.Fallback {
		t.Fatalf("the longest that is allowed: %+v", o)
	}
	f.TTL++
	if o := Evaluate(role, f); o.Met {
		t.Fatalf("a second more: %+v", o)
	}
}

func TestConditionsOfTheWhole(t *testing.T) {
	base := testRole()
	set := func(edit func(*Role)) Role { r := base; edit(&r); return r }
	denies := set(func(r *Role) { r.DenyWhen = "x" })
	requires := set(func(r *Role) {
		r.Require = []Requirement{{Name: "ticket-open", When: "x", Message: "the ticket must be open"}}
	})
	auto := set(func(r *Role) { r.AutoApproveWhen = "x" })
	one := []Standing{standing("bob")}
	rows := []struct {
		name      string
		role      Role
		truths    map[string]bool
		standings []Standing
		met       bool
		says      string
	}{
		{"deny_when that holds beats every approval", denies, map[string]bool{"x": true}, one, false, "refuses"},
		{"deny_when that does not hold is no obstacle", denies, map[string]bool{"x": false}, one, true, "does not hold"},
		{"deny_when that cannot be judged denies", denies, nil, one, false, "cannot be judged"},
		{"a rule that holds is no obstacle", requires, map[string]bool{"x": true}, one, true, "holds"},
		{"a rule that does not hold says what its author wrote", requires, map[string]bool{"x": false}, one, false, "the ticket must be open"},
		{"a rule that cannot be judged is unmet", requires, nil, one, false, "the ticket must be open"},
		{"auto_approve_when that holds needs nobody", auto, map[string]bool{"x": true}, nil, true, "by itself"},
		{"one that does not hold leaves it to people", auto, map[string]bool{"x": false}, nil, false, "people decide"},
		{"who may still approve", auto, map[string]bool{"x": false}, one, true, "people decide"},
		{"one that cannot be judged approves nothing", auto, nil, nil, false, "cannot be judged"},
		{"a refusal beats auto_approve_when", auto, map[string]bool{"x": true}, []Standing{refuses("bob", 0)}, false, "denied"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := factsOf(party("alice").Person, row.standings)
			f.Judge = judgeOf(row.truths)
			o := Evaluate(row.role, f)
			said := slices.ContainsFunc(o.Rules, func(r RuleResult) bool { return strings.Contains(r.Reason, row.says) })
			if o.Met != row.met || !said {
				t.Fatalf("met %v: %+v", o.Met, o.Rules)
			}
			f.Judge = nil
			if o := Evaluate(row.role, f); o.Met && len(row.standings) == 0 {
				t.Fatal("met without anybody who could judge")
			}
		})
	}
}

func TestStagesThatAreRefused(t *testing.T) {
	many := make([]Stage, LimitStages+1)
	for i := range many {
		many[i] = all(of(1, "leads"))
	}
	rows := []struct {
		name   string
		edit   func(*Role)
		fields []string
	}{
		{"quorum zero", func(r *Role) { r.Stages = []Stage{all(of(0, "leads"))} }, []string{"stages.1.all_of.1.approvals"}},
		{"negative quorum", func(r *Role) { r.Stages = []Stage{all(of(-1, "leads"))} }, []string{"stages.1.all_of.1.approvals"}},
		{"an empty stage", func(r *Role) { r.Stages = []Stage{{}} }, []string{"stages.1"}},
		{"no approvers", func(r *Role) { r.Stages = []Stage{all(Threshold{Approvals: 1})} }, []string{"stages.1.all_of.1"}},
		{"a wildcard group", func(r *Role) { r.Stages = []Stage{all(of(1, "*"))} }, []string{"stages.1.all_of.1.groups"}},
		{"a wildcard entity", func(r *Role) {
			r.Stages = []Stage{all(Threshold{Approvals: 1, Entities: []string{"alias:auth_userpass_1/*"}})}
		}, []string{"stages.1.all_of.1.entities"}},
		{"more approvals than entities", func(r *Role) { r.Stages = []Stage{all(Threshold{Approvals: 2, Entities: []string{uuid(1)}})} }, []string{"stages.1.all_of.1.approvals"}},
		{"one entity named twice", func(r *Role) { r.Stages = []Stage{all(Threshold{Approvals: 2, Entities: []string{uuid(1), uuid(1)}})} }, []string{"stages.1.all_of.1.approvals"}},
		{"an escalation that everybody must wait for", func(r *Role) { r.Stages = []Stage{all(of(1, "leads", after(60)))} }, []string{"stages.1.all_of.1.after"}},
		{"an escalation after the end", func(r *Role) { r.Stages = []Stage{anyOf(of(1, "leads", after(r.RequestTTL)))} }, []string{"stages.1.any_of.1.after"}},
		{"too many stages", func(r *Role) { r.Stages = many }, []string{"stages"}},
		{"the short form beside it", func(r *Role) { r.ApproverGroups = []string{"leads"}; r.Stages = many[:1] }, []string{"stages"}},
		{"a timeout without a rule", func(r *Role) { r.Stages = []Stage{{AllOf: many[0].AllOf, Timeout: 60}} }, []string{"stages.1.timeout"}},
		{"an escalation to nobody", func(r *Role) { r.Stages = []Stage{{AllOf: many[0].AllOf, Timeout: 60, OnTimeout: "escalate"}} }, []string{"stages.1.fallback"}},
		{"approval for nobody on call", func(r *Role) { r.Stages = []Stage{{AllOf: many[0].AllOf, Timeout: 60, OnTimeout: "approve"}} }, []string{"stages.1.on_call_when"}},
		{"everything at once", func(r *Role) { r.Stages = []Stage{all(of(0, "*")), {}} }, []string{"stages.1.all_of.1.approvals", "stages.1.all_of.1.groups", "stages.2"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := staged()
			row.edit(&r)
			var got []string
			for _, p := range r.Problems() {
				got = append(got, p.Field)
			}
			if !reflect.DeepEqual(got, row.fields) {
				t.Fatalf("got %v, want %v", got, row.fields)
			}
		})
	}
}

// drawStagedRole is a role in up to three stages of up to three thresholds.
func drawStagedRole(t *rapid.T) Role {
	var stages []Stage
	threshold := rapid.Custom(func(t *rapid.T) Threshold {
		return of(rapid.IntRange(1, 2).Draw(t, "approvals"), rapid.SampledFrom([]string{"g0", "g1", "g2"}).Draw(t, "group"))
	})
	for range rapid.IntRange(1, 3).Draw(t, "stages") {
		s := Stage{Denials: rapid.IntRange(0, 2).Draw(t, "denials")}
		s.AllOf = rapid.SliceOfN(threshold, 0, 2).Draw(t, "all_of")
		s.AnyOf = rapid.SliceOfN(threshold, 0, 2).Draw(t, "any_of")
		if len(s.AllOf)+len(s.AnyOf) == 0 {
			s.AllOf = []Threshold{of(1, "g0")}
		}
		stages = append(stages, s)
	}
	return staged(stages...)
}

func drawDecision(t *rapid.T, i int) Standing {
	name := string(rune('b' + i))
	groups := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"g0", "g1", "g2"}), func(s string) string { return s }).Draw(t, "groups")
	s := approves(name, rapid.IntRange(0, 2).Draw(t, "stage"), groups...)
	if rapid.IntRange(0, 9).Draw(t, "verdict") == 0 {
		s.Decision.Verdict = Deny
	}
	return s
}

func TestStageProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		role := drawStagedRole(t)
		n := rapid.IntRange(0, 7).Draw(t, "decisions")
		var standings []Standing
		for i := range n {
			standings = append(standings, drawDecision(t, i))
		}
		f := factsOf(party("alice").Person, standings)
		o := Evaluate(role, f)
		if again := Evaluate(role, f); !reflect.DeepEqual(o, again) {
			t.Fatalf("not the same twice: %+v %+v", o, again)
		}
		if got := byHand(role, standings); o.Met != got {
			t.Fatalf("met %v, by trying every assignment %v: %+v", o.Met, got, o.Rules)
		}
		more := drawDecision(t, n)
		f.Standings = append(slices.Clone(standings), more)
		with := Evaluate(role, f)
		if more.Decision.Verdict == Approve && o.Met && !with.Met {
			t.Fatalf("one more approval un-met it: %+v", with.Rules)
		}
		if more.Decision.Verdict == Deny && !o.Met && with.Met {
			t.Fatalf("a denial helped: %+v", with.Rules)
		}
		if o.Met != (o.Stage == len(role.Stages) && !o.Denied) {
			t.Fatalf("met %v at stage %d", o.Met, o.Stage)
		}
	})
}

// byHand tries every way of giving approvals to places.
func byHand(role Role, standings []Standing) bool {
	denials := map[int]int{}
	for _, s := range standings {
		if s.Decision.Verdict == Deny {
			i := s.Decision.Stage
			if i >= len(role.Stages) {
				return false
			}
			if denials[i]++; denials[i] >= role.Stages[i].DenialsNeeded() {
				return false
			}
		}
	}
	var fill func(places []slot, used []bool) bool
	fill = func(places []slot, used []bool) bool {
		if len(places) == 0 {
			return true
		}
		for i, s := range standings {
			if used[i] || s.Decision.Verdict == Deny || s.Decision.Stage != places[0].stage ||
				!MatchEntity(*s.Now, places[0].threshold.Groups, nil, nil).OK {
				continue
			}
			used[i] = true
			if fill(places[1:], used) {
				return true
			}
			used[i] = false
		}
		return false
	}
	for i, s := range role.Stages {
		var base []slot
		for _, t := range s.AllOf {
			base = append(base, slots(i, t)...)
		}
		ways := [][]slot{base}
		if len(s.AnyOf) > 0 {
			ways = nil
			for _, t := range s.AnyOf {
				ways = append(ways, append(slices.Clone(base), slots(i, t)...))
			}
		}
		if !slices.ContainsFunc(ways, func(w []slot) bool { return fill(w, make([]bool, len(standings))) }) {
			return false
		}
	}
	return true
}

// The short form and the one stage that it is short for decide alike.
func TestShortFormIsOneStage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		short := testRole()
		short.ApproverGroups, short.Approvals = []string{"g0", "g1"}, rapid.IntRange(1, 3).Draw(t, "approvals")
		long := staged(all(Threshold{Approvals: short.Approvals, Groups: short.ApproverGroups}))
		var standings []Standing
		for i := range rapid.IntRange(0, 5).Draw(t, "decisions") {
			s := drawDecision(t, i)
			s.Decision.Stage = 0
			standings = append(standings, s)
		}
		f := factsOf(party("alice").Person, standings)
		a, b := Evaluate(short, f), Evaluate(long, f)
		a.Rules, b.Rules = nil, nil
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v\n%+v", a, b)
		}
	})
}

// Two approvers of different stages who turn out to be one person count once,
// in whatever place helps.
func TestOnePersonOverStages(t *testing.T) {
	role := staged(all(of(1, "leads")), all(of(1, "security")))
	bob, carol := approves("bob", 0, "leads"), approves("carol", 1, "security")
	carol.Person = bob.Person
	if o := Evaluate(role, factsOf(party("alice").Person, []Standing{bob, carol})); o.Met || o.Stage != 1 || o.Have != 1 {
		t.Fatalf("%+v", o)
	}
	dave := approves("dave", 0, "leads")
	if o := Evaluate(role, factsOf(party("alice").Person, []Standing{bob, carol, dave})); !o.Met {
		t.Fatalf("dave can stand at the first stage: %+v", o.Rules)
	}
}
