package attacks

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// site is a cluster with a mount; alice may ask and bob approves.
type site struct {
	*harness.Cluster
	pim        *harness.Mount
	target     *harness.HostTarget
	alice, bob *harness.Person
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{Cluster: harness.StartCluster(t, harness.Options{LogLevel: "info"})}
	leader := s.Leader(t)
	s.pim = leader.Mount(t, harness.Plugin{})
	person := s.pim.PersonPolicy(t)
	s.alice, s.bob = leader.Person(t, "alice", person), leader.Person(t, "bob", person)
	policy := leader.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`)
	s.target = s.pim.HostTarget(t, leader.Addr, nil, policy)
	leader.Root().Write(t, s.path("config"), map[string]any{"reap_interval": 1}).OK(t)
	for role, most := range map[string]int{"once": 1, "prod": 10} {
		leader.Root().Write(t, s.path("roles/"+role), map[string]any{
			"target": s.target.Name, "token_policies": policy, "max_credentials": most,
			"eligible_groups": leader.Group(t, "eng-"+role, s.alice).Name, "approver_groups": leader.Group(t, "leads-"+role, s.bob).Name,
		}).OK(t)
	}
	return s
}

func (s *site) path(below string) string { return s.pim.Path + "/" + below }

// call repeats what is answered with 5xx, busy or another node's address, as clients
// do around a change of the leader.
func (s *site) call(t *testing.T, who harness.Actor, method, path string, body any) harness.Answer {
	t.Helper()
	var answer harness.Answer
	poll.Until(t, 4*promised, func() error {
		var err error
		answer, err = who.Do(t.Context(), method, s.path(path), body, nil)
		if err == nil && (answer.Status >= http.StatusInternalServerError || answer.Status/100 == 3 || answer.Data["code"] == "busy") {
			err = fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
		}
		return err
	})
	return answer
}

func (s *site) grant(t *testing.T, role string) (id string) {
	t.Helper()
	asked := s.call(t, s.alice.Actor, http.MethodPut, "request/"+role, map[string]any{"justification": "why"}).OK(t)
	id = asked.String(t, "request_id")
	s.call(t, s.bob.Actor, http.MethodPut, "approvals/"+id, yes(asked.String(t, "digest"))).OK(t)
	return id
}

// opens tells whether a credential works at the leader.
func (s *site) opens(t *testing.T, token string) bool {
	t.Helper()
	answer := do(t, s.Leader(t).Anonymous().With("credential", token), http.MethodGet, "secret/data/prod/none", nil)
	return answer.Status == notFound
}

//nolint:tparallel // one cluster: what is restored is everything
func TestCluster(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	t.Run("A8", func(t *testing.T) { s.standbys(t) })
	t.Run("A11", func(t *testing.T) { s.restore(t) })
}

// A8: every node is asked at the same moment.
func (s *site) standbys(t *testing.T) {
	a := begin(t, "A8", "one grant is read at all nodes of a cluster at once")
	id := s.grant(t, "once")
	var n atomic.Int64
	got, answers := atOnce(t, 21, func() (harness.Answer, error) {
		node := s.Nodes[int(n.Add(1))%len(s.Nodes)]
		return s.alice.At(node).Do(t.Context(), http.MethodGet, s.path("creds/once"), nil, nil)
	})
	tokens := map[string]bool{}
	for _, answer := range answers {
		if token, ok := answer.Data["token"].(string); ok {
			tokens[token] = true
		}
	}
	a.seen(t, got[http.StatusOK] > 0, "nobody got the credential: %v", got)
	a.tried(t, len(tokens) == 1 && got[http.StatusOK] == 1, "%d credentials, answers by status %v", len(tokens), got)
	record := s.call(t, s.Leader(t).Root(), http.MethodGet, "audit/requests/"+id, nil).OK(t)
	list, _ := record.Data["credentials"].([]any)
	a.tried(t, len(list) == 1, "the record has %v", list)
	filed := map[string]bool{}
	_, answers = atOnce(t, 21, func() (harness.Answer, error) {
		node := s.Nodes[int(n.Add(1))%len(s.Nodes)]
		return s.alice.At(node).Do(t.Context(), http.MethodPut, s.path("request/prod"), map[string]any{"justification": "why"}, nil)
	})
	for _, answer := range answers {
		if answer.Status == http.StatusOK {
			filed[answer.String(t, "request_id")] = true
		}
	}
	a.tried(t, len(filed) == 1, "%d requests were filed", len(filed))
	for id := range filed {
		s.call(t, s.alice.Actor, http.MethodDelete, "requests/"+id, nil).OK(t)
	}
}

// A11: the host is put back to when the grant was alive.
func (s *site) restore(t *testing.T) {
	a := begin(t, "A11", "a snapshot from before the end is restored, and the grant is used again")
	id := s.grant(t, "prod")
	pending := s.call(t, s.alice.Actor, http.MethodPut, "request/once", map[string]any{"justification": "why", "ttl": "2h"})
	held := s.call(t, s.alice.Actor, http.MethodGet, "creds/prod", nil).OK(t).String(t, "token")
	snapshot := s.Leader(t).Snapshot(t)
	s.call(t, s.bob.Actor, http.MethodPut, "grants/"+id+"/revoke", map[string]any{"reason": "a laptop was stolen"}).OK(t)
	poll.Until(t, promised, func() error {
		if s.opens(t, held) {
			return fmt.Errorf("the credential works")
		}
		return nil
	})
	a.refused(t, s.call(t, s.alice.Actor, http.MethodGet, "creds/prod", nil), forbidden, "access denied: request "+id+" was revoked")

	s.Leader(t).RestoreSnapshot(t, snapshot)
	// What nobody can know is that this is not the present: the control is that it works.
	again := a.control(t, s.call(t, s.alice.Actor, http.MethodGet, "creds/prod", nil)).String(t, "token")
	a.seen(t, s.opens(t, again), "the restored grant's credential is refused")
	a.control(t, s.call(t, s.Leader(t).Root(), http.MethodPut, "rotate-epoch", nil))
	refused := s.call(t, s.alice.Actor, http.MethodGet, "creds/prod", nil)
	a.tried(t, refused.Status/100 == 4 && refused.Data["token"] == nil, "after rotate-epoch: %d %s", refused.Status, refused.Body)
	refused = s.call(t, s.alice.Actor, http.MethodPut, "creds/prod", map[string]any{"request_id": id})
	a.tried(t, refused.Status/100 == 4 && refused.Data["token"] == nil, "after rotate-epoch, by id: %d %s", refused.Status, refused.Body)
	poll.Until(t, promised, func() error {
		if s.opens(t, again) || s.opens(t, held) {
			return fmt.Errorf("a credential from before rotate-epoch works")
		}
		return nil
	})
	a.tried(t, !s.opens(t, again), "a credential from before rotate-epoch works")
	if pending.Status == http.StatusOK {
		old, digest := pending.String(t, "request_id"), pending.String(t, "digest")
		answer := s.call(t, s.bob.Actor, http.MethodPut, "approvals/"+old, yes(digest))
		a.tried(t, answer.Status/100 == 4, "what was asked before is approved after it: %s", answer.Body)
	}
	poll.Until(t, promised, func() error { // issuing resumes once everything old has ended
		asked := s.call(t, s.alice.Actor, http.MethodPut, "request/prod", map[string]any{"justification": "anew"}).OK(t)
		id, digest := asked.String(t, "request_id"), asked.String(t, "digest")
		if asked.Data["state"] == "pending" {
			s.call(t, s.bob.Actor, http.MethodPut, "approvals/"+id, yes(digest)).OK(t)
		}
		if creds := s.call(t, s.alice.Actor, http.MethodGet, "creds/prod", nil); creds.Status != http.StatusOK {
			return fmt.Errorf("%d %s", creds.Status, creds.Body)
		}
		return nil
	})
}
