//go:build faults

package cases

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// others are the nodes besides one.
func (s *stage) others(node *harness.Host) []*harness.Host {
	var out []*harness.Host
	for _, n := range s.nodes {
		if n != node {
			out = append(out, n)
		}
	}
	return out
}

// without runs what clients do while one node cannot be asked.
func (s *stage) without(node *harness.Host, do func()) {
	all := s.nodes
	s.nodes = s.others(node)
	defer func() { s.nodes = all }()
	do()
}

// held is a call that the target keeps waiting, or a login of the engine.
type held struct {
	name  string
	bound time.Duration // of the step-down, an election of ten seconds included
	hold  func() (reached <-chan struct{})
	call  func(t *testing.T, s *stage, creds harness.Answer, id, role string)
}

const election = 10 * time.Second

func holds(s *stage) []held {
	return []held{
		{
			"an issue at a target that hangs", 27*time.Second + election, func() <-chan struct{} { return s.hangs("create") },
			func(t *testing.T, s *stage, _ harness.Answer, _, role string) {
				t.Helper()
				if answer, err := s.read(t, s.nodes[0], role); err == nil && answer.Status == http.StatusOK {
					t.Errorf("a credential came out of a target that hangs: %s", answer.Body)
				}
			},
		},
		{
			"a revocation by the host", 27*time.Second + election, func() <-chan struct{} { return s.hangs("delete") },
			func(t *testing.T, s *stage, creds harness.Answer, _, _ string) {
				t.Helper()
				s.ledger.leaseAsked(creds.String(t, "pim_credential_id"))
				if _, err := s.nodes[0].Root().Do(t.Context(), http.MethodPut, "sys/leases/revoke",
					map[string]any{"lease_id": creds.LeaseID, "sync": true}, nil); err != nil {
					t.Log(err)
				}
			},
		},
		{
			"a revocation by the kill switch, in the background", 7*time.Second + election, func() <-chan struct{} { return s.hangs("delete") },
			func(t *testing.T, s *stage, _ harness.Answer, id, role string) {
				t.Helper()
				s.ledger.endAsked(id)
				s.call(t, s.nodes[0].Root(), http.MethodPut, s.path("revoke"), map[string]any{"role": role, "hold": 0}).OK(t)
			},
		},
	}
}

// The leader steps down while the target keeps a call waiting. That takes as long as
// the longest call that is allowed, and nothing is left.
func TestR6StepDownDuringCalls(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.Options{})
	c.Leader(t)
	s := newStage(t, c.Nodes...)
	var notes []string
	runs := 0
	for range heavy() {
		for _, h := range holds(s) {
			role := s.role(t, nil)
			id := s.grant(t, role)
			creds := s.creds(t, role)
			leader := c.Leader(t)
			reached := h.hold()
			done := make(chan struct{})
			go func() {
				defer close(done)
				h.call(t, s, creds, id, role)
			}()
			<-reached
			began := time.Now()
			if _, err := leader.Root().Do(t.Context(), http.MethodPut, "sys/step-down", nil, nil); err != nil {
				t.Log(err)
			}
			c.Leader(t)
			took := time.Since(began)
			if took > h.bound {
				t.Errorf("%s: the step-down took %s, want %s", h.name, took, h.bound)
			}
			notes = append(notes, fmt.Sprintf("%s %s", h.name, took.Round(100*time.Millisecond)))
			<-done
			s.target.Before(nil)
			s.revokeLease(t, creds)
			s.end(t, id)
			s.alive(t, 0)
			runs++
		}
	}
	s.close(t, report.Row{
		Case: "R6", What: "step-down while the target hangs", Runs: runs, Note: "step-down with election: " + strings.Join(notes, ", "),
	})
}

// elected waits until two of three agree on a leader that is one of them.
func (s *stage) elected(t *testing.T, without *harness.Host) {
	t.Helper()
	poll.Until(t, patience, func() error {
		for _, node := range s.others(without) {
			answer, err := node.Anonymous().Do(t.Context(), http.MethodGet, "sys/leader", nil, nil)
			if err != nil {
				return err
			}
			if text := string(answer.Body); strings.Contains(text, without.Addr) || strings.Contains(text, `"leader_address":""`) {
				return errors.New("the paused leader still leads")
			}
		}
		return nil
	})
}

