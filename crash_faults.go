//go:build faults

package pim

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// pauseLook is how often a paused step looks whether it may go on.
	pauseLook = 2 * time.Millisecond
	// pauseBound ends a pause that a broken test has forgotten.
	pauseBound = 5 * time.Minute
)

// crashSteps kills or stops the process at a named step, for the fault tests.
// The file that PIM_CRASH_FILE names holds "<step>" or "<step>#<n>" for its n-th
// time; it is removed before the process dies, so that the next one lives. With
// "pause <step>" the file is renamed to *.paused instead, and the step goes on
// when that is removed: what happens meanwhile happens exactly there.
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
		want, pause := strings.CutPrefix(strings.TrimSpace(string(raw)), "pause ")
		want, nth, counted := strings.Cut(want, "#")
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
		if pause {
			pauseAt(log, file, step)
			return
		}
		log.Warn("crash on demand", "step", step)
		if err := os.Remove(file); err != nil { //nolint:gosec // a test build, its own file
			log.Error("the crash file could not be removed", "error", err)
		}
		os.Exit(17)
	}
}

// pauseAt waits until the test removes the mark. Of several that come to a step
// at once, one pauses.
func pauseAt(log hclog.Logger, file, step string) {
	mark := file + ".paused"
	if err := os.Rename(file, mark); err != nil { //nolint:gosec // a test build, its own file
		return
	}
	log.Warn("paused on demand", "step", step)
	bound := time.NewTimer(pauseBound)
	defer bound.Stop()
	look := time.NewTicker(pauseLook)
	defer look.Stop()
	for {
		if _, err := os.Stat(mark); err != nil { //nolint:gosec // a test build, its own file
			log.Warn("going on", "step", step)
			return
		}
		select {
		case <-bound.C:
			return
		case <-look.C:
		}
	}
}
