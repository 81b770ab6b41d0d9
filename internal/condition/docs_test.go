package condition

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
)

func page(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/conditions.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// examples are the page's blocks of CEL by the heading above them.
func examples(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	heading := ""
	var block []string
	inside := false
	for line := range strings.Lines(page(t)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "### "):
			heading = strings.TrimPrefix(line, "### ")
		case line == "```cel":
			inside, block = true, nil
		case line == "```" && inside:
			if _, twice := out[heading]; twice {
				t.Fatalf("two examples under %q", heading)
			}
			inside, out[heading] = false, strings.Join(block, "\n")
		case inside:
			block = append(block, line)
		}
	}
	return out
}

func TestExamplesOfThePage(t *testing.T) {
	t.Parallel()
	e, all := engine(t), examples(t)
	const oidc = "auth_oidc_1a2b3c4d"
	for heading, row := range map[string]struct{ holds, fails func(*Input) }{
		"On call, for an hour at most": {
			func(in *Input) { in.Requester.Groups = []string{"on-call"} },
			func(in *Input) { in.Requester.Groups, in.Request.TTL = []string{"on-call"}, 2*time.Hour },
		},
		"Working hours in Berlin": {
			func(in *Input) { in.Now = time.Date(2026, 7, 15, 6, 0, 0, 0, time.UTC) },
			func(in *Input) { in.Now = time.Date(2026, 1, 14, 6, 59, 0, 0, time.UTC) },
		},
		"A ticket of the change calendar": {
			func(in *Input) { in.Request.Ticket = "CHG-4711" },
			func(in *Input) { in.Request.Ticket = "see CHG-4711" },
		},
		"Only the protected branch deploys": {
			func(in *Input) {
				in.Token.Meta = map[string]string{"ref": "refs/heads/main", "environment": "production"}
			},
			func(in *Input) { in.Token.Meta = map[string]string{"ref": "refs/heads/main"} },
		},
		"Logged in with the company's OIDC within the last quarter of an hour": {
			func(in *Input) { in.Token.Mount, in.Token.Created = oidc, in.Now.Add(-15*time.Minute) },
			func(in *Input) { in.Token.Mount, in.Token.Created = oidc, in.Now.Add(-16*time.Minute) },
		},
		"Production asks for more than staging": {
			func(in *Input) { in.Params["env"], in.Request.Ticket = "staging", "" },
			func(in *Input) { in.Params["env"], in.Request.Ticket = "production", "" },
		},
		"The team that the role is for": {
			func(in *Input) {
				in.Role.Labels, in.Requester.Groups = map[string]string{"team": "db"}, []string{"team-db"}
			},
			func(in *Input) { in.Role.Labels, in.Requester.Groups = map[string]string{}, []string{"team-db"} },
		},
		"People of the vendor, known by their mail address": {
			func(in *Input) { in.Requester.Aliases[oidc] = []string{"alice@vendor.example.com"} },
			func(in *Input) { in.Requester.Aliases[oidc] = []string{"alice@vendor.example.com.evil.example"} },
		},
		"Used in the last 90 days and never denied": {
			func(*Input) {},
			func(in *Input) { in.History.LastUsed = time.Time{} },
		},
		"At an hour at which this person has never used it": {
			func(in *Input) { in.History.Count, in.History.Hours = 5, []int{8, 9} },
			func(in *Input) { in.History.Count, in.History.Hours = 5, []int{8, 12} },
		},
		"Asked for at least a day ahead": {
			func(in *Input) { in.Request.Start = in.Now.Add(24 * time.Hour) },
			func(*Input) {},
		},
		"Waited for ten minutes": {
			func(*Input) {},
			func(in *Input) { in.Request.RequestedAt = in.Now.Add(-9 * time.Minute) },
		},
	} {
		expr, ok := all[heading]
		if !ok {
			t.Errorf("the page has no example %q", heading)
			continue
		}
		delete(all, heading)
		in := alice()
		row.holds(&in)
		if met, err := judge(t, e, in, expr); !met || err != nil {
			t.Errorf("%s: does not hold: %v", heading, err)
		}
		in = alice()
		row.fails(&in)
		if met, _ := judge(t, e, in, expr); met {
			t.Errorf("%s: holds", heading)
		}
	}
	for heading := range all {
		t.Errorf("nobody runs the example %q", heading)
	}
}

func TestThePageNamesEveryVariable(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"now": cel.FormatCELType(cel.TimestampType), "params": cel.FormatCELType(textMap()),
	}
	for variable, fields := range objects() {
		for name, f := range fields {
			want[variable+"."+name] = cel.FormatCELType(f.kind)
		}
	}
	got := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| ([a-z(), ]+) \\| .+ \\|$").FindAllStringSubmatch(page(t), -1) {
		if strings.Contains(row[1], ".") || row[1] == "now" || row[1] == "params" {
			got[row[1]] = row[2]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s is of type %s, the page says %q", name, want[name], got[name])
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("the page names variables that are not there: %v", got)
	}
}
