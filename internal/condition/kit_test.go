package condition

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

const (
	aliceID = "0b5e5d5c-0000-4000-8000-00000000000a"
	groupID = "0b5e5d5c-0000-4000-8000-0000000000f1"
)

// noon is a Wednesday, 12:30 UTC, in Berlin's summer time.
func noon() time.Time { return time.Date(2026, 7, 15, 12, 30, 0, 0, time.UTC) }

func engine(tb testing.TB) *Engine {
	tb.Helper()
	e, err := New(16)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func site() Site { return Site{Token: true, Params: []string{"env", "database"}} }

// alice asks for prod-admin.
func alice() Input {
	return Input{
		Request: RequestFacts{
			ID: "01jz0000000000000000000000", Kind: "normal", Role: "prod-admin", Target: "prod",
			Justification: "restore a backup", Ticket: "OPS-17", TTL: time.Hour, RequestedAt: noon().Add(-10 * time.Minute),
		},
		Requester: RequesterFacts{
			ID: aliceID, Person: "entity:" + aliceID, Groups: []string{groupID, "oncall"},
			Metadata: map[string]string{"team": "storage"},
			Aliases:  map[string][]string{"auth_userpass_1": {"alice"}},
		},
		Token:   &TokenFacts{Meta: map[string]string{"ref": "main"}, Created: noon().Add(-time.Minute), Path: "auth/userpass/login/alice", Mount: "auth_userpass_1", Type: "service"},
		Role:    RoleFacts{Name: "prod-admin", Owner: "bob", Target: "prod", Labels: map[string]string{"tier": "1"}},
		Now:     noon(),
		Params:  map[string]string{"env": "prod"},
		History: &HistoryFacts{LastUsed: noon().Add(-48 * time.Hour), Count: 3, Hours: []int{8, 12}},
	}
}

func judge(tb testing.TB, e *Engine, in Input, expr string) (bool, error) {
	tb.Helper()
	if problems := e.Check(expr, site()); len(problems) > 0 {
		tb.Fatalf("%s: %v", expr, problems)
	}
	return e.Compile([]string{expr}, site()).Judge(in)(expr)
}

var _ domain.Judge = (&Set{}).Judge(Input{})
