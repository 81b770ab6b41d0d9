package cases

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/journal"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	// patience is how long a client goes on after 5xx, busy, or no answer: an
	// election, a host that starts, and the 45 s in which a cut call may still land.
	patience = 90 * time.Second
	// grace is how long after everything has been ended something may be left.
	grace = 90 * time.Second
)

// stage is a mount with a journaling target; alice may ask, bob approves.
type stage struct {
	nodes      []*harness.Host
	pim        *harness.Mount
	target     *journal.Target
	alice, bob *harness.Person
	fields     map[string]any // of its roles
	ledger     *ledger
	roles      int
	calls      atomic.Int64
}

// newStage mounts the plugin at the first of the nodes.
func newStage(t *testing.T, nodes ...*harness.Host) *stage {
	t.Helper()
	s := &stage{nodes: nodes, target: journal.Start(t), ledger: newLedger()}
	host := nodes[0]
	s.pim = host.Mount(t, harness.Plugin{Variant: harness.Faults})
	person := s.pim.PersonPolicy(t)
	s.alice, s.bob = host.Person(t, "alice", person), host.Person(t, "bob", person)
	root := host.Root()
	root.Write(t, s.path("config"), map[string]any{"reap_interval": 1, "issue_rate": 100_000, "person_max_open": 10_000, "max_open": 100_000}).OK(t)
	root.Write(t, s.path("targets/journal"), map[string]any{
		"type": "kubernetes", "host": s.target.URL, "ca_cert": s.target.CA, "token": "engine-token", "managed_namespaces": "prod",
	}).OK(t)
	userpass, ok := root.Read(t, "sys/auth").OK(t).Data["userpass/"].(map[string]any)
	if !ok {
		t.Fatal("there is no userpass")
	}
	s.fields = map[string]any{
		"target": "journal", "kubernetes_roles": "ClusterRole/view", "namespaces": "prod",
		"principal_source": fmt.Sprintf("alias:%s", userpass["accessor"]), "principal_prefix": "oidc:",
		"eligible_groups": host.Group(t, "eng", s.alice).Name, "approver_groups": host.Group(t, "leads", s.bob).Name,
		"ttl": "1h", "min_ttl": 1, "max_credentials": 32, "max_active": 1,
	}
	return s
}

func (s *stage) path(below string) string { return s.pim.Path + "/" + below }

// hostName is the host and its version, and how many nodes there are.
func (s *stage) hostName(t *testing.T) string {
	t.Helper()
	return report.HostName(t, s.nodes[0].Bin, len(s.nodes))
}

// call does what a client does: it repeats what is answered with 5xx, with busy or
// not at all, at one node after the other.
func (s *stage) call(t *testing.T, who harness.Actor, method, path string, body any) harness.Answer {
	t.Helper()
	var answer harness.Answer
	n := 0
	poll.Until(t, patience, func() error {
		node := s.nodes[n%len(s.nodes)]
		n++
		s.calls.Add(1)
		var err error
		if answer, err = who.At(node).Do(t.Context(), method, path, body, nil); err != nil {
			return err
		}
		if again(answer) {
			return fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
		}
		return nil
	})
	return answer
}

// serves tells whether the mount answers alice.
func (s *stage) serves() error {
	answer, err := s.alice.Do(context.Background(), "LIST", s.path("eligible/"), nil, nil)
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
	}
	return err
}

// again tells whether an answer asks for another try. A host that is sealed or has
// no leader answers 5xx; a standby that cannot forward yet redirects.
func again(a harness.Answer) bool {
	return a.Status >= http.StatusInternalServerError || a.Status/100 == 3 || a.Data["poll_after_seconds"] != nil && a.Data["code"] != "approval_pending"
}

// role writes a role of its own and returns its name.
func (s *stage) role(t *testing.T, fields map[string]any) string {
	t.Helper()
	s.roles++
	name := fmt.Sprintf("role-%d", s.roles)
	all := maps.Clone(s.fields)
	maps.Copy(all, fields)
	s.call(t, s.nodes[0].Root(), http.MethodPut, s.path("roles/"+name), all).OK(t)
	return name
}

func (s *stage) ask(t *testing.T, role string) (id string) {
	t.Helper()
	return s.call(t, s.alice.Actor, http.MethodPut, s.path("request/"+role), map[string]any{"justification": "order 4711"}).
		OK(t).String(t, "request_id")
}

