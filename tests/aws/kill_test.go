package aws

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	// killTick is how often the reaper looks in the tests with kills.
	killTick = 2 * time.Second
	// killWork is what those looks themselves may take.
	killWork = 4 * time.Second
)

// lane is a plugin that runs in a process of its own, and the mark in that
// process's environment that tells it apart.
func lane() (plugin harness.Plugin, mark string) {
	mark = "PIM_TEST_LANE=" + rand.Text()
	return harness.Plugin{Variant: harness.Plain, Env: []string{mark}}, mark
}

// newLane is an office whose plugin runs in a process of its own.
func newLane(t *testing.T) *office {
	t.Helper()
	plugin, mark := lane()
	o := newOfficeOn(t, plugin)
	o.mark = mark
	o.Write(t, "config", args{"reap_interval": int(killTick / time.Second)})
	return o
}

// processes lists the plugin processes of this lane.
func (o *office) processes() (pids []int) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil
	}
	for _, file := range files {
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/environ", &pid); err != nil {
			continue
		}
		env, err := os.ReadFile(file)
		if err == nil && slices.ContainsFunc(bytes.Split(env, []byte{0}), func(v []byte) bool { return string(v) == o.mark }) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kill kills the plugin process of this lane, as a crash would.
func (o *office) kill() {
	for _, pid := range o.processes() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			continue // it has ended by itself
		}
	}
}

// killAt has the plugin killed when moto has carried out its n-th call from
// now, and before it hears of it. fired tells whether it came to that, and whether
// anything was there at that moment that gives access.
func (o *office) killAt(t *testing.T, n int) (fired func() (hit, dirty bool)) {
	t.Helper()
	var seen atomic.Int64
	var done, left atomic.Bool
	looked := make(chan struct{})
	stop := o.gate.watch(func(after bool) {
		if after && seen.Add(1) == int64(n) {
			defer close(looked)
			done.Store(true)
			o.kill()
			left.Store(o.left(t, nil) != nil) // before the next process looks
		}
	})
	return func() (hit, dirty bool) {
		stop()
		if hit = done.Load(); hit {
			<-looked
		}
		return hit, left.Load()
	}
}

// back waits until the plugin runs again: the host starts it with the next
// call. One that was killed while it started has to be reloaded.
func (o *office) back(t *testing.T) time.Time {
	t.Helper()
	poll.Until(t, startBound, func() error {
		answer := bench.host.Root().Read(t, o.Path("config"))
		if answer.Status == http.StatusOK {
			return nil
		}
		if strings.Contains(string(answer.Body), "connection refused") {
			bench.host.Root().Write(t, "sys/plugins/reload/backend", args{"mounts": []string{o.Pim.Path + "/"}})
		}
		return fmt.Errorf("%d %s", answer.Status, answer.Body)
	})
	return clock.System{}.Now()
}

// assignments stands for alice's assignment among credential ids: nothing at AWS
// says whose it is.
const assignments = "the assignment"

// left lists what is at moto with our name that gives access and has no lease.
func (o *office) left(t *testing.T, leased map[string]bool) error {
	t.Helper()
	now := clock.System{}.Now()
	if !leased[assignments] && len(o.assigned(t)) > 0 {
		return fmt.Errorf("the assignment is left")
	}
	for id, user := range o.ourUsers(t) {
		if !leased[id] {
			return fmt.Errorf("the user %s is left", user)
		}
	}
	for _, s := range o.gate.sessions(t) {
		id := strings.TrimPrefix(s.SourceIdentity, "pim-")
		if leased[id] || o.denied[id] {
			continue
		}
		if o.can(t, s, tryAction, tryResource, now) {
			return fmt.Errorf("the session of %s works", id)
		}
		o.denied[id] = true
	}
	return nil
}

// scene is one issue or revocation of one kind, cut by a kill after each of its
// calls in turn.
type scene struct{ role, phase string }

// cut is what one kill came to.
type cut struct {
	hit   bool          // there was such a call
	real  bool          // the issue or revocation was cut, and not a look of the reaper
	dirty bool          // something that gives access was there after the kill
	took  time.Duration // from the plugin's return until nothing was left
}

