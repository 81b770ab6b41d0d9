//go:build faults

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

// The mount is disabled with credentials a second old, and once more while the target
// refuses: then it is not disabled, until the target heals.
func TestR11Disabled(t *testing.T) {
	t.Parallel()
	runs := 0
	for range heavy() {
		for _, broken := range []bool{false, true} {
			s := newStage(t, shared)
			what := "mount disabled with credentials a second old"
			role := s.role(t, nil)
			id := s.grant(t, role)
			for range 10 {
				s.creds(t, role)
			}
			s.ledger.endAsked(id)
			disable := func() error {
				answer, err := shared.Root().Do(t.Context(), http.MethodDelete, "sys/mounts/"+s.pim.Path, nil, nil)
				if err == nil && answer.Status/100 != 2 {
					err = fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
				}
				return err
			}
			if broken {
				what = "mount disabled while the target refuses"
				s.target.Before(func(c journal.Call) int {
					if c.Verb == "delete" {
						return http.StatusServiceUnavailable
					}
					return 0
				})
				if err := disable(); err == nil {
					t.Error("the mount was disabled and left its credentials")
				}
				s.target.Before(nil)
			}
			poll.Until(t, patience, disable)
			runs++
			s.gone(t, report.Row{Case: "R11", What: what, Runs: 10})
		}
	}
}

// gone is close for a mount that does not exist any more.
func (s *stage) gone(t *testing.T, row report.Row) {
	t.Helper()
	s.alive(t, 0)
	wrong, delay := s.ledger.judge(s.target.Entries())
	row.Wrong, row.Delay, row.Host = len(wrong), delay, s.hostName(t)
	report.Add(t, row)
}

// The mount is moved to another path under live leases: the host ends all leases, and
// the grants go on at the new path.
func TestR11Moved(t *testing.T) {
	t.Parallel()
	s := newStage(t, shared)
	root, role := shared.Root(), s.role(t, nil)
	id := s.grant(t, role)
	for range 10 {
		s.creds(t, role)
	}
	s.ledger.endAsked(id)
	to := s.pim.Path + "-moved"
	moving := root.Write(t, "sys/remount", map[string]any{"from": s.pim.Path, "to": to}).OK(t).String(t, "migration_id")
	poll.Until(t, patience, func() error {
		answer := root.Read(t, "sys/remount/status/"+moving)
		info, _ := answer.Data["migration_info"].(map[string]any)
		if status := fmt.Sprint(info["status"]); status != "success" {
			return fmt.Errorf("the move is %s", status)
		}
		return nil
	})
	s.alive(t, 0)
	s.pim.Path = to // where it is taken down in the end
	state := s.call(t, root, http.MethodGet, s.path("audit/requests/"+id), nil).OK(t).String(t, "state")
	s.close(t, report.Row{
		Case: "R11", What: "mount moved under live leases", Runs: 10, Note: "the grant is " + state + " at the new path",
	})
}

// The plugin is reloaded under load, and written to at once; it is upgraded and
// downgraded with live leases.
func TestR13ReloadAndUpgrade(t *testing.T) {
	t.Parallel()
	node := harness.StartNode(t, harness.Options{})
	s := newStage(t, node)
	root, role := node.Root(), s.role(t, map[string]any{"max_credentials": 32})
	var leases []harness.Answer
	for range 5 * scale() {
		s.grant(t, role)
		for range 20 {
			leases = append(leases, s.creds(t, role))
		}
		role = s.role(t, map[string]any{"max_credentials": 32})
	}
	reload := func() {
		root.Write(t, "sys/plugins/reload/backend", map[string]any{"mounts": s.pim.Path + "/"}).OK(t)
		answer := root.Write(t, s.path("config"), map[string]any{"reap_interval": 1})
		if answer.Status != http.StatusOK {
			t.Errorf("a write right after a reload: %d %s", answer.Status, answer.Body)
		}
	}
	for range scale() {
		reload()
	}
	versions := []string{"v9.9.9", ""}
	longest := time.Duration(0)
	for i, version := range versions {
		s.pim.Upgrade(t, version)
		if running := s.pim.Running(t); version != "" && running != version {
			t.Errorf("the mount runs %s, want %s", running, version)
		}
		half := leases[i*len(leases)/2 : (i+1)*len(leases)/2]
		for _, l := range half {
			began := time.Now()
			s.revokeLease(t, l)
			longest = max(longest, time.Since(began))
		}
		fresh := s.role(t, nil)
		s.grant(t, fresh)
		s.creds(t, fresh)
	}
	text, err := node.Log()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text, "panic"); n > 0 {
		t.Errorf("%d panics", n)
	}
	s.close(t, report.Row{
		Case: "R13", What: "reload with a write at once; upgrade and downgrade with live leases", Runs: len(leases),
		Note: fmt.Sprintf("runs are leases; each was revoked within %s by the other version", longest.Round(time.Millisecond)),
	})
}
