package access_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// raftValue is the size from which the hosts' Raft storage refuses a value.
const raftValue = 1 << 20

// crowd puts so many pending requests on the disk, as people have filed them,
// and starts a process that finds them there.
func (m *mount) crowd(n int) {
	m.Helper()
	model := string(m.pending("alice", "admin"))
	raw := string(m.disk.value("req/" + model))
	m.disk.mu.Lock()
	for i := range n {
		rid := fmt.Sprintf("%s%010d", model[:16], i)
		m.disk.data["req/"+rid] = []byte(strings.ReplaceAll(raw, model, rid))
	}
	m.disk.mu.Unlock()
	m.crash()
}

// However many requests a pull of the kill switch covers, no record of it comes
// near what the host's storage takes, all of them end, and asking how far it has
// come does not read them all.
func TestKillSwitchOverManyRequests(t *testing.T) {
	const many = 12_000
	m := newMount(t)
	m.role("admin", nil, nil)
	m.granted("dave", "admin")
	m.issued("dave", "admin")
	m.crowd(many)
	job := m.kill(access.Kill{Kind: domain.HoldAll})
	if job.Requests != many+2 {
		t.Fatalf("it covers %d requests", job.Requests)
	}
	for _, k := range m.disk.keys("job/") {
		if size := len(m.disk.value(k)); size > raftValue/4 {
			t.Errorf("a record of the job has %d bytes", size)
		}
	}
	m.s.spent()
	v, err := m.a.KillJob(t.Context(), job.Job.ID)
	m.must(err)
	if reads := m.s.spent().reads; reads > 100 {
		t.Errorf("one look at the job took %d reads", reads)
	}
	if v.Requests != many+2 || v.Marked != many+2 || v.Live != 0 || v.Gone != 1 || !v.Job.Marked {
		t.Errorf("%d requests, %d ended, %d live, %d gone, marked %v", v.Requests, v.Marked, v.Live, v.Gone, v.Job.Marked)
	}
}

// A target that does not answer while a pull of the kill switch is gone on with
// after a crash keeps nobody else's access from ending.
func TestResumedKillSwitchDelaysNobody(t *testing.T) {
	m := newMount(t)
	m.target("other", "two")
	m.role("admin", nil, nil)
	m.role("second", func(r *domain.Role) { r.Target = "other" }, nil)
	m.granted("alice", "admin")
	stuck := m.issued("alice", "admin")
	m.granted("dave", "second")
	ans := m.issued("dave", "second")
	m.s.plan(cut{at: 3, crash: true}) // after hold and job
	m.kill(access.Kill{Kind: domain.HoldRole, Value: "admin"})
	m.host.readonly = true // the next process does nothing yet
	m.crash()
	m.clk.Advance(7 * time.Hour)
	gate := m.world.Hold(fake.OpDelete, stuck.Lease.Credential)
	m.host.readonly = false
	looked := make(chan struct{})
	go func() { defer close(looked); m.a.Tick(t.Context()) }()
	<-gate.Reached()
	m.eventually("what is over ends elsewhere", func() bool { return m.request(ans.Lease.Request).State.Terminal() })
	gate.Release()
	<-looked
	m.a.Idle()
	m.clean()
}

// What cannot be marked is tried again for ever, and not by every look.
func TestKillSwitchTriesAgainInItsTime(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	key := "req/" + string(m.pending("alice", "admin"))
	good := m.disk.value(key)
	m.disk.mu.Lock()
	m.disk.data[key] = []byte(`{"v":99,"body":{}}`) // of a newer program
	m.disk.mu.Unlock()
	tries := func() int {
		return len(slices.DeleteFunc(m.log.all(), func(l string) bool { return !strings.Contains(l, "could not mark") }))
	}
	job := m.kill(access.Kill{Kind: domain.HoldAll})
	for range 5 {
		m.tick()
	}
	if n := tries(); n != 2 {
		t.Errorf("it was tried %d times at once", n)
	}
	m.look(10 * time.Second)
	if n := tries(); n != 3 {
		t.Errorf("it was tried %d times after a while", n)
	}
	m.disk.mu.Lock()
	m.disk.data[key] = good
	m.disk.mu.Unlock()
	m.look(10 * time.Second)
	if v, err := m.a.KillJob(t.Context(), job.Job.ID); err != nil || !v.Job.Marked || v.Marked != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

// A record that could not be read after a start is covered all the same.
func TestKillSwitchCoversWhatCouldNotBeRead(t *testing.T) {
	for name, k := range map[string]access.Kill{
		"everything": {Kind: domain.HoldAll}, "a person": {Kind: domain.HoldPerson, Value: id("alice")},
	} {
		for _, later := range []bool{false, true} {
			if later && k.Kind != domain.HoldAll {
				continue // nobody can say whose it is
			}
			t.Run(name, func(t *testing.T) {
				m := newMount(t)
				m.role("admin", nil, nil)
				m.granted("alice", "admin")
				m.issued("alice", "admin")
				m.blind = true
				m.crash()
				m.s.setBlind(later)
				job := m.kill(k)
				m.s.setBlind(false)
				m.look(10 * time.Second)
				m.usable(0)
				if v, err := m.a.KillJob(t.Context(), job.Job.ID); err != nil || v.Requests != 1 || v.Marked != 1 {
					t.Errorf("%+v, %v", v, err)
				}
			})
		}
	}
}