// approve has bob approve; that he has already done so is fine.
func (s *stage) approve(t *testing.T, id string) {
	t.Helper()
	poll.Until(t, patience, func() error {
		shown := s.call(t, s.bob.Actor, http.MethodGet, s.path("approvals/"+id), nil)
		s.ledger.approving(id)
		answer := s.call(t, s.bob.Actor, http.MethodPut, s.path("approvals/"+id), map[string]any{
			"decision": "approve", "digest": shown.Data["digest"],
		})
		code := answer.Data["code"]
		if answer.Status != http.StatusOK && code != "already_decided" && code != "not_pending" {
			return fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
		}
		return nil
	})
}

func (s *stage) grant(t *testing.T, role string) (id string) {
	t.Helper()
	id = s.ask(t, role)
	s.approve(t, id)
	return id
}

// read is one read of creds at one node. What it yields is on the ledger.
func (s *stage) read(t *testing.T, node *harness.Host, role string) (harness.Answer, error) {
	t.Helper()
	began := time.Now()
	s.calls.Add(1)
	answer, err := s.alice.At(node).Do(t.Context(), http.MethodGet, s.path("creds/"+role), nil, nil)
	if err == nil && answer.Status == http.StatusOK {
		s.ledger.answered(answer, began)
	}
	return answer, err
}

// creds reads until a credential comes.
func (s *stage) creds(t *testing.T, role string) harness.Answer {
	t.Helper()
	var answer harness.Answer
	n := 0
	poll.Until(t, patience, func() error {
		var err error
		answer, err = s.read(t, s.nodes[n%len(s.nodes)], role)
		n++
		if err == nil && again(answer) {
			err = fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
		}
		return err
	})
	return answer.OK(t)
}

// end has bob end a grant.
func (s *stage) end(t *testing.T, id string) {
	t.Helper()
	s.ledger.endAsked(id)
	s.call(t, s.bob.Actor, http.MethodPut, s.path("grants/"+id+"/revoke"), map[string]any{"reason": "done"}).OK(t)
	s.ledger.endTold(id)
}

// revokeLease has the host revoke a lease, until it says that it has.
func (s *stage) revokeLease(t *testing.T, creds harness.Answer) {
	t.Helper()
	s.ledger.leaseAsked(fmt.Sprint(creds.Data["pim_credential_id"]))
	poll.Until(t, patience, func() error {
		answer := s.call(t, s.nodes[0].Root(), http.MethodPut, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true})
		if answer.Status/100 != 2 && !strings.Contains(string(answer.Body), "lease not found") {
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return nil
	})
}

// alive waits until exactly n bindings exist at the target.
func (s *stage) alive(t *testing.T, n int) {
	t.Helper()
	poll.Until(t, grace, func() error {
		if live := len(s.target.Live()); live != n {
			return fmt.Errorf("%d bindings exist at the target, want %d", live, n)
		}
		return nil
	})
}

// states are the credentials of a request as an auditor reads them, id → state.
func (s *stage) states(t *testing.T, request string) map[string]string {
	t.Helper()
	out := map[string]string{}
	answer := s.call(t, s.nodes[0].Root(), http.MethodGet, s.path("audit/requests/"+request), nil)
	list, _ := answer.Data["credentials"].([]any)
	for _, item := range list {
		id, rest, _ := strings.Cut(fmt.Sprint(item), " ")
		out[id], _, _ = strings.Cut(rest, ",")
	}
	return out
}

var errUnknown = errors.New("exists at the target and nobody will end it")

// onRecord tells whether everything that exists at the target is on record as
// something that gives access or is being ended.
func (s *stage) onRecord(t *testing.T) error {
	t.Helper()
	known := map[string]map[string]string{}
	for _, e := range s.target.Live() {
		if known[e.Request] == nil {
			known[e.Request] = s.states(t, e.Request)
		}
		switch known[e.Request][e.Credential] {
		case "issuing", "active", "revoking", "undoing":
		default:
			return fmt.Errorf("%s of request %s (%q): %w", e.Credential, e.Request, known[e.Request][e.Credential], errUnknown)
		}
	}
	return nil
}
