package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// sweep runs a sweep to its end and returns what it found.
func (m *mount) sweep(ask access.SweepAsk) access.SweepStatus {
	m.Helper()
	_, err := m.a.Sweep(m.Context(), ask)
	m.must(err)
	m.a.Idle()
	return m.orphans()
}

func (m *mount) orphans() access.SweepStatus {
	m.Helper()
	s, err := m.a.Orphans(m.Context())
	m.must(err)
	return s
}

// strayed is a mount at whose target something is on no record: it was restored
// from a copy that is older than the stray.
func strayed(t *testing.T, fields contract.Values) (m *mount, stray *access.Answer) {
	t.Helper()
	m = newMount(t)
	m.role("ci", auto, fields)
	saved := m.disk.copied()
	stray = m.issued("robot", "ci")
	m.restored(saved)
	m.clk.Advance(20 * time.Minute)
	m.tick()
	return m, stray
}

// listed insists on the orphans that are listed.
func (m *mount) listed(want ...*access.Answer) {
	m.Helper()
	got := map[domain.CredentialID]bool{}
	for _, o := range m.orphans().Orphans {
		got[o.Credential] = true
	}
	if len(got) != len(want) {
		m.Fatalf("%d orphans are listed, want %d: %v", len(got), len(want), got)
	}
	for _, ans := range want {
		if !got[ans.Lease.Credential] {
			m.Fatalf("%s is not listed", ans.Lease.Credential)
		}
	}
}

// What is on no record is listed with all that its tag says; what is on record
// is not, in whatever state it is.
func TestSweepListsWhatIsOnNoRecord(t *testing.T) {
	m, stray := strayed(t, nil)
	m.role("admin", nil, contract.Values{"remainder": 3600})
	m.role("shared", nil, contract.Values{"principal_source": "principal"})
	for _, name := range []string{"alice", "dave"} {
		m.granted(name, "admin")
		m.issued(name, "admin")
	}
	m.must(m.a.LeaseEnded(t.Context(), m.issued("alice", "admin").Lease)) // ended, and still to be cleared
	m.granted("alice", "shared")
	m.must(onlyErr(m.creds("alice", "shared")))
	m.clk.Advance(15 * time.Minute)

	s := m.sweep(access.SweepAsk{})
	m.listed(stray)
	o := s.Orphans[0]
	if o.Request != stray.Lease.Request || o.Target != "site" || !strings.HasPrefix(o.What, "account ") || !o.FoundAt.Equal(m.clk.Now()) {
		t.Errorf("%+v", o)
	}
	if len(s.Targets) != 1 || s.Targets[0].State != access.SweepDone || s.Targets[0].Found != 1 || s.Running {
		t.Errorf("%+v", s)
	}
	one, err := m.a.Orphan(t.Context(), string(o.Credential))
	m.must(err)
	if one == nil || one.What != o.What {
		t.Errorf("read alone: %+v", one)
	}
	m.works(stray, true) // a sweep only lists
	m.sweep(access.SweepAsk{End: true})
	m.clean()
}

// Only what an earlier sweep has listed is ended.
func TestSweepEndsWhatWasListedBefore(t *testing.T) {
	m, stray := strayed(t, nil)
	m.sweep(access.SweepAsk{End: true})
	m.works(stray, true)
	m.listed(stray)
	s := m.sweep(access.SweepAsk{Target: "site", End: true})
	m.works(stray, false)
	m.listed()
	if s.Targets[0].Ended != 1 || s.Targets[0].Found != 1 {
		t.Errorf("%+v", s.Targets[0])
	}
	m.clean()
}

// What was made less than ten minutes ago is nobody's orphan yet.
func TestSweepLeavesYoungThingsAlone(t *testing.T) {
	m := newMount(t)
	m.role("ci", auto, nil)
	saved := m.disk.copied()
	stray := m.issued("robot", "ci")
	m.restored(saved)
	for _, row := range []struct {
		after time.Duration
		want  []*access.Answer
	}{{0, nil}, {9 * time.Minute, nil}, {10 * time.Minute, []*access.Answer{stray}}} {
		m.clk.Advance(start.Add(row.after).Sub(m.clk.Now()))
		m.sweep(access.SweepAsk{})
		m.listed(row.want...)
	}
	m.sweep(access.SweepAsk{End: true})
	m.clean()
}