// An old leader is paused in the middle of an issue, as a machine is that is moved;
// another takes over; the old one goes on. It cannot give anything out, and where its
// record was not written yet it does not come as far as the target.
func TestR14PausedLeader(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.Options{})
	c.Leader(t)
	s := newStage(t, c.Nodes...)
	runs := 0
	for range heavy() {
		for _, step := range []string{"before put issue intended", "before provider issue", "after provider issue", "after put issue settled"} {
			s.pausedAt(t, c, step, 0)
			runs++
		}
		// Longer than anybody looks for what a cut call may still make.
		s.pausedAt(t, c, "before provider issue", 75*time.Second)
		runs++
	}
	s.close(t, report.Row{Case: "R14", What: "leader paused in an issue, another elected, the old one goes on", Runs: runs})
}

func (s *stage) pausedAt(t *testing.T, c *harness.Cluster, step string, atLeast time.Duration) {
	t.Helper()
	role := s.role(t, nil)
	id := s.grant(t, role)
	old := c.Leader(t)
	s.pim.PauseAt(t, step)
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err := s.alice.At(old).Do(t.Context(), http.MethodGet, s.path("creds/"+role), nil, nil)
		if err == nil && answer.Status == http.StatusOK {
			t.Errorf("%s: the old leader gave out a credential: %s", step, answer.Body)
		}
	}()
	if err := s.paused(); err != nil {
		t.Fatalf("%s: %v", step, err)
	}
	old.Freeze(t)
	stopped := time.Now()
	resumed := stopped
	s.without(old, func() {
		s.elected(t, old)
		s.creds(t, role)
		poll.Until(t, patience, func() error {
			if over := time.Since(stopped); over < atLeast {
				return fmt.Errorf("paused for %s", over)
			}
			return nil
		})
		s.pim.Continue(t)
		resumed = time.Now()
	})
	old.Thaw(t)
	<-done
	c.Leader(t)
	for _, e := range s.target.Entries() {
		if step == "before put issue intended" && e.MadeBy == old.PID() && e.Made.After(resumed) {
			t.Errorf("the old leader made %s after it had lost the lead", e.Credential)
		}
	}
	s.end(t, id)
	s.alive(t, 0)
}

// Everything is done through the standbys: each success is one binding, and no answer
// is an internal error.
func TestR18ThroughStandbys(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.Options{})
	c.Leader(t)
	s := newStage(t, c.Nodes...)
	standbys := c.Standbys(t)
	ops, given, role := 0, 0, s.role(t, nil)
	do := func(who harness.Actor, method, path string, body any) harness.Answer {
		answer, err := who.At(standbys[ops%len(standbys)]).Do(t.Context(), method, s.path(path), body, nil)
		ops++
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != http.StatusOK && answer.Status != http.StatusNoContent {
			t.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
		}
		return answer
	}
	for range 20 * scale() {
		began := time.Now()
		id := do(s.alice.Actor, http.MethodPut, "request/"+role, map[string]any{"justification": "order 4711"}).String(t, "request_id")
		shown := do(s.bob.Actor, http.MethodGet, "approvals/"+id, nil)
		s.ledger.approving(id)
		do(s.bob.Actor, http.MethodPut, "approvals/"+id, map[string]any{"decision": "approve", "digest": shown.Data["digest"]})
		for range 4 {
			s.ledger.answered(do(s.alice.Actor, http.MethodGet, "creds/"+role, nil), began)
			given++
		}
		do(s.alice.Actor, http.MethodGet, "requests/"+id, nil)
		s.ledger.endAsked(id)
		do(s.bob.Actor, http.MethodPut, "grants/"+id+"/revoke", map[string]any{"reason": "done"})
		s.ledger.endTold(id)
	}
	s.alive(t, 0)
	if made := len(s.target.Entries()); made != given {
		t.Errorf("%d credentials were given out and %d made", given, made)
	}
	s.close(t, report.Row{Case: "R18", What: "request, approval, read and end through standbys", Runs: ops, Note: fmt.Sprintf("%d reads, %d bindings", given, given)})
}