// The plugin is killed between every pair of calls of an issue and of a
// revocation. What alice was not given, and what was revoked, is gone within
// two looks of the reaper once the plugin is back; her next try works.
func TestKillsBetweenAllCallsLeaveNothing(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"user", "assignment", "session"} {
		for _, phase := range []string{"revoke", "issue"} {
			t.Run(phase+" of a "+role, func(t *testing.T) {
				t.Parallel()
				o := newLane(t)
				o.auto(t, "session", args{"role_arns": o.role(prodRole)})
				o.auto(t, "user", args{"credential_type": "iam_user", "policy_document": allowAll, "iam_groups": "admins"})
				o.inDirectory(t)
				o.auto(t, "assignment", o.elevation(t))
				o.play(t, scene{role: role, phase: phase})
			})
		}
	}
}

// play kills after each call of a scene until there is none.
func (o *office) play(t *testing.T, s scene) {
	t.Helper()
	var took []time.Duration
	dirty, again := 0, 0
	for n := 1; ; {
		c := o.killed(t, s, n)
		if !c.hit {
			break
		}
		if !c.real { // the kill came upon another call; once more
			if again++; again > 5 {
				t.Fatalf("other calls come between at call %d", n)
			}
			continue
		}
		if took = append(took, c.took); c.dirty {
			dirty++
		}
		if n++; n > 60 {
			t.Fatal("no end of calls")
		}
	}
	if len(took) < 3 || dirty == 0 {
		t.Fatalf("only %d kills, %d of them left something", len(took), dirty)
	}
	slices.Sort(took)
	t.Logf("MEASURED %d kills, one after each call; %d left something, gone %.1f s after the plugin was back (median), %.1f s (worst)",
		len(took), dirty, took[len(took)/2].Seconds(), took[len(took)-1].Seconds())
}

// killed runs one issue and one revocation with a kill after the n-th call of
// one of them.
func (o *office) killed(t *testing.T, s scene, n int) (c cut) {
	t.Helper()
	// It begins with nothing remembered, in a fresh process.
	o.kill()
	o.back(t)
	fired := func() (hit, dirty bool) { return false, false }
	if s.phase == "issue" {
		fired = o.killAt(t, n)
	}
	creds := o.Alice.Read(t, o.Path("creds/"+s.role))
	if c.hit, c.dirty = fired(); c.hit {
		if c.real = creds.Status != http.StatusOK; c.real {
			c.took = o.clean(t)
		}
	}
	if creds.Status != http.StatusOK {
		// The client tries again, as the host's 500 tells it to.
		poll.Until(t, startBound, func() error {
			if creds = o.Alice.Read(t, o.Path("creds/"+s.role)); creds.Status != http.StatusOK {
				return fmt.Errorf("%d %s", creds.Status, creds.Body)
			}
			return nil
		})
	}
	if err := o.left(t, map[string]bool{leasedBy(t, creds): true}); err != nil {
		t.Error(err)
	}
	if !o.usable(t, creds) {
		t.Error("what alice was given does not work")
	}
	if s.phase == "revoke" {
		fired = o.killAt(t, n)
	}
	answer := bench.host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true})
	if s.phase == "revoke" {
		if c.hit, c.dirty = fired(); c.hit {
			c.real, c.took = answer.Status/100 != 2, o.clean(t)
			return c
		}
	}
	answer.OK(t)
	poll.Until(t, endBound, func() error { return o.left(t, nil) })
	return c
}

// clean waits until the plugin is back, and then insists that two looks of the
// reaper are enough.
func (o *office) clean(t *testing.T) time.Duration {
	t.Helper()
	back := o.back(t)
	poll.Until(t, 2*killTick+killWork, func() error { return o.left(t, nil) })
	return clock.System{}.Now().Sub(back)
}

// leasedBy is what left knows a credential by.
func leasedBy(t *testing.T, creds harness.Answer) string {
	t.Helper()
	if _, ok := creds.Data["principal"]; ok {
		return assignments
	}
	return credentialOf(t, creds)
}

// credentialOf is the credential's id, from the name that it has at AWS.
func credentialOf(t *testing.T, creds harness.Answer) string {
	t.Helper()
	arn := creds.String(t, "arn")
	name := arn[strings.LastIndex(arn, "/")+1:]
	return strings.TrimPrefix(name, "pim-")[:26]
}
