package aws

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// killPlugins kills the plugin processes below this one, as a crash would.
func killPlugins() {
	parent := map[int]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return
	}
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it ended while we looked
		}
		head, rest, _ := strings.Cut(string(raw), " ")
		_, rest, _ = strings.Cut(rest, ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		pid, err1 := strconv.Atoi(head)
		ppid, err2 := strconv.Atoi(fields[1])
		if err1 == nil && err2 == nil {
			parent[pid] = ppid
		}
	}
	for pid := range parent {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || filepath.Base(filepath.Dir(exe)) != "plugins" || !below(parent, pid, os.Getpid()) {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			continue // it has ended by itself
		}
	}
}

func below(parent map[int]int, pid, top int) bool {
	for ; pid > 1; pid = parent[pid] {
		if pid == top {
			return true
		}
	}
	return false
}

// killAt has the plugin killed when moto has carried out its n-th call from
// now, and before it hears of it. fired tells whether it came to that.
func (g *gate) killAt(n int) (fired func() bool) {
	var seen atomic.Int64
	var done atomic.Bool
	stop := g.watch(func(after bool) {
		if after && seen.Add(1) == int64(n) {
			done.Store(true)
			killPlugins()
		}
	})
	return func() bool {
		stop()
		return done.Load()
	}
}

// left lists what is at moto with our name that gives access and has no lease.
func (o *office) left(t *testing.T, leased map[string]bool) error {
	t.Helper()
	now := clock.System{}.Now()
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

// The plugin is killed between every pair of calls of an issue and of a
// revocation. What alice was not given, and what was revoked, is gone soon
// after; her next try works.
func TestKillsBetweenAllCallsLeaveNothing(t *testing.T) {
	o := newOffice(t, harness.Plain)
	o.auto(t, "session", args{"role_arns": o.role(prodRole)})
	o.auto(t, "user", args{"credential_type": "iam_user", "policy_document": allowAll, "iam_groups": "admins"})
	// A kill takes seconds: by default it is every fourth call, another set each
	// time.
	first, step := 1+rand.IntN(4), 4
	if os.Getenv("PIM_TEST_LONG") != "" {
		first, step = 1, 1
	}
	for _, role := range []string{"session", "user"} {
		for _, phase := range []string{"issue", "revoke"} {
			t.Run(phase+" of a "+role, func(t *testing.T) {
				kills, n := 0, first
				for ; o.killed(t, role, phase, n); n += step {
					if kills++; n > 40 {
						t.Fatal("no end of calls")
					}
				}
				t.Logf("MEASURED %d kills, up to the call %d", kills, n)
				if kills == 0 {
					t.Error("nothing was killed")
				}
			})
		}
	}
}

// killed runs one issue and one revocation with a kill in one of them, and
// tells whether there was a call to kill at.
func (o *office) killed(t *testing.T, role, phase string, n int) bool {
	t.Helper()
	// It begins with nothing remembered, in a process of its own.
	killPlugins()
	poll.Until(t, startBound, func() error {
		if answer := bench.host.Root().Read(t, o.path("config")); answer.Status != http.StatusOK {
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return nil
	})
	fired := func() bool { return false }
	if phase == "issue" {
		fired = o.gate.killAt(n)
	}
	leased := map[string]bool{}
	creds := o.alice.Read(t, o.path("creds/"+role))
	hit := fired()
	if creds.Status != http.StatusOK {
		// The client tries again, as the host's 500 tells it to.
		poll.Until(t, startBound, func() error {
			if creds = o.alice.Read(t, o.path("creds/"+role)); creds.Status != http.StatusOK {
				return fmt.Errorf("%d %s", creds.Status, creds.Body)
			}
			return nil
		})
	}
	leased[credentialOf(t, creds)] = true
	o.soon(t, leased)
	if phase == "revoke" {
		fired = o.gate.killAt(n)
	}
	revoke := func() error {
		answer := bench.host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true})
		if answer.Status/100 != 2 {
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return nil
	}
	if err := revoke(); err != nil && phase == "issue" {
		t.Fatal(err)
	}
	if phase == "revoke" {
		hit = fired()
	}
	o.soon(t, nil)
	return hit
}

// credentialOf is the credential's id, from the name that it has at AWS.
func credentialOf(t *testing.T, creds harness.Answer) string {
	t.Helper()
	arn := creds.String(t, "arn")
	name := arn[strings.LastIndex(arn, "/")+1:]
	return strings.TrimPrefix(name, "pim-")[:26]
}

// soon waits until nothing is left, and tells how long that took.
func (o *office) soon(t *testing.T, leased map[string]bool) {
	t.Helper()
	poll.Until(t, endBound, func() error { return o.left(t, leased) })
}

// targetTag is what users of this mount's target carry, seen on one of them.
func (o *office) targetTag(t *testing.T) string {
	t.Helper()
	o.auto(t, "user", args{"credential_type": "iam_user", "policy_document": allowAll})
	creds := o.ready(t, "user")
	var tags struct{ Tags []struct{ Key, Value string } }
	call(t, o.account, "iam", "list_user_tags", args{"UserName": creds.String(t, "username")}, &tags)
	for _, tag := range tags.Tags {
		if tag.Key == "pim:target" {
			return tag.Value
		}
	}
	t.Fatal("users do not say whose they are")
	return ""
}

// A user that carries our tags and is on no record is found and deleted by the
// sweep after a restore.
func TestAStrayIsSwept(t *testing.T) {
	o := newOffice(t, harness.Race)
	const id = "01kjmekwdgbtqakvbp2svn3b3z"
	tags := []args{{"Key": "pim:credential", "Value": id}, {"Key": "pim:target", "Value": o.targetTag(t)}}
	call(t, o.account, "iam", "create_user", args{"UserName": "pim-" + id, "Path": "/pim/", "Tags": tags}, nil)
	call(t, o.account, "iam", "create_access_key", args{"UserName": "pim-" + id}, nil)
	call(t, o.account, "iam", "create_user", args{"UserName": "pim-by-hand", "Path": "/pim/"}, nil)
	o.write(t, "rotate-epoch", nil)
	began := clock.System{}.Now()
	poll.Until(t, endBound, func() error { return o.left(t, nil) })
	t.Logf("MEASURED the stray was gone %.1f s after rotate-epoch", clock.System{}.Now().Sub(began).Seconds())
	if problem := tryCall(t, o.account, "iam", "get_user", args{"UserName": "pim-by-hand"}, nil); problem != "" {
		t.Errorf("a user without our tags: %s", problem)
	}
}