// What is issued and what ends while a target is listed is no orphan.
func TestSweepAndWhatHappensMeanwhile(t *testing.T) {
	m, stray := strayed(t, nil)
	m.role("admin", nil, nil)
	m.granted("alice", "admin")
	old := m.issued("alice", "admin")
	m.clk.Advance(15 * time.Minute)
	gate := m.world.Hold(fake.OpList, "")
	_, err := m.a.Sweep(t.Context(), access.SweepAsk{})
	m.must(err)
	<-gate.Reached()
	fresh := m.issued("robot", "ci")
	var once bool
	stop := m.world.Watch(func(after bool) {
		if after && !once { // the list is taken, and nobody has looked at it yet
			once = true
			m.must(m.a.LeaseEnded(t.Context(), old.Lease))
		}
	})
	gate.Release()
	m.a.Idle()
	stop()
	m.works(old, false)
	m.works(fresh, true)
	m.listed(stray)
	m.sweep(access.SweepAsk{End: true})
	m.works(fresh, true)
	m.clean()
}

// A target that cannot be swept says why, and what was known of it stays.
func TestSweepThatFails(t *testing.T) {
	m, stray := strayed(t, nil)
	m.target("other", "two")
	m.sweep(access.SweepAsk{})
	for name, broken := range map[string]func() (mend func()){
		"the target does not list": func() func() {
			return m.world.Inject(fake.Fault{On: fake.OpList, Mode: fake.FailBefore})
		},
		"a record cannot be read": func() func() {
			m.issued("robot", "ci")
			m.s.setBlind(true)
			return func() { m.s.setBlind(false) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			mend := broken()
			s := m.sweep(access.SweepAsk{Target: "site", End: true})
			mend()
			if s.Targets[1].Target != "site" || s.Targets[1].State != access.SweepFailed || s.Targets[1].Problem == "" {
				t.Errorf("%+v", s.Targets)
			}
			if s.Targets[0].State != access.SweepDone {
				t.Errorf("the other target: %+v", s.Targets[0])
			}
			m.listed(stray)
			m.works(stray, true)
		})
	}
	m.world.Inject(fake.Fault{On: fake.OpDelete, Mode: fake.FailBefore, Times: 1})
	if s := m.sweep(access.SweepAsk{End: true}); s.Orphans[0].Problem == "" || s.Targets[1].State != access.SweepDone {
		t.Errorf("an end that failed: %+v", s)
	}
	m.works(stray, true)
	m.sweep(access.SweepAsk{End: true})
	m.works(stray, false)
	m.clean()
}

// What is left of an orphan whose access has ended is cleared away by a later
// sweep, when it is due.
func TestSweepClearsWhatIsLeft(t *testing.T) {
	m, stray := strayed(t, nil)
	m.s.remainder = 3600
	m.sweep(access.SweepAsk{})
	s := m.sweep(access.SweepAsk{End: true})
	m.works(stray, false)
	m.listed(stray)
	if o := s.Orphans[0]; !o.EndedAt.Equal(m.clk.Now()) || !o.Due.Equal(m.clk.Now().Add(time.Hour)) {
		t.Errorf("%+v", o)
	}
	m.crash()
	m.s.remainder = 3600
	m.sweep(access.SweepAsk{End: true}) // too early
	if n := len(m.world.Objects()); n != 1 {
		t.Fatalf("%d objects", n)
	}
	m.clk.Advance(time.Hour)
	m.sweep(access.SweepAsk{End: true})
	m.listed()
	m.clean()
}

// One sweep runs at a time, and one that a crash cut off says so.
func TestSweepsDoNotOverlap(t *testing.T) {
	m, stray := strayed(t, nil)
	gate := m.world.Hold(fake.OpList, "")
	s, err := m.a.Sweep(t.Context(), access.SweepAsk{})
	m.must(err)
	if !s.Running || s.Targets[0].State != access.SweepRunning {
		t.Errorf("%+v", s)
	}
	<-gate.Reached()
	_, err = m.a.Sweep(t.Context(), access.SweepAsk{})
	m.refused(err, fault.CodeBusy)
	m.s.kill()
	m.crash() // its storage is dead, so its outcome is on no record
	if s := m.orphans(); s.Running || s.Targets[0].State != access.SweepInterrupted {
		t.Errorf("after a crash: %+v", s)
	}
	m.sweep(access.SweepAsk{})
	m.listed(stray)
	m.sweep(access.SweepAsk{End: true})
	m.clean()
}

// A target that does not exist is not swept, and one that is gone is forgotten.
func TestSweepAndTargetsThatCome(t *testing.T) {
	m, stray := strayed(t, nil)
	m.target("other", "two")
	_, err := m.a.Sweep(t.Context(), access.SweepAsk{Target: "none"})
	m.refused(err, fault.CodeInvalid)
	m.sweep(access.SweepAsk{})
	if n := len(m.orphans().Targets); n != 2 {
		t.Fatalf("%d targets were swept", n)
	}
	m.must(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "other", access.EditOptions{})))
	m.sweep(access.SweepAsk{End: true})
	if s := m.orphans(); len(s.Targets) != 1 {
		t.Errorf("%+v", s.Targets)
	}
	m.works(stray, false)
	m.clean()
}
