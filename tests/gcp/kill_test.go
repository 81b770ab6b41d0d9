package gcp

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// mark is the variable of the environment that tells one test's plugin process
// from all others.
const mark = "PIM_TEST_PROCESS="

// marked are the plugin processes whose environment carries a mark.
func marked(t testing.TB, name string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(raw, []byte(mark+name+"\x00")) {
			continue // it ended while we looked, or is somebody else's
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// killing kills the plugin's process at one call.
type killing struct {
	name  string
	at    int
	after bool

	mu           sync.Mutex
	count, kills int
	over         bool
}

func (k *killing) see(t *testing.T, done bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || done != k.after {
		return
	}
	if k.count++; k.count != k.at {
		return
	}
	for _, pid := range marked(t, k.name) {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			k.kills++
		}
	}
}

// killed tells how many processes were killed so far.
func (k *killing) killed() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kills
}

func (k *killing) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
}

// TestKilledBetweenAnyTwoCalls kills the plugin's process before and after each
// call at Google that an issue and the revocation after it make. Whatever was
// made then ends, without anybody asking for it again.
func TestKilledBetweenAnyTwoCalls(t *testing.T) {
	t.Parallel()
	for _, role := range contract.SortedKeys(kinds()) {
		for _, after := range []bool{false, true} {
			when := map[bool]string{false: "before", true: "after"}[after]
			t.Run(role+", "+when+" a call", func(t *testing.T) {
				t.Parallel()
				name := role + "-" + when
				o := newOfficeAs(t, newCloud(t), harness.Plugin{Variant: harness.Plain, Env: []string{mark + name}})
				fields := o.role(kinds()[role])
				fields["max_credentials"] = 32
				o.write(t, "roles/"+role, fields)
				o.granted(t, role)
				kills := 0
				for n := 1; ; n++ {
					killed := o.killedAt(t, role, &killing{name: name, at: n, after: after})
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
func (o *office) killedAt(t *testing.T, role string, k *killing) int {
	t.Helper()
	o.alive(t)
	stop := o.Watch(func(done bool) { k.see(t, done) })
	var creds harness.Answer
	poll.Until(t, endBound, func() error { // a slow credential is asked for again
		creds = o.alice.Read(t, o.path("creds/"+role))
		if creds.Status == http.StatusOK || k.killed() > 0 {
			return nil
		}
		return fmt.Errorf("%d %s", creds.Status, creds.Body)
	})
	if creds.Status == http.StatusOK { // a revocation that is cut is the host's and the engine's to finish
		host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true})
	}
	stop()
	k.end()
	poll.Until(t, 2*endBound, func() error {
		o.revive(t, host.Root().Read(t, o.path("config"))) // a process that was killed starts at the next call
		if left := o.usable(); len(left) > 0 {
			return fmt.Errorf("killed at call %d (after: %v): left: %v", k.at, k.after, left)
		}
		return nil
	})
	return k.killed()
}

// alive waits until the mount answers: the process of the round before is gone.
func (o *office) alive(t *testing.T) {
	t.Helper()
	poll.Until(t, endBound, func() error {
		a := host.Root().Read(t, o.path("config"))
		if a.Status != http.StatusOK {
			o.revive(t, a)
			return fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return nil
	})
}

// revive does what an operator does when the host goes on with a dead process:
// one that is killed while the host starts it may never be started again.
func (o *office) revive(t *testing.T, answer harness.Answer) {
	t.Helper()
	if !strings.Contains(string(answer.Body), "connection refused") {
		return
	}
	reload := host.Root().Write(t, "sys/plugins/reload/backend", args{"mounts": []string{o.pim.Path + "/"}})
	t.Logf("the host went on with a dead process; reloading answers %d", reload.Status)
}
