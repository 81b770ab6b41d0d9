//go:build faults && soak

package cases

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/journal"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// givesUp is how long the host tries by itself: six times, 20 s to 320 s apart and half
// as much again.
const givesUp = 25 * time.Minute

// The target refuses deletions for so long that the host gives up on the lease, by
// nobody's moved clock. pim goes on, and the lease can be revoked in the end.
func TestR8HostGivesUp(t *testing.T) {
	t.Parallel()
	node := harness.StartNode(t, harness.Options{})
	s := newStage(t, node)
	root := node.Root()
	role := s.role(t, map[string]any{"ttl": "8h", "max_ttl": "8h"})
	s.grant(t, role)
	creds := s.creds(t, role)
	s.target.Before(func(c journal.Call) int {
		if c.Verb == "delete" {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	began := time.Now()
	root.Write(t, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": false}).OK(t)
	poll.Until(t, givesUp, func() error {
		answer := root.Read(t, "sys/leases?type=irrevocable&include_child_namespaces=false&limit=100")
		if !strings.Contains(string(answer.Body), creds.LeaseID) {
			return fmt.Errorf("the host has not given up after %s: %d %s", time.Since(began), answer.Status, answer.Body)
		}
		return nil
	})
	gaveUp := time.Since(began)
	s.target.Before(nil)
	healed := time.Now()
	s.ledger.leaseDue(creds.String(t, "pim_credential_id"), healed)
	s.within(t, 10*time.Minute+promised, creds)
	took := time.Since(healed)
	s.revokeLease(t, creds)
	s.close(t, report.Row{
		Case: "R8", What: "target refuses deletions until the host gives up on the lease", Runs: 1,
		Note: fmt.Sprintf("the host gave up after %s; gone %s after the target healed", gaveUp.Round(time.Second), took.Round(time.Second)),
	})
}
