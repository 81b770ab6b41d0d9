package access_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/condition"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// largePolicy is a role of three stages and five conditions, with the facts of a
// request that meets it.
func largePolicy(tb testing.TB) func() domain.Outcome {
	tb.Helper()
	role := domain.NewRole("admin", "i")
	role.Target, role.EligibleGroups, role.Approvals = "site", []string{"engineers"}, 0
	role.DenyWhen = `"contractors" in requester.groups && now.getHours("Europe/Vienna") < 8`
	role.AutoApproveWhen = `"on-call" in requester.groups && request.ttl <= duration("1h")`
	role.Require = []domain.Requirement{
		{Name: "ticket", When: `request.ticket.startsWith("OPS-")`}, {Name: "reason", When: `size(request.justification) > 5`},
	}
	prod := func(group string) domain.Threshold {
		return domain.Threshold{Approvals: 1, Groups: []string{group}, When: `role.target == "site"`}
	}
	for i := range 3 {
		role.Stages = append(role.Stages, domain.Stage{AllOf: []domain.Threshold{prod(fmt.Sprint("g", i)), prod(fmt.Sprint("h", i))}})
	}
	r := domain.File(domain.Request{
		ID: "01jnb000000000000000000001", Role: "admin", Target: "site", Ticket: "OPS-1", Justification: "on call", TTL: 3600,
		Requester: domain.Party{Entity: id("alice"), Person: "alice"},
	}, 3600, start)
	f := domain.Facts{Requester: r.Requester, RequesterNow: "alice", Asked: start, Now: start.Add(time.Minute), TTL: 3600}
	for i := range 3 {
		for _, g := range []string{"g", "h"} {
			name := fmt.Sprint(g, i)
			e := person("approver-"+name, name)
			f.Standings = append(f.Standings, domain.Standing{
				Decision: domain.Decision{By: domain.Party{Entity: e.ID, Person: domain.Person(name)}, Verdict: domain.Approve, Stage: i},
				Now:      &e, Person: domain.Person(name),
			})
		}
	}
	engine, err := condition.New(4)
	if err != nil {
		tb.Fatal(err)
	}
	var exprs []string
	for field, expr := range role.Conditions() {
		if wrong := engine.Check(expr, condition.Site{}); len(wrong) > 0 {
			tb.Fatal(field, wrong)
		}
		exprs = append(exprs, expr)
	}
	alice := person("alice", "engineers")
	return func() domain.Outcome {
		f.Judge = engine.Set(role.Revision(), exprs, condition.Site{}).Judge(condition.Input{
			Request: condition.RequestOf(r), Requester: condition.RequesterOf(alice, "alice", false),
			Role: condition.RoleOf(role), Now: f.Now,
		})
		return domain.Evaluate(role, f)
	}
}

// The bounds are 200 µs and 64 KiB for one evaluation; the second is a number
// that no other load changes, so it is a test.
func TestLargePolicyIsCheap(t *testing.T) {
	evaluate := largePolicy(t)
	if o := evaluate(); !o.Met || o.Auto || len(o.Rules) != 7 {
		t.Fatalf("%+v", o)
	}
	if got := testing.Benchmark(BenchmarkLargePolicy).AllocedBytesPerOp(); got > 64<<10 {
		t.Fatalf("one evaluation takes %d bytes", got)
	}
}

func BenchmarkLargePolicy(b *testing.B) {
	evaluate := largePolicy(b)
	b.ReportAllocs()
	for b.Loop() {
		evaluate()
	}
}
