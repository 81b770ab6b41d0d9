//go:build faults

package pim

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// crashSteps kills the process at a named step, for the fault tests. The file
// that PIM_CRASH_FILE names holds "<step>" or "<step>#<n>" for its n-th time;
// it is removed before the process dies, so that the next one lives.
func crashSteps(log hclog.Logger) func(string) {
	file := os.Getenv("PIM_CRASH_FILE")
	if file == "" {
		return nil
	}
	var mu sync.Mutex
	seen := map[string]int{}
	return func(step string) {
		raw, err := os.ReadFile(file) //nolint:gosec // a test build, its own file
		if err != nil {
			return
		}
		want, nth, counted := strings.Cut(strings.TrimSpace(string(raw)), "#")
		if want != step {
			return
		}
		mu.Lock()
		seen[step]++
		n := seen[step]
		mu.Unlock()
		if counted && strconv.Itoa(n) != nth {
			return
		}
		log.Warn("crash on demand", "step", step)
		if err := os.Remove(file); err != nil { //nolint:gosec // a test build, its own file
			log.Error("the crash file could not be removed", "error", err)
		}
		os.Exit(17)
	}
}
