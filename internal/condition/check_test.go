package condition

import (
	"slices"
	"strings"
	"testing"
)

func TestWhatIsRefusedWhenWritten(t *testing.T) {
	t.Parallel()
	e := engine(t)
	plain := Site{}
	for _, row := range []struct {
		sentence, expr string
		site           Site
		want           []string
	}{
		{"nothing", " \n", plain, []string{"is empty"}},
		{"a text", `request.id`, plain, []string{"the whole must be true or false"}},
		{"a value of any type", `dyn(true) == 1`, plain, []string{"line 1, column 4: no such variable or function"}},
		{"a type", `type(1) == int`, plain, []string{"line 1, column 5: no such variable or function"}},
		{"a whole object", `request == request`, plain, []string{"line 1, column 1: one of its fields is needed here", "line 1, column 12: one of its fields is needed here"}},
		{"whether there is an object", `has(request)`, plain, []string{"line 1, column 5: has() takes a field or key with a dot"}},
		{"a fact of one's own making", `[{"env": "prod"}].exists(params, params.env == "prod")`, site(), []string{"line 1, column 25: what goes through a list must not be called like a variable"}},
		{"parentheses without end", strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100), plain, []string{"nested too deeply"}},
		{"half an expression", `request.id ==`, plain, []string{"line 1, column 14: not valid syntax"}},
		{"an unknown variable", `secret == 1`, plain, []string{"line 1, column 1: no such variable or function"}},
		{"an unknown field", `request.secret == ""`, plain, []string{"line 1, column 8: no such field"}},
		{"an alias's metadata", `requester.aliases["a"].metadata == ""`, plain, []string{"line 1, column 23: this has no fields"}},
		{"the accessor of the token", `token.accessor == ""`, site(), []string{"line 1, column 6: no such field"}},
		{"a duration compared with a number", `request.ttl < 3600`, plain, []string{"line 1, column 13: the operator or function does not take values of these types"}},
		{
			"two faults on two lines", "request.secret == ''\n  && nobody", plain,
			[]string{"line 1, column 8: no such field", "line 2, column 6: no such variable or function"},
		},
		{"the token, without a token_target", `token.age < duration("1m")`, plain, []string{"line 1, column 1: token is known to roles with a token_target alone"}},
		{"a parameter that is not declared", `params.env == "x" && params["db"] == "y" && has(params.c)`, Site{Params: []string{"env"}}, []string{
			"line 1, column 28: the role declares no such parameter", "line 1, column 48: the role declares no such parameter",
		}},
		{"a pattern that does not compile", `request.ticket.matches("(")`, plain, []string{"line 1, column 24: not a valid RE2 pattern"}},
		{"a pattern from the requester", `request.justification.matches(request.ticket)`, plain, []string{"line 1, column 30: the pattern of matches must be written out"}},
		{"a pattern from the requester, as a function", `matches("x", params.env)`, site(), []string{"line 1, column 8: the pattern of matches must be written out"}},
		{"a pattern put together", `request.ticket.matches("a" + "b")`, plain, []string{"line 1, column 23: the pattern of matches must be written out"}},
		{"a huge pattern", `request.ticket.matches("((a{50}){50}){50}")`, plain, []string{"line 1, column 24: not a valid RE2 pattern"}},
		{"a large pattern", `request.ticket.matches("[a-z]{900}.{900}[0-9]{900}")`, plain, []string{"line 1, column 24: the pattern is too large"}},
		{"a zone that does not exist", `now.getHours("Europe/Atlantis") == 1`, plain, []string{"line 1, column 13: the time zone must be written out, as a name of the IANA database or UTC"}},
		{"a zone out of the file system", `now.getHours("../../etc/passwd") == 1`, plain, []string{"line 1, column 13: the time zone must be written out, as a name of the IANA database or UTC"}},
		{"a zone from the requester", `now.getHours(params.env) == 1`, site(), []string{"line 1, column 13: the time zone must be written out, as a name of the IANA database or UTC"}},
		{"the zone of the machine", `now.getHours("Local") == 1`, plain, []string{"line 1, column 13: the time zone must be written out, as a name of the IANA database or UTC"}},
		{"no duration", `request.ttl < duration("soon")`, plain, []string{"line 1, column 24: not a duration"}},
		{"no time", `now < timestamp("tomorrow")`, plain, []string{"line 1, column 17: not a time in the form of RFC 3339"}},
		{"an object", `google.protobuf.BoolValue{value: true} == true`, plain, []string{"line 1, column 26: objects cannot be made"}},
		{"an optional", `request.?id.hasValue()`, plain, []string{"line 1, column 8: not valid syntax"}},
		{
			"what grows with the cube of the groups",
			`requester.groups.all(a, requester.groups.all(b, requester.groups.all(c, c != a + b)))`, plain,
			[]string{"line 1, column 69: all, exists, exists_one, filter and map may be nested once"},
		},
		{
			"what grows with the square of the groups", `requester.groups.all(a, requester.groups.all(b, a == b))`, plain,
			[]string{"may cost more than 50000 units; go through fewer things, or write it as several conditions"},
		},
		{"what is too long", strings.Repeat(" ", MaxExpression) + "true", plain, []string{"longer than 2048 bytes"}},
		{"what is not what it seems", "true \u202e", plain, []string{"has control or bidirectional characters"}},
		{"a terminal's colours", "true \x1b[1m", plain, []string{"has control or bidirectional characters"}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Parallel()
			if got := e.Check(row.expr, row.site); !slices.Equal(got, row.want) {
				t.Errorf("got  %q\nwant %q", got, row.want)
			}
		})
	}
}

