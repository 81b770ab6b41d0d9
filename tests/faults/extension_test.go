package faults

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// extension: alice asks for more time, bob grants it, and the process dies in the
// midst: the window is longer once, by what was asked and no more.
func extension(t *testing.T, w *world, step string) {
	role := w.role(t, map[string]any{"ttl": "10m", "max_extension": "10m"})
	id := w.grant(t, role)
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	before := w.windowEnd(t, id)
	w.arm(t, step)
	ask := func() (harness.Answer, error) {
		return do(t, w.alice.Actor, http.MethodPut, w.path("requests/"+id+"/extend"), map[string]any{"ttl": "5m", "justification": "order 4711"})
	}
	again(t, ask)
	again(t, func() (harness.Answer, error) {
		answer, err := w.decide(t, id)
		if !w.windowEnd(t, id).Equal(before) { // perhaps by a call that died, and that the host sent again
			return do(t, w.alice.Actor, http.MethodGet, w.path("requests/"+id), nil)
		}
		return answer, err
	})
	w.crashed(t)
	if got := w.windowEnd(t, id).Sub(before); got != 5*time.Minute {
		t.Fatalf("the window is %s longer", got)
	}
	w.accounted(t, id, 0)
	again(t, func() (harness.Answer, error) {
		return do(t, w.alice.Actor, http.MethodDelete, w.path("requests/"+id), nil)
	})
	w.accountedAsOver(t, id)
}

// windowEnd is when the access of a request ends.
func (w *world) windowEnd(t *testing.T, id string) time.Time {
	t.Helper()
	var end time.Time
	again(t, func() (harness.Answer, error) {
		a, err := do(t, w.alice.Actor, http.MethodGet, w.path("requests/"+id), nil)
		if err != nil || a.Status != http.StatusOK {
			return a, err
		}
		text, ok := a.Data["window_ends_at"].(string)
		if !ok {
			return a, errors.New("no window")
		}
		if end, err = time.Parse(time.RFC3339, text); err != nil {
			return a, fmt.Errorf("window_ends_at: %w", err)
		}
		return a, nil
	})
	return end
}
