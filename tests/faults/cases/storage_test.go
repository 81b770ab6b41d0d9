package cases

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// The plugin's writes fail, half of them after they were made, at 5, 20 and 50 in a
// hundred. Clients try again. No decision is lost or counted twice, and nothing is
// given out without one.
func TestR3WritesFail(t *testing.T) {
	t.Parallel()
	node := harness.StartNode(t, harness.Options{})
	s := newStage(t, node)
	for _, percent := range []int{5, 20, 50} {
		for range 3 * scale() {
			role := s.role(t, nil)
			node.FailWrites(t, percent, "")
			id := s.grant(t, role)
			first := s.creds(t, role)
			s.creds(t, role)
			s.revokeLease(t, first)
			s.end(t, id)
			node.FailWrites(t, 0, "")
			record := s.call(t, node.Root(), http.MethodGet, s.path("audit/requests/"+id), nil).OK(t)
			if list, ok := record.Data["decisions"].([]any); !ok || len(list) != 1 {
				t.Errorf("%d %%: decisions on record: %v, want one", percent, record.Data["decisions"])
			}
			if got := fmt.Sprint(record.Data["state"]); got != "revoked" {
				t.Errorf("%d %%: the request is %s, want revoked", percent, got)
			}
		}
	}
	s.alive(t, 0)
	text, err := node.Log()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text, "panic"); n > 0 {
		t.Errorf("%d panics", n)
	}
	s.close(t, report.Row{
		Case: "R3", What: "writes of the plugin fail, 5, 20 and 50 %", Runs: int(s.calls.Load()),
		Note: "runs are calls; one decision on each record",
	})
}
