package condition

import (
	"errors"
	"strconv"
	"testing"
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