// Much is due at once on three nodes that have been up for longer than the host's own
// period: only the leader's plugin calls the target.
func TestR22OnlyTheLeaderEnds(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.Options{})
	c.Leader(t)
	s := newStage(t, c.Nodes...)
	// A busy machine may elect another leader by itself; then it was no such case.
	for range 3 {
		leader, seen := c.Leader(t), len(s.target.Entries())
		s.allDue(t, 75*time.Second)
		if c.Leader(t) != leader {
			continue
		}
		for _, e := range s.target.Entries()[seen:] {
			if e.MadeBy != leader.PID() || e.DeletedBy != leader.PID() {
				t.Errorf("%s was made by %d and deleted by %d; the leader is %d", e.Credential, e.MadeBy, e.DeletedBy, leader.PID())
			}
		}
		s.close(t, report.Row{Case: "R22", What: "everything due at once, periodic work on all nodes", Runs: 20})
		return
	}
	t.Fatal("the leader changed by itself three times")
}

// allDue issues twenty credentials that end together after a time, and waits for it.
func (s *stage) allDue(t *testing.T, after time.Duration) {
	t.Helper()
	role := s.role(t, map[string]any{"ttl": int(after.Seconds())})
	s.grant(t, role)
	due := time.Now().Add(after)
	for range 20 {
		creds := s.creds(t, role)
		s.ledger.leaseDue(creds.String(t, "pim_credential_id"), due)
	}
	s.alive(t, 0)
}

// A window is opened under a right clock; the next leader is ten minutes slow, then
// ten minutes fast. What was given ends in time, and nothing is given out later than a
// minute after the window.
func TestR15ClocksApart(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.Options{})
	first := c.Leader(t)
	s := newStage(t, c.Nodes...)
	long := s.role(t, nil)
	s.grant(t, long)
	kept := s.creds(t, long)
	for _, by := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		for _, node := range s.others(first) {
			node.MoveClock(t, by)
		}
		role := s.role(t, map[string]any{"ttl": 45})
		id := s.grant(t, role)
		due := time.Now().Add(45 * time.Second)
		creds := s.creds(t, role)
		for c.Leader(t) == first {
			c.StepDown(t)
		}
		s.overInTime(t, by, due, creds)
		s.ledger.endTold(id)
		if answer, err := s.read(t, s.nodes[0], role); err != nil || answer.Status == http.StatusOK {
			t.Errorf("a clock moved by %s: %s after the window: %d %s, %v", by, time.Since(due), answer.Status, answer.Body, err)
		}
		for c.Leader(t) != first {
			c.StepDown(t)
		}
	}
	if live := s.target.Live(); len(live) != 1 || live[0].Credential != kept.String(t, "pim_credential_id") {
		t.Errorf("of a grant of an hour is left: %v", live)
	}
	s.close(t, report.Row{Case: "R15", What: "next leader's plugin clock ten minutes slow, then fast", Runs: 2})
}

// overInTime waits until a minute after a window and shows that its credential ended.
func (s *stage) overInTime(t *testing.T, by time.Duration, due time.Time, creds harness.Answer) {
	t.Helper()
	if by < 0 { // a fast clock ends it early, which is logged
		s.ledger.leaseDue(creds.String(t, "pim_credential_id"), due)
	}
	poll.Until(t, time.Until(due)+promised+patience, func() error {
		if over := time.Since(due); over < promised {
			return fmt.Errorf("%s until a minute after the window", promised-over)
		}
		return nil
	})
	for _, e := range s.target.Live() {
		if e.Credential == creds.Data["pim_credential_id"] {
			t.Errorf("a clock moved by %s: it lives a minute after its window", by)
		}
	}
}
