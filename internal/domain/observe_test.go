package domain

import (
	"strings"
	"testing"
)

func TestObserving(t *testing.T) {
	role := testRole()
	role.Enforce, role.ObserveUntil = EnforceObserve, at("24h")
	if !role.Observing(at("23h")) || role.Observing(at("24h")) || testRole().Observing(t0) {
		t.Fatal("a policy is observed until its time, and not without one")
	}
	waits := Evaluate(role, factsOf(party("alice").Person, nil))
	r, o := asked().Observe(waits)
	if !o.Met || !o.Auto || !strings.HasPrefix(r.Observed, "would have waited: approvals: 0 of 1") {
		t.Fatalf("%+v, %q", o, r.Observed)
	}
	r = File(r, 3600, t0)
	if last := r.History.Entries[len(r.History.Entries)-1]; last.What != "observed" || !strings.Contains(last.Text, "would have waited") {
		t.Fatalf("history: %+v", last)
	}
	role.DenyWhen = "cannot be judged"
	if r, o := asked().Observe(Evaluate(role, factsOf(party("alice").Person, nil))); !o.Met || o.Blocked || !strings.HasPrefix(r.Observed, "would have been refused: ") {
		t.Fatalf("%+v, %q", o, r.Observed)
	}
	if s := Evaluate(testRole(), factsOf(party("alice").Person, []Standing{standing("bob")})).Sentence(); s != "would have been approved" {
		t.Fatal(s)
	}
	long := Outcome{Rules: []RuleResult{{Rule: "x", Status: Unmet, Reason: strings.Repeat("é", 2000)}}}
	if s := long.Sentence(); len(s) > 1100 || !strings.HasSuffix(s, "…") {
		t.Fatalf("%d bytes", len(s))
	}
}

func TestObserveThatIsRefused(t *testing.T) {
	rows := []struct {
		name  string
		edit  func(*Role)
		field string
	}{
		{"without an end", func(r *Role) { r.Enforce = EnforceObserve }, "observe_until"},
		{"an end without it", func(r *Role) { r.ObserveUntil = at("1h") }, "observe_until"},
		{"another word", func(r *Role) { r.Enforce = "never" }, "enforce"},
		{"where nobody decides", func(r *Role) {
			r.Enforce, r.ObserveUntil, r.AutoApprove, r.Approvals, r.ApproverGroups = EnforceObserve, at("1h"), true, 0, nil
		}, "enforce"},
		{"where the end must bite", func(r *Role) { r.Enforce, r.ObserveUntil, r.MinRevocation = EnforceObserve, at("1h"), Immediate }, "enforce"},
		{"where there is an emergency path", func(r *Role) {
			r.Enforce, r.ObserveUntil, r.BreakGlassGroups = EnforceObserve, at("1h"), []string{"on-call"}
		}, "enforce"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := testRole()
			row.edit(&r)
			if p := r.Problems(); len(p) != 1 || p[0].Field != row.field {
				t.Fatalf("%v, want %s", p, row.field)
			}
		})
	}
}
