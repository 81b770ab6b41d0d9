package faults

import (
	"fmt"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// unanswered: nobody answers in time, alice is not on call, and the process dies while
// it writes down that it looked: bob decides all the same, once.
func unanswered(t *testing.T, w *world, step string) {
	role := w.role(t, map[string]any{
		"approver_groups": "",
		"stages": fmt.Sprintf(`[{"all_of": [{"approvals": 1, "groups": [%q]}], "timeout": 1, "on_timeout": "approve", "on_call_when": "false"}]`,
			w.fields["approver_groups"]),
	})
	w.arm(t, step)
	id := w.ask(t, role)
	w.crashed(t)
	again(t, func() (harness.Answer, error) { return w.decide(t, id) })
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	w.accounted(t, id, 0)
	again(t, func() (harness.Answer, error) {
		return do(t, w.alice.Actor, "DELETE", w.path("requests/"+id), nil)
	})
	w.accountedAsOver(t, id)
}