func TestWhatMayBeWritten(t *testing.T) {
	t.Parallel()
	e := engine(t)
	for _, expr := range []string{
		"true",
		"request.ttl <= duration('1h') &&\n\t'oncall' in requester.groups",
		`requester.groups.exists_one(g, g.startsWith("team-"))`,
		`requester.groups.filter(g, g.startsWith("team-")).size() == 1`,
		`requester.groups.exists(g, has(role.labels.team) && g == "team-" + role.labels.team)`,
		`requester.aliases.exists(m, requester.aliases[m].exists(n, n.endsWith("@example.com")))`,
		`request.justification.matches("(?i)^(restore|incident) .{10,}$")`,
		`now.getDayOfWeek("Europe/Berlin") in [1, 2, 3, 4, 5] && now.getHours("Europe/Berlin") >= 9`,
		`[1, 2, 3].map(x, x * 2).exists(x, x == 4)`,
	} {
		if got := e.Check(expr, site()); len(got) > 0 {
			t.Errorf("%s: %q", expr, got)
		}
	}
}

func TestProblemsNeverQuoteTheExpression(t *testing.T) {
	t.Parallel()
	e := engine(t)
	for _, expr := range []string{
		`canary == 1`, `request.canary == ""`, `"canary" > 1`, `canary(`, `request.ticket.matches("(canary")`,
		`timestamp("canary") < now`, `duration("canary") < request.ttl`, `canary.canary{}`, `params.canary == ""`,
		`"canary`, `now.getHours("canary") == 1`, `token.canary`, `canary.exists(canary, canary)`, `'\canary'`, "`canary`",
	} {
		got := e.Check(expr, Site{})
		if len(got) == 0 || strings.Contains(strings.Join(got, " "), "canary") {
			t.Errorf("%s: %q", expr, got)
		}
	}
}

func TestThereIsAnEndToProblems(t *testing.T) {
	t.Parallel()
	got := engine(t).Check(strings.Repeat("x + ", 20)+"x", Site{})
	if len(got) != maxProblems+1 || got[maxProblems] != "and more" {
		t.Errorf("%d problems: %q", len(got), got)
	}
}
