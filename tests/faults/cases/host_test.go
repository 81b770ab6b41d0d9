//go:build faults

package cases

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/journal"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// paused waits until the plugin waits at the step of PauseAt.
func (s *stage) paused() error {
	return poll.Within(patience, func() error {
		if !s.pim.Paused() {
			return errors.New("nobody came to the step")
		}
		return nil
	})
}

// killedAt kills a host while its plugin is at a step, starts it again, and only then
// lets the old plugin's process go on: it finds nobody to speak to.
func (s *stage) killedAt(t *testing.T, p point, victim func() *harness.Host) {
	t.Helper()
	var node *harness.Host
	s.story(t, p, func() {
		node = victim()
		s.pim.PauseAt(t, p.step)
	}, func() {
		if err := s.paused(); err != nil {
			t.Errorf("%s: %v", p.step, err)
			return
		}
		node.Kill(t)
		if len(s.nodes) > 1 {
			s.elected(t, node)
		}
		node.Restart(t)
		s.pim.Continue(t)
	})
	s.alive(t, 0)
}

// The host is killed, a single node, while the plugin is at each step.
func TestR2HostKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	node := harness.StartNode(t, harness.Options{})
	s := newStage(t, node)
	for _, p := range points() {
		s.killedAt(t, p, func() *harness.Host { return node })
	}
	s.close(t, report.Row{Case: "R2", What: "host killed with the plugin at every step", Runs: len(points())})
}

// The leader of three is killed while its plugin is at each step.
func TestR2LeaderKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.Options{})
	c.Leader(t)
	s := newStage(t, c.Nodes...)
	for _, p := range points() {
		s.killedAt(t, p, func() *harness.Host { return c.Leader(t) })
	}
	c.Leader(t)
	s.close(t, report.Row{Case: "R2", What: "leader killed with the plugin at every step", Runs: len(points())})
}

// hangs makes creates or deletes at the target wait until the caller gives up, and
// tells when the first does.
func (s *stage) hangs(verb string) (reached <-chan struct{}) {
	c := make(chan struct{}, 1000)
	s.target.Before(func(call journal.Call) int {
		if call.Verb != verb {
			return 0
		}
		c <- struct{}{}
		<-call.Gone.Done()
		return http.StatusServiceUnavailable
	})
	return c
}

// The host is sealed while a credential is being made and while one is being ended,
// and unsealed again.
func TestR7Sealed(t *testing.T) {
	t.Parallel()
	node := harness.StartNode(t, harness.Options{})
	s := newStage(t, node)
	longest := time.Duration(0)
	seal := func(during func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			during()
		}()
		began := time.Now()
		node.Seal(t)
		longest = max(longest, time.Since(began))
		<-done
		s.target.Before(nil)
		node.Unseal(t)
	}
	for range heavy() {
		role := s.role(t, nil)
		id := s.grant(t, role)
		creds := s.creds(t, role)

		reached := s.hangs("create")
		seal(func() {
			go func() { <-reached }()
			if answer, err := s.read(t, node, role); err == nil && answer.Status == http.StatusOK {
				t.Error("a credential came out of a target that hangs")
			}
		})
		s.creds(t, role)

		s.hangs("delete")
		s.ledger.leaseAsked(creds.String(t, "pim_credential_id"))
		seal(func() {
			_, err := node.Root().Do(t.Context(), http.MethodPut, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true}, nil)
			if err != nil {
				t.Log(err)
			}
		})
		s.revokeLease(t, creds)
		s.end(t, id)
		s.alive(t, 0)
	}
	s.close(t, report.Row{
		Case: "R7", What: "sealed while a target hangs in an issue and in a revocation", Runs: 2 * heavy(),
		Note: fmt.Sprintf("sealing took at most %s", longest.Round(100*time.Millisecond)),
	})
}

