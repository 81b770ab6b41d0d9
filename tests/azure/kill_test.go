package azure

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// TestKilledBetweenAnyTwoCalls kills the plugin's process before and after each
// call at Azure that an issue and the revocation after it make. Whatever was
// made then ends, without anybody asking for it again.
func TestKilledBetweenAnyTwoCalls(t *testing.T) {
	t.Parallel()
	for _, role := range kindNames() {
		for _, after := range []bool{false, true} {
			when := map[bool]string{false: "before", true: "after"}[after]
			t.Run(role+", "+when+" a call", func(t *testing.T) {
				t.Parallel()
				name := role + "-" + when
				o := newOffice(t, harness.Plugin{Variant: harness.Plain, Env: []string{harness.ProcessMark + name}})
				fields := o.role(o.kinds()[role])
				fields["max_credentials"] = 32
				o.write(t, "roles/"+role, fields)
				o.granted(t, role)
				kills := 0
				for n := 1; ; n++ {
					killed := o.killedAt(t, role, &harness.Killing{Name: name, At: n, After: after})
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
}

// killedAt issues and revokes a credential, kills the plugin on the way, waits
// until nothing usable is left, and tells how often it was killed.
func (o *office) killedAt(t *testing.T, role string, k *harness.Killing) int {
	t.Helper()
	o.alive(t)
	stop := o.Watch(func(done bool) { k.See(t, done) })
	var creds harness.Answer
	poll.Until(t, endBound, func() error { // a slow credential is asked for again
		creds = o.alice.Read(t, o.path("creds/"+role))
		if creds.Status == http.StatusOK || k.Killed() > 0 {
			return nil
		}
		return fmt.Errorf("%d %s", creds.Status, creds.Body)
	})
	if creds.Status == http.StatusOK { // a revocation that is cut is the host's and the engine's to finish
		host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true})
	}
	stop()
	k.End()
	poll.Until(t, 2*endBound, func() error {
		o.pim.Revive(t, host.Root().Read(t, o.path("config"))) // a process that was killed starts at the next call
		if left := o.usable(); len(left) > 0 {
			return fmt.Errorf("killed at call %d (after: %v): left: %v", k.At, k.After, left)
		}
		return nil
	})
	return k.Killed()
}

// alive waits until the mount answers: the process of the round before is gone.
func (o *office) alive(t *testing.T) {
	t.Helper()
	poll.Until(t, endBound, func() error {
		a := host.Root().Read(t, o.path("config"))
		if a.Status != http.StatusOK {
			o.pim.Revive(t, a)
			return fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return nil
	})
}
