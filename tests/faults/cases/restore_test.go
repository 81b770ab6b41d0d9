//go:build faults

package cases

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// A snapshot of before an approval was used is restored: what was given out since is
// on no record any more, and what has ended is back. rotate-epoch ends both.
func TestR17SnapshotRestored(t *testing.T) {
	t.Parallel()
	node := harness.StartNode(t, harness.Options{})
	s := newStage(t, node)
	root := node.Root()
	for range heavy() {
		ended, unused := s.role(t, nil), s.role(t, nil)
		endedID := s.grant(t, ended)
		unusedID := s.grant(t, unused)
		back := s.creds(t, ended)
		image := node.Snapshot(t)

		s.end(t, endedID)
		s.creds(t, unused)
		s.end(t, unusedID)
		stray := s.role(t, nil)
		strayID := s.grant(t, stray)
		lost := s.creds(t, stray)
		node.RestoreSnapshot(t, image)
		s.serving(t)

		// What ended is back on record; the end that was told counts no more.
		s.ledger.forget(endedID, unusedID)
		s.ledger.endAsked(strayID)
		s.call(t, root, http.MethodPut, s.path("rotate-epoch"), nil).OK(t)
		for _, id := range []string{endedID, unusedID} {
			poll.Until(t, patience, func() error {
				state := fmt.Sprint(s.call(t, root, http.MethodGet, s.path("audit/requests/"+id), nil).Data["state"])
				if state == "active" || state == "pending" {
					return fmt.Errorf("a request of before the restore is %s", state)
				}
				return nil
			})
		}
		s.within(t, grace, back)
		s.within(t, grace, lost)
		for _, role := range []string{ended, unused} {
			if answer, err := s.read(t, node, role); err != nil || answer.Status == http.StatusOK {
				t.Errorf("an approval was used twice: %d %s, %v", answer.Status, answer.Body, err)
			}
		}
	}
	s.close(t, report.Row{
		Case: "R17", What: "snapshot restored of before approvals were used, then rotate-epoch", Runs: 3 * heavy(),
		Note: "one that had ended, one unused, one given out since",
	})
}

// serving waits until the mount takes writes.
func (s *stage) serving(t *testing.T) {
	t.Helper()
	s.call(t, s.nodes[0].Root(), http.MethodPut, s.path("config"), map[string]any{"reap_interval": 1}).OK(t)
}

// forget takes back that requests have ended: a restore has made them what they were.
func (l *ledger) forget(requests ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range requests {
		delete(l.ending, id)
		delete(l.ended, id)
	}
}
