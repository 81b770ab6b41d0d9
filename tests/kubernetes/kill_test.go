package kubernetes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// plugins are the plugin processes below this one.
func plugins(t testing.TB) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	parent := map[int]int{}
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it ended while we looked
		}
		pid, rest, _ := strings.Cut(string(raw), " ")
		_, rest, _ = strings.Cut(rest, ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		child, err1 := strconv.Atoi(pid)
		ppid, err2 := strconv.Atoi(fields[1])
		if err1 == nil && err2 == nil {
			parent[child] = ppid
		}
	}
	var out []int
	for pid := range parent {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Base(filepath.Dir(exe)) == "plugins" && below(parent, pid, os.Getpid()) {
			out = append(out, pid)
		}
	}
	return out
}

func below(parent map[int]int, pid, top int) bool {
	for ; pid > 1; pid = parent[pid] {
		if pid == top {
			return true
		}
	}
	return false
}

// killer kills the plugin's process at random moments until stopped, and
// counts how often.
func killer(t testing.TB, random *rand.Rand) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	kills := 0
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(300+random.IntN(1200)) * time.Millisecond):
			}
			for _, pid := range plugins(t) {
				if syscall.Kill(pid, syscall.SIGKILL) == nil {
					kills++
				}
			}
		}
	}()
	return func() int {
		cancel()
		<-done
		return kills
	}
}

// cycles counts what became of many issues and revocations.
type cycles struct {
	issued, revoked, failed atomic.Int64
	said                    sync.Map // what the host answered instead of a credential
}

// one reads a credential, as often as it takes, and revokes its lease once: a
// revocation that is cut is the host's and the engine's to finish.
func (n *cycles) one(t *testing.T, tr *tribe, role string) {
	t.Helper()
	err := poll.Within(startBound, func() error {
		creds := tr.Alice.Read(t, tr.Path("creds/"+role))
		if creds.Status != http.StatusOK {
			n.failed.Add(1)
			n.said.Store(fmt.Sprintf("%d %.100s", creds.Status, creds.Body), true)
			tr.Pim.Revive(t, creds)
			return fmt.Errorf("%d %s", creds.Status, creds.Body)
		}
		n.issued.Add(1)
		if host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true}).Status/100 == 2 {
			n.revoked.Add(1)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestKillsLeaveNothing issues and revokes 200 times while the plugin's process
// is killed at random. What a killed call may have made is on record before it
// exists, so nothing may be left.
func TestKillsLeaveNothing(t *testing.T) {
	const total, workers = 200, 4
	tr := newTribe(t, "for-kills")
	names := tr.roles(t, map[string]any{
		"auto_approve": true, "approver_groups": "", "require_justification": false, "ttl": "8h", "lease_ttl": "15m",
		"max_active": 100, "max_credentials": 32,
	})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	stop := killer(t, rand.New(rand.NewPCG(seed, 0)))
	var n cycles
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1); i <= total; i = next.Add(1) {
				n.one(t, tr, names[i%int64(len(names))])
			}
		})
	}
	wg.Wait()
	kills := stop()
	t.Logf("MEASURED %d cycles under %d kills: %d revoked by the first try, %d reads answered with an error",
		n.issued.Load(), kills, n.revoked.Load(), n.failed.Load())
	n.said.Range(func(answer, _ any) bool {
		t.Log("answered:", answer)
		return true
	})
	if kills == 0 || n.issued.Load() < total {
		t.Fatal("nothing was tried")
	}
	// A credential whose answer a kill ate is active and has no lease: it ends
	// with its window, or when somebody says so.
	began := time.Now()
	poll.Until(t, startBound, func() error {
		answer := host.Root().Write(t, tr.Path("revoke"), map[string]any{"all": true, "confirm": "all", "reason": "end of the test", "hold": 0})
		if answer.Status/100 != 2 {
			tr.Pim.Revive(t, answer)
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return nil
	})
	tr.nothingLeft(t, 3*time.Minute)
	t.Logf("MEASURED nothing was left %.1f s after the last cycle", time.Since(began).Seconds())
}
