//go:build unix

package harness

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// Mortal is an office whose plugin's process is killed at calls at its target.
type Mortal struct {
	*Office
	Role  string                                   // that alice holds a grant of, with room for 32 credentials
	Bound time.Duration                            // for a process that starts anew, and for half of an end
	Watch func(see func(after bool)) (stop func()) // the target's calls
	Left  func() []string                          // what is there that gives anybody access
}

// KilledBetweenCalls kills the plugin's process before and after each call at the
// target that an issue and the revocation after it make. Whatever was made then
// ends, without anybody asking for it again. open opens an office with that plugin.
func KilledBetweenCalls(t *testing.T, role string, open func(*testing.T, Plugin) Mortal) {
	for _, after := range []bool{false, true} {
		when := map[bool]string{false: "before", true: "after"}[after]
		t.Run(role+", "+when+" a call", func(t *testing.T) {
			t.Parallel()
			name := role + "-" + when
			m := open(t, Plugin{Variant: Plain, Env: []string{ProcessMark + name}})
			kills := 0
			for n := 1; ; n++ {
				killed := m.killedAt(t, &Killing{Name: name, At: n, After: after})
				if kills += killed; killed == 0 {
					t.Logf("MEASURED %s: killed %s each of %d calls, %d times, nothing left", role, when, n-1, kills)
					break
				}
			}
			if kills < 4 {
				t.Error("the process was hardly ever killed")
			}
		})
	}
}

// killedAt issues and revokes a credential, kills the plugin on the way, waits
// until nothing usable is left, and tells how often it was killed.
func (m *Mortal) killedAt(t *testing.T, k *Killing) int {
	t.Helper()
	root := m.Pim.Host.Root()
	m.alive(t)
	stop := m.Watch(func(done bool) { k.See(t, done) })
	var creds Answer
	poll.Until(t, m.Bound, func() error { // a slow credential is asked for again
		creds = m.Alice.Read(t, m.Path("creds/"+m.Role))
		if creds.Status == http.StatusOK || k.Killed() > 0 {
			return nil
		}
		return fmt.Errorf("%d %s", creds.Status, creds.Body)
	})
	if creds.Status == http.StatusOK { // a revocation that is cut is the host's and the engine's to finish
		root.Write(t, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true})
	}
	stop()
	k.End()
	poll.Until(t, 2*m.Bound, func() error {
		m.Pim.Revive(t, root.Read(t, m.Path("config"))) // a process that was killed starts at the next call
		if left := m.Left(); len(left) > 0 {
			return fmt.Errorf("killed at call %d (after: %v): left: %v", k.At, k.After, left)
		}
		return nil
	})
	return k.Killed()
}

// alive waits until the mount answers: the process of the round before is gone.
func (m *Mortal) alive(t *testing.T) {
	t.Helper()
	poll.Until(t, m.Bound, func() error {
		a := m.Pim.Host.Root().Read(t, m.Path("config"))
		if a.Status != http.StatusOK {
			m.Pim.Revive(t, a)
			return fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return nil
	})
}