// The target refuses every deletion for an hour by the plugin's clock; the host gives
// up in the meantime, pim does not.
func TestR8TargetDownForAnHour(t *testing.T) {
	t.Parallel()
	node := harness.StartNode(t, harness.Options{})
	s := newStage(t, node)
	role := s.role(t, map[string]any{"ttl": "8h", "max_ttl": "8h"})
	s.grant(t, role)
	creds := s.creds(t, role)
	tries := make(chan struct{}, 1000)
	s.target.Before(func(c journal.Call) int {
		if c.Verb == "delete" {
			tries <- struct{}{}
			return http.StatusServiceUnavailable
		}
		return 0
	})
	root := node.Root()
	answer := root.Write(t, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true})
	if answer.Status/100 == 2 {
		t.Fatalf("a revocation that failed was confirmed: %d %s", answer.Status, answer.Body)
	}
	var clock time.Duration
	for moved := 10 * time.Minute; moved <= time.Hour; moved += 10 * time.Minute {
		before, from := len(tries), time.Now()
		clock = moved
		node.MoveClock(t, clock)
		poll.Until(t, patience, func() error {
			if len(tries) > before {
				return nil
			}
			// The last try's failure may have been written down after the clock was moved:
			// then the next one is due up to ten minutes from here.
			if late := moved + 10*time.Minute - time.Second; clock < late && time.Since(from) > 10*time.Second {
				clock = late
				node.MoveClock(t, clock)
			}
			return fmt.Errorf("after %s nobody tries to end the credential any more", clock)
		})
	}
	s.target.Before(nil)
	healed := time.Now()
	s.ledger.leaseDue(creds.String(t, "pim_credential_id"), healed)
	node.MoveClock(t, clock+10*time.Minute) // ten minutes after it healed
	s.within(t, promised, creds)
	took := time.Since(healed)
	s.revokeLease(t, creds)
	s.close(t, report.Row{
		Case: "R8", What: "target refuses deletions for an hour (the plugin's clock is moved)", Runs: len(tries),
		Note: fmt.Sprintf("runs are tries; gone within ten minutes by that clock, %s by the wall's", took.Round(10*time.Millisecond)),
	})
}

// The plugin's file is gone after a restart, leases expire meanwhile; it comes back.
func TestR9PluginMissing(t *testing.T) {
	t.Parallel()
	node := harness.StartNode(t, harness.Options{})
	s := newStage(t, node)
	root := node.Root()
	longest, reloaded := time.Duration(0), true
	for range heavy() {
		role := s.role(t, map[string]any{"lease_ttl": 4})
		s.grant(t, role)
		creds := s.creds(t, role)
		node.Kill(t)
		restore := node.RemovePlugins(t)
		node.Restart(t)
		poll.Until(t, patience, func() error {
			lease := root.Write(t, "sys/leases/lookup", map[string]any{"lease_id": creds.LeaseID})
			if ttl, ok := lease.Data["ttl"].(float64); ok && ttl > 0 {
				return fmt.Errorf("the lease has %v s left", ttl)
			}
			return nil
		})
		if len(s.target.Live()) == 0 {
			t.Fatal("the credential ended without the plugin")
		}
		restore()
		back := time.Now()
		s.ledger.leaseDue(creds.String(t, "pim_credential_id"), back)
		reloaded = s.reloaded(t, node) && reloaded
		s.within(t, promised, creds)
		longest = max(longest, time.Since(back))
		s.revokeLease(t, creds)
	}
	how := "a reload"
	if !reloaded {
		how = "a seal and an unseal (after a reload alone the host keeps the storage read-only)"
	}
	s.close(t, report.Row{
		Case: "R9", What: "plugin's file missing after a restart while leases expire", Runs: heavy(),
		Note: fmt.Sprintf("gone %s after it came back, by %s", longest.Round(10*time.Millisecond), how),
	})
}

// reloaded has the host take up the plugin that is back. A host that does not let it
// write after that is sealed and unsealed.
func (s *stage) reloaded(t *testing.T, node *harness.Host) bool {
	t.Helper()
	root := node.Root()
	poll.Until(t, patience, func() error {
		answer := root.Write(t, "sys/plugins/reload/backend", map[string]any{"mounts": s.pim.Path + "/"})
		if answer.Status/100 != 2 {
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return s.serves()
	})
	err := poll.Within(5*time.Second, func() error {
		answer := root.Write(t, s.path("config"), map[string]any{"reap_interval": 1})
		if answer.Status != http.StatusOK {
			return fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
		}
		return nil
	})
	if err == nil {
		return true
	}
	t.Logf("the storage is read-only after the reload: %v", err)
	node.Seal(t)
	node.Unseal(t)
	return false
}
