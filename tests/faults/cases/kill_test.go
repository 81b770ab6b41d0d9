package cases

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// servedAgain is how soon after a kill the next call is served: within two seconds on
// an idle machine, of which a busy one makes more.
const servedAgain = 5 * time.Second

// point is a step at which something dies, and the call that comes to it.
type point struct {
	step string
	in   string // request, decision, creds, lease or end
}

// points are the steps of one story, from the request to the archive.
func points() []point {
	var out []point
	for _, p := range []point{
		{"request filed", "request"},
		{"decision", "decision"},
		{"issue intended", "creds"},
		{"issue settled", "creds"},
		{"end intended", "lease"},
		{"end settled", "lease"},
		{"request ended", "end"},
	} {
		out = append(out, point{"before put " + p.step, p.in}, point{"after put " + p.step, p.in})
	}
	return append(out,
		point{"before provider issue", "creds"}, point{"after provider issue", "creds"},
		point{"before provider revoke", "lease"}, point{"after provider revoke", "lease"},
		point{"before archive", "end"}, point{"archived", "end"}, point{"after archive", "end"},
	)
}

// story goes from the request to its end; at is called right before the call that
// comes to the step, and hit in parallel with it.
func (s *stage) story(t *testing.T, p point, at func(), hit func()) {
	t.Helper()
	role := s.role(t, nil)
	during := func(in string, call func()) {
		if in != p.in {
			call()
			return
		}
		at()
		done := make(chan struct{})
		go func() {
			defer close(done)
			hit()
		}()
		call()
		<-done
	}
	var id string
	during("request", func() { id = s.ask(t, role) })
	during("decision", func() { s.approve(t, id) })
	during("creds", func() { s.creds(t, role) })
	creds := s.creds(t, role)
	during("lease", func() { s.revokeLease(t, creds) })
	during("end", func() { s.end(t, id) })
}

// The plugin is killed at every step; the client goes on. Nothing is left at the
// target, and the next call is served soon.
func TestR1PluginKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	s := newStage(t, shared)
	runs, longest := 0, time.Duration(0)
	for _, p := range points() {
		var died time.Time
		s.story(t, p, func() { s.pim.CrashAt(t, p.step) }, func() {
			if err := poll.Within(patience, func() error {
				if !s.pim.Crashed(t) {
					return errors.New("nobody came to the step")
				}
				return nil
			}); err != nil {
				t.Errorf("%s: %v", p.step, err)
				return
			}
			died = time.Now()
			if err := poll.Within(patience, s.serves); err != nil {
				t.Errorf("%s: %v", p.step, err)
			}
			longest = max(longest, time.Since(died))
		})
		runs++
	}
	s.alive(t, 0)
	if longest > servedAgain {
		t.Errorf("the next call was served %s after a kill, want %s", longest, servedAgain)
	}
	s.close(t, report.Row{
		Case: "R1", What: "plugin killed at every step", Runs: runs,
		Note: fmt.Sprintf("next call served within %s", longest.Round(10*time.Millisecond)),
	})
}
