//go:build faults

package cases

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// The host cannot store the lease, because it is larger than an entry of its storage
// may be: the credential's token is. It takes the credential back.
func TestR4LeaseCannotBeStored(t *testing.T) {
	t.Parallel()
	node := harness.StartNode(t, harness.Options{RaftLines: "  max_entry_size = \"65536\"\n"})
	s := newStage(t, node)
	maps.DeleteFunc(s.fields, func(field string, _ any) bool {
		return strings.HasPrefix(field, "principal_") || field == "kubernetes_roles" || field == "namespaces"
	})
	maps.Copy(s.fields, map[string]any{"service_account_name": "deployer", "service_account_namespace": "prod"})
	s.call(t, node.Root(), http.MethodPut, s.path("targets/journal"), map[string]any{"token_namespaces": "prod"}).OK(t)
	longest, runs := time.Duration(0), 4*scale()
	for range runs {
		role := s.role(t, nil)
		id := s.grant(t, role)
		s.creds(t, role)
		s.target.Pad(100_000)
		answer, err := s.read(t, node, role)
		if err != nil || answer.Status < http.StatusInternalServerError {
			t.Fatalf("a lease that cannot be stored: %d %s, %v", answer.Status, answer.Body, err)
		}
		s.target.Pad(0)
		s.alive(t, 1)
		for _, e := range s.target.Entries() {
			if e.Request == id && !e.Deleted.IsZero() {
				longest = max(longest, e.Deleted.Sub(e.Made))
			}
		}
		s.creds(t, role)
		s.end(t, id)
		s.alive(t, 0)
	}
	if longest > promised {
		t.Errorf("a credential without a lease lived %s, want at most %s", longest, promised)
	}
	s.close(t, report.Row{
		Case: "R4", What: "the host cannot store the lease", Runs: runs,
		Note: fmt.Sprintf("what had no lease lived %s at most", longest.Round(time.Millisecond)),
	})
}

// The quorum is lost after the plugin has settled and before the host has stored the
// lease: nobody knows whether there is one. The credential is on record and ends with
// its grant.
func TestR4QuorumLostBeforeTheLease(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.Options{})
	c.Leader(t)
	s := newStage(t, c.Nodes...)
	for range heavy() {
		role := s.role(t, nil)
		id := s.grant(t, role)
		leader := c.Leader(t)
		s.pim.PauseAt(t, "after put issue settled")
		done := make(chan struct{})
		go func() {
			defer close(done)
			answer, err := s.alice.At(leader).Do(t.Context(), http.MethodGet, s.path("creds/"+role), nil, nil)
			if err == nil && answer.Status == http.StatusOK {
				t.Errorf("a credential was given out without its lease: %s", answer.Body)
			}
		}()
		if err := s.paused(); err != nil {
			t.Fatal(err)
		}
		for _, node := range s.others(leader) {
			node.Freeze(t)
		}
		s.pim.Continue(t)
		<-done
		for _, node := range s.others(leader) {
			node.Thaw(t)
		}
		c.Leader(t)
		if err := s.onRecord(t); err != nil {
			t.Error(err)
		}
		s.creds(t, role)
		s.end(t, id)
		s.alive(t, 0)
	}
	s.close(t, report.Row{
		Case: "R4", What: "quorum lost between the plugin's last write and the lease", Runs: heavy(),
		Note: "on record, ended with its grant",
	})
}
