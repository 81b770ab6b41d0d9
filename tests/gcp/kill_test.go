package gcp

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// plugins are the plugin processes below this one.
func plugins(t testing.TB) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	parents := map[int]int{}
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it ended while we looked
		}
		pid, rest, _ := strings.Cut(string(raw), " ")
		_, rest, _ = strings.Cut(rest, ") ")
		if fields := strings.Fields(rest); len(fields) > 1 {
			child, err1 := strconv.Atoi(pid)
			parent, err2 := strconv.Atoi(fields[1])
			if err1 == nil && err2 == nil {
				parents[child] = parent
			}
		}
	}
	var out []int
	for pid := range parents {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || filepath.Base(filepath.Dir(exe)) != "plugins" {
			continue
		}
		for p := pid; p > 1; p = parents[p] {
			if p == os.Getpid() {
				out = append(out, pid)
			}
		}
	}
	return out
}

// TestKilledBetweenAnyTwoCalls kills the plugin's process before and after
// each call that an issue makes at Google. Whatever was made then ends, without
// anybody asking for it.
func TestKilledBetweenAnyTwoCalls(t *testing.T) {
	for _, role := range contract.SortedKeys(kinds()) {
		t.Run(role, func(t *testing.T) {
			o := newOffice(t)
			fields := o.role(kinds()[role])
			fields["max_credentials"] = 32
			o.write(t, "roles/"+role, fields)
			o.granted(t, role)
			for n := int64(1); ; n++ {
				for _, after := range []bool{false, true} {
					if !o.killedAt(t, role, n, after) {
						t.Logf("%d calls, killed %d times", n-1, o.kills.Load())
						if o.kills.Load() < 6 {
							t.Error("the process was hardly ever killed")
						}
						return
					}
				}
			}
		})
	}
}

// killing kills the plugin's process at one call.
type killing struct {
	at    int64
	after bool
	kills *atomic.Int64

	mu           sync.Mutex
	count        int64
	killed, over bool
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
	k.killed = true
	for _, pid := range plugins(t) {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			k.kills.Add(1)
		}
	}
}

// end keeps the process alive from now on, and tells whether it was killed.
func (k *killing) end() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	return k.killed
}

// killedAt reads a credential and kills the plugin at a call. It tells whether
// the issue got that far, and waits until nothing usable is left.
func (o *office) killedAt(t *testing.T, role string, n int64, after bool) bool {
	t.Helper()
	poll.Until(t, endBound, func() error { // the process of the round before is gone
		if a := host.Root().Read(t, o.path("config")); a.Status != http.StatusOK {
			return fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return nil
	})
	k := &killing{at: n, after: after, kills: &o.kills}
	stop := o.Watch(func(done bool) { k.see(t, done) })
	creds := o.alice.Read(t, o.path("creds/"+role))
	stop()
	killed := k.end()
	if !killed && creds.Status != http.StatusOK {
		t.Fatalf("without a kill: %d %s", creds.Status, creds.Body)
	}
	if creds.Status == http.StatusOK { // the call was the reaper's, or none
		poll.Until(t, endBound, func() error {
			a := host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true})
			if a.Status/100 != 2 {
				return fmt.Errorf("%d %s", a.Status, a.Body)
			}
			return nil
		})
	}
	poll.Until(t, 2*endBound, func() error {
		host.Root().Read(t, o.path("config")) // a process that was killed starts at the next call
		if left := o.usable(); len(left) > 0 {
			return fmt.Errorf("killed at call %d (after: %v): left: %v", n, after, left)
		}
		return nil
	})
	return killed
}
