package acceptance

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// The story over three nodes: every step at another one, and another leader
// between any two that depend on each other.
func TestStoryMovesFromNodeToNode(t *testing.T) {
	t.Parallel()
	cluster := harness.StartCluster(t, harness.Options{})
	s := newStory(t, cluster.Leader(t), harness.Plugin{})
	creds := s.path("creds/prod-read")

	standbys := cluster.Standbys(t)
	asked := s.alice.At(standbys[0]).Write(t, s.path("request/prod-read"),
		map[string]any{"justification": "order 4711 is stuck"}).OK(t)
	id := asked.String(t, "request_id")

	cluster.StepDown(t)
	standbys = cluster.Standbys(t)
	s.alice.At(standbys[0]).Read(t, creds).Refused(t, http.StatusBadRequest, "approval pending: ")
	shown := s.bob.At(standbys[1]).Read(t, s.path("approvals/"+id)).OK(t)
	s.bob.At(standbys[1]).Write(t, s.path("approvals/"+id),
		map[string]any{"decision": "approve", "digest": shown.String(t, "digest")}).OK(t)

	cluster.StepDown(t)
	issued := s.alice.At(cluster.Standbys(t)[1]).Read(t, creds).OK(t)
	token := issued.String(t, "token")
	for _, node := range cluster.Nodes {
		if !s.at(node).readsSecret(t, token) {
			t.Errorf("the credential does not work at %s", node.Addr)
		}
	}

	leader := cluster.StepDown(t)
	s.bob.At(cluster.Standbys(t)[0]).Write(t, s.path("grants/"+id+"/revoke"), map[string]any{"reason": "done"}).OK(t)
	if s.at(leader).readsSecret(t, token) {
		t.Error("the credential outlives its grant at the leader")
	}
	// A standby that answers reads by itself hears of the end a moment later.
	poll.Until(t, 15*time.Second, func() error {
		for _, node := range cluster.Nodes {
			if s.at(node).readsSecret(t, token) {
				return fmt.Errorf("the credential still works at %s", node.Addr)
			}
		}
		return nil
	})
}
