package condition

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

func fiveRules() []string {
	return []string{
		`"oncall" in requester.groups && request.ttl <= duration("1h")`,
		`now.getDayOfWeek("Europe/Berlin") in [1, 2, 3, 4, 5] && now.getHours("Europe/Berlin") >= 8 && now.getHours("Europe/Berlin") < 18`,
		`request.ticket.matches("^OPS-[0-9]{1,6}$") && request.justification.size() > 10`,
		`token.meta.ref == "main" && token.age < duration("15m")`,
		`!has(history.last_used) || now - history.last_used < duration("720h") && history.denials == 0`,
	}
}

// BenchmarkFiveRules is what one evaluation of a role's five conditions costs
// when the role is at hand.
func BenchmarkFiveRules(b *testing.B) {
	e, rules := engine(b), fiveRules()
	in := alice()
	b.ReportAllocs()
	for b.Loop() {
		judge := e.Set("revision", rules, site()).Judge(in)
		for _, rule := range rules {
			if met, err := judge(rule); err != nil || !met {
				b.Fatal(rule, met, err)
			}
		}
	}
}

// BenchmarkPolicy is one whole evaluation of a role with three stages and five
// conditions, with all that is done anew for each: the role's revision, the
// facts, the compiled set at hand, the quorum.
func BenchmarkPolicy(b *testing.B) {
	e, rules := engine(b), fiveRules()
	role := threeStages(rules)
	in := alice()
	who := domain.Entity{ID: aliceID, Metadata: in.Requester.Metadata, Aliases: []domain.Alias{{MountAccessor: "auth_userpass_1", MountType: "userpass", Name: "alice"}}}
	for i := range 20 {
		who.Groups = append(who.Groups, domain.Group{ID: person(100 + i).ID, Name: "group-" + strconv.Itoa(i)})
	}
	who.Groups = append(who.Groups, domain.Group{ID: groupID, Name: "oncall"})
	var standings []domain.Standing
	for i, stage := range []int{0, 0, 0, 1, 2, 2} {
		approver := person(i)
		standings = append(standings, domain.Standing{Now: &approver, Person: domain.Person("entity:" + approver.ID), Decision: domain.Decision{
			By: domain.Party{Entity: approver.ID, Person: domain.Person("entity:" + approver.ID)}, Verdict: domain.Approve, At: in.Now, Stage: stage,
		}})
	}
	b.ReportAllocs()
	for b.Loop() {
		in.Requester = RequesterOf(who, domain.Person("entity:"+aliceID), false)
		out := domain.Evaluate(role, domain.Facts{
			Requester: domain.Party{Entity: aliceID, Person: "entity:" + aliceID}, RequesterNow: "entity:" + aliceID, Standings: standings,
			Asked: in.Request.RequestedAt, Now: in.Now, TTL: 3600, Judge: e.Set(role.Revision(), rules, site()).Judge(in),
		})
		if !out.Met {
			b.Fatal(out.Rules)
		}
	}
}

// threeStages asks for two leads, then one owner, then two of two groups.
func threeStages(rules []string) domain.Role {
	role := domain.NewRole("prod-admin", "incarnation")
	role.Target, role.EligibleGroups, role.DenyWhen = "prod", []string{groupID}, ""
	for i, rule := range rules[:3] {
		role.Require = append(role.Require, domain.Requirement{Name: "rule-" + strconv.Itoa(i), When: rule})
	}
	one := func(n int, when string, who ...string) domain.Threshold {
		return domain.Threshold{Approvals: n, Entities: who, When: when}
	}
	role.Stages = []domain.Stage{
		{Name: "leads", AllOf: []domain.Threshold{one(2, rules[3], person(0).ID, person(1).ID, person(2).ID)}},
		{Name: "owner", AnyOf: []domain.Threshold{one(1, "", person(3).ID), one(2, rules[4], person(0).ID, person(2).ID)}},
		{Name: "security", AllOf: []domain.Threshold{one(1, "", person(4).ID), one(1, "", person(5).ID)}},
	}
	return role
}

func person(i int) domain.Entity {
	id := fmt.Sprintf("0b5e5d5c-0000-4000-8000-%012x", 0x1000+i)
	return domain.Entity{ID: id, Aliases: []domain.Alias{{MountAccessor: "auth_userpass_1", MountType: "userpass", Name: id}}}
}

// BenchmarkCompileFiveRules is what the first evaluation after a start or an
// edit costs in addition.
func BenchmarkCompileFiveRules(b *testing.B) {
	e, rules := engine(b), fiveRules()
	b.ReportAllocs()
	for b.Loop() {
		e.Compile(rules, site())
	}
}

// BenchmarkWorstCase is a condition that is stopped because it costs too much.
func BenchmarkWorstCase(b *testing.B) {
	for _, expr := range []string{
		`requester.groups.all(g, g != "a")`,
		`requester.groups.map(g, g + g).size() > 0`,
		`requester.groups.all(g, !g.matches("^(a|b|c).*(d|e|f)$"))`,
	} {
		b.Run(expr, func(b *testing.B) {
			e, in := engine(b), alice()
			for i := range 50000 {
				in.Requester.Groups = append(in.Requester.Groups, "a-group-of-some-length-"+strconv.Itoa(i))
			}
			judge := e.Compile([]string{expr}, site()).Judge(in)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := judge(expr); !errors.Is(err, ErrFailed) {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := New(1); err != nil {
			b.Fatal(err)
		}
	}
}
