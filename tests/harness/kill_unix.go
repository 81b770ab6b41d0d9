//go:build unix

package harness

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// ProcessMark is the variable of the environment that tells one test's plugin process
// from all others.
const ProcessMark = "PIM_TEST_PROCESS="

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
		if err != nil || !bytes.Contains(raw, []byte(ProcessMark+name+"\x00")) {
			continue // it ended while we looked, or is somebody else's
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// Killing kills the plugin's processes that carry a mark at one call at the
// target: the At-th one, the first being 1, before it is answered or after.
type Killing struct {
	Name  string // behind ProcessMark
	At    int
	After bool

	mu           sync.Mutex
	count, kills int
	over         bool
}

// See is told of every call at the target, when it comes and when it is done.
func (k *Killing) See(t testing.TB, done bool) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || done != k.After {
		return
	}
	if k.count++; k.count != k.At {
		return
	}
	for _, pid := range marked(t, k.Name) {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			k.kills++
		}
	}
}

// Killed tells how many processes were killed so far.
func (k *Killing) Killed() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kills
}

// End lets the processes live from now on.
func (k *Killing) End() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
}

// Revive does what an operator does when the host goes on with a dead process: one
// that is killed while the host starts it may never be started again. answer is
// what the mount said.
func (m *Mount) Revive(t testing.TB, answer Answer) {
	t.Helper()
	if !strings.Contains(string(answer.Body), "connection refused") {
		return
	}
	reload := m.Host.Root().Write(t, "sys/plugins/reload/backend", map[string]any{"mounts": []string{m.Path + "/"}})
	t.Logf("the host went on with a dead process; reloading answers %d", reload.Status)
}
