package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// quorate is a mount on three nodes. Its target is behind a proxy, so that a test
// can make revocations fail.
type quorate struct {
	*harness.Cluster
	pim        *harness.Mount
	proxy      *harness.Recorder
	alice, bob *harness.Person
	fields     map[string]any
}

func newQuorate(t *testing.T) *quorate {
	t.Helper()
	q := &quorate{Cluster: harness.StartCluster(t, harness.Options{})}
	leader := q.Leader(t)
	q.pim = leader.Mount(t, harness.Plugin{})
	person := q.pim.PersonPolicy(t)
	q.alice, q.bob = leader.Person(t, "alice", person), leader.Person(t, "bob", person)
	policy := leader.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`)
	q.proxy = harness.NewRecorder(t, leader.Addr)
	q.fields = map[string]any{
		"target": q.pim.HostTarget(t, q.proxy.URL, nil, policy).Name, "token_policies": policy,
		"eligible_groups": leader.Group(t, "eng", q.alice).Name, "approver_groups": leader.Group(t, "leads", q.bob).Name,
	}
	leader.Root().Write(t, q.path("config"), map[string]any{"reap_interval": 1}).OK(t)
	for _, role := range []string{"stays", "stuck", "held", "fresh"} {
		leader.Root().Write(t, q.path("roles/"+role), q.fields).OK(t)
	}
	return q
}

func (q *quorate) path(below string) string { return q.pim.Path + "/" + below }

// call does what clients do around an election: it repeats what is answered with
// 5xx or busy, and what finds no server.
func (q *quorate) call(t *testing.T, who harness.Actor, method, path string, body any) harness.Answer {
	t.Helper()
	var answer harness.Answer
	poll.Until(t, settles, func() error {
		var err error
		answer, err = who.Do(t.Context(), method, path, body, nil)
		if err == nil && (answer.Status >= http.StatusInternalServerError || answer.Data["code"] == "busy") {
			err = fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
		}
		return err
	})
	return answer
}

// node is the n-th node, counted on and on.
func (q *quorate) node(n int) *harness.Host { return q.Nodes[n%len(q.Nodes)] }

// grant has alice ask at one node and bob approve at the next.
func (q *quorate) grant(t *testing.T, role string, n int) (id string) {
	t.Helper()
	asked := q.call(t, q.alice.At(q.node(n)), http.MethodPut, q.path("request/"+role), map[string]any{"justification": "order 4711"}).OK(t)
	id = asked.String(t, "request_id")
	q.call(t, q.bob.At(q.node(n+1)), http.MethodPut, q.path("approvals/"+id),
		map[string]any{"decision": "approve", "digest": asked.String(t, "digest")}).OK(t)
	return id
}

func (q *quorate) creds(t *testing.T, role string, n int) harness.Answer {
	t.Helper()
	return q.call(t, q.alice.At(q.node(n)), http.MethodGet, q.path("creds/"+role), nil)
}

// everywhere waits until a token works at all nodes, or at none: a standby that
// answers by itself hears of things a moment later.
func (q *quorate) everywhere(t *testing.T, token string, works bool) {
	t.Helper()
	want := map[bool]int{true: http.StatusNotFound, false: http.StatusForbidden}[works]
	poll.Until(t, settles, func() error {
		for _, node := range q.Nodes {
			answer, err := q.alice.At(node).With("credential", token).Do(t.Context(), http.MethodGet, "secret/data/prod/none", nil, nil)
			if err == nil && answer.Status != want {
				err = fmt.Errorf("%s: %d, want %d", node.Addr, answer.Status, want)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// What was there before an election is there after it, for everybody at every node:
// grants, credentials, holds, and what is still to be ended.
//
//nolint:tparallel // one cluster, one election at a time
func TestElectionsLoseNothing(t *testing.T) {
	t.Parallel()
	q := newQuorate(t)
	q.grant(t, "stays", 0)
	stays := q.creds(t, "stays", 2).OK(t)
	stuckID := q.grant(t, "stuck", 1)
	stuck := q.creds(t, "stuck", 0).OK(t).String(t, "token")
	q.grant(t, "held", 2)
	q.call(t, q.Nodes[1].Root(), http.MethodPut, q.path("holds"), map[string]any{"role": "held", "reason": "incident"}).OK(t)

	// The target takes no revocation while the leader changes.
	q.proxy.Fault(func(req *http.Request) int {
		if strings.HasSuffix(req.URL.Path, "auth/token/revoke-accessor") {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	q.call(t, q.bob.At(q.node(2)), http.MethodPut, q.path("grants/"+stuckID+"/revoke"), map[string]any{"reason": "done"}).OK(t)
	q.everywhere(t, stuck, true)
	q.StepDown(t)
	q.proxy.Fault(nil)

	t.Run("the reaper of the new leader ends what the old one could not", func(t *testing.T) {
		q.everywhere(t, stuck, false)
		poll.Until(t, settles, func() error {
			record := q.call(t, q.Leader(t).Root(), http.MethodGet, q.path("audit/requests/"+stuckID), nil).OK(t)
			if text := fmt.Sprint(record.Data["credentials"]); !strings.Contains(text, " gone,") {
				return errors.New(text)
			}
			return nil
		})
	})
	t.Run("a hold holds at every node", func(t *testing.T) {
		for n := range q.Nodes {
			if got := q.creds(t, "held", n); got.Status != forbidden || got.Data["code"] != "held" {
				t.Errorf("%s: %d %s", got.Request, got.Status, got.Body)
			}
		}
	})
	t.Run("elections in a row, with a whole story in each", func(t *testing.T) {
		for n := range 2 {
			q.StepDown(t)
			q.everywhere(t, stays.String(t, "token"), true)
			id := q.grant(t, "fresh", n)
			token := q.creds(t, "fresh", n+2).OK(t).String(t, "token")
			q.everywhere(t, token, true)
			q.call(t, q.alice.At(q.node(n+1)), http.MethodDelete, q.path("requests/"+id), nil).OK(t)
			q.everywhere(t, token, false)
		}
	})
	t.Run("a lease from before all of them is revoked", func(t *testing.T) {
		q.call(t, q.node(0).Root(), http.MethodPut, "sys/leases/revoke", map[string]any{"lease_id": stays.LeaseID, "sync": true}).OK(t)
		q.everywhere(t, stays.String(t, "token"), false)
	})
	t.Run("a window that ends during an election ends", func(t *testing.T) {
		role := map[string]any{"ttl": 8, "min_ttl": 1}
		maps.Copy(role, q.fields)
		q.call(t, q.Leader(t).Root(), http.MethodPut, q.path("roles/short"), role).OK(t)
		id := q.grant(t, "short", 0)
		token := q.creds(t, "short", 1).OK(t).String(t, "token")
		q.StepDown(t)
		q.everywhere(t, token, false)
		poll.Until(t, settles, func() error { return q.isOver(t, id) })
	})
}

// isOver tells whether a record says what only the reaper writes: ended, and gone.
func (q *quorate) isOver(t *testing.T, id string) error {
	t.Helper()
	record := q.call(t, q.Leader(t).Root(), http.MethodGet, q.path("audit/requests/"+id), nil).OK(t)
	if record.Data["state"] != "ended" || !strings.Contains(fmt.Sprint(record.Data["credentials"]), " gone,") {
		return fmt.Errorf("%v, %v", record.Data["state"], record.Data["credentials"])
	}
	return nil
}
