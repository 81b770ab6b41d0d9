package faults

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// marked finds the processes whose environment holds a mark: those of one world's
// plugin.
func marked(mark string) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended, or it is not ours to look at
		}
		for entry := range bytes.SplitSeq(raw, []byte{0}) {
			if string(entry) != mark {
				continue
			}
			pid, err := strconv.Atoi(strings.Split(file, "/")[2])
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killer ends a plugin's processes as the kernel does when memory runs out.
type killer struct {
	mark   string
	killed int
}

func (k *killer) kill() error {
	pids, err := marked(k.mark)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		k.killed++
	}
	return nil
}

// cycles is how often a credential is read and revoked while the process is killed
// at moments that nobody chose.
const cycles = 100

func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	pg := harness.StartPostgres(t)
	for _, kind := range []kind{tokens, leases} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			mark := fmt.Sprintf("PIM_FAULTS_MARK=%d", seed)
			w := newWorld(t, kind, pg, mark)
			role := w.role(t, map[string]any{"max_credentials": 32, "ttl": "1h"})
			id := w.grant(t, role)
			k := &killer{mark: mark}
			chance := rand.New(rand.NewPCG(seed, 0))
			for range cycles / 2 {
				w.cycle(t, k, chance, role)
			}
			if k.killed < cycles/10 {
				t.Errorf("the process was killed %d times only", k.killed)
			}
			w.accounted(t, id, k.killed)
			t.Logf("killed %d times; %d tokens were lost before anybody knew them", k.killed, len(w.remainder))
			w.over(t, role, id)
			report.Add(t, report.Row{
				Case: "R1", What: "plugin killed at random moments, " + string(kind), Host: report.HostName(t, host.Bin, 1), Runs: k.killed,
				Note: fmt.Sprintf("%d tokens lost before anybody knew or used them; they end with their window", len(w.remainder)),
			})
		})
	}
}

// cycle is one read and one revocation, in every other one of them a kill.
func (w *world) cycle(t *testing.T, k *killer, chance *rand.Rand, role string) {
	t.Helper()
	var running sync.WaitGroup
	if chance.IntN(2) == 0 {
		moment := time.NewTimer(time.Duration(chance.IntN(25_000)) * time.Microsecond)
		running.Go(func() {
			<-moment.C
			if err := k.kill(); err != nil {
				t.Error(err)
			}
		})
	}
	creds := again(t, func() (harness.Answer, error) { return w.read(t, role) })
	poll.Until(t, retries, func() error {
		answer, err := do(t, host.Root(), http.MethodPut, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true})
		if err == nil && answer.Status/100 != 2 && !strings.Contains(string(answer.Body), "lease not found") {
			err = fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return err
	})
	running.Wait()
}
