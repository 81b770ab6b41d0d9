package access_test

import (
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// ready has alice hold one credential.
func ready(t *testing.T, edit func(*domain.Role), fields contract.Values) (*mount, *access.Answer) {
	t.Helper()
	m := newMount(t)
	m.role("admin", edit, fields)
	m.granted("alice", "admin")
	ans, err := m.creds("alice", "admin")
	m.must(err)
	return m, ans
}

// However many want to end one credential at the same time, the target is
// called once, and all are told the truth.
func TestManyFinishersOneCall(t *testing.T) {
	m, ans := ready(t, nil, nil)
	gate := m.world.Hold(fake.OpDelete, "")
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() { errs[i] = m.a.LeaseEnded(t.Context(), ans.Lease) })
	}
	<-gate.Reached()
	m.must(onlyErr(m.a.Cancel(t.Context(), who("alice"), ans.Lease.Request)))
	wg.Go(m.tick)
	gate.Release()
	wg.Wait()
	for _, err := range errs {
		m.must(err)
	}
	if n := m.world.Count(fake.OpDelete); n != 1 {
		t.Errorf("the target was called %d times", n)
	}
	m.works(ans, false)
	m.clean()
}

// All who end a credential are told when that failed.
func TestManyFinishersShareTheFailure(t *testing.T) {
	m, ans := ready(t, nil, nil)
	m.world.Inject(fake.Fault{On: fake.OpDelete, Mode: fake.FailBefore, Times: 1})
	gate := m.world.Hold(fake.OpDelete, "")
	errs := make(chan error, 2)
	for range 2 {
		go func() { errs <- m.a.LeaseEnded(t.Context(), ans.Lease) }()
	}
	<-gate.Reached()
	gate.Release()
	first, second := <-errs, <-errs
	if first == nil && second == nil {
		t.Error("both were told that it is gone")
	}
	m.pass(time.Minute)
	m.works(ans, false)
	m.clean()
}

// A target that is down for long is asked again for ever, less and less often,
// and what is on record never says that it is gone before it is.
func TestRevocationIsRetriedForEver(t *testing.T) {
	for _, outage := range []time.Duration{time.Hour, 48 * time.Hour} {
		t.Run(outage.String(), func(t *testing.T) {
			m, ans := ready(t, nil, nil)
			up := m.world.Inject(fake.Fault{On: fake.OpDelete, Mode: fake.FailBefore})
			if err := m.a.LeaseEnded(t.Context(), ans.Lease); err == nil {
				t.Fatal("the host was told that it is gone")
			}
			for passed := time.Duration(0); passed < outage; passed += 5 * time.Minute {
				m.look(5 * time.Minute)
				if c := m.cred(ans); c.State != domain.CredRevoking || c.Problem == "" || c.Attempts < 1 {
					t.Fatalf("after %s it is %s after %d attempts, problem %q", passed, c.State, c.Attempts, c.Problem)
				}
			}
			tries := m.world.Count(fake.OpDelete)
			if least, most := int(outage/(15*time.Minute)), int(outage/(5*time.Minute))+8; tries < least || tries > most {
				t.Errorf("%d tries in %s, want %d to %d", tries, outage, least, most)
			}
			up()
			m.pass(10 * time.Minute)
			if n := len(m.world.Objects()); n > 0 {
				t.Fatalf("%d credentials are left after the target came back", n)
			}
			m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
			m.clean()
		})
	}
}

// Back-off survives a restart, and so does the wish to end.
func TestRestartKeepsOnRevoking(t *testing.T) {
	m, ans := ready(t, nil, nil)
	up := m.world.Inject(fake.Fault{On: fake.OpDelete, Mode: fake.FailBefore})
	m.must(onlyErr(m.a.Cancel(t.Context(), who("alice"), ans.Lease.Request)))
	for range 5 {
		m.look(time.Minute)
		m.crash()
	}
	up()
	m.pass(10 * time.Minute)
	m.works(ans, false)
	m.clean()
}

// A lease can be revoked whatever else is gone.
func TestLeaseEndsWhateverElseIsGone(t *testing.T) {
	rows := map[string]func(m *mount){
		"role deleted": func(m *mount) {
			m.must(onlyErr(m.a.DeleteRole(m.Context(), access.Caller{}, "admin", access.EditOptions{Live: access.LiveKeep})))
		},
		"new process":          func(m *mount) { m.crash() },
		"person gone":          func(m *mount) { m.people.remove("alice") },
		"record lost":          func(m *mount) { m.forget("req/") },
		"record of a newer":    func(m *mount) { m.newer("req/") },
		"identity store fails": func(m *mount) { m.people.setFail(errDead) },
		"a hold on everything": func(m *mount) { m.hold(domain.HoldAll, "") },
	}
	for name, event := range rows {
		for _, kind := range []string{"account", "late"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				m, ans := ready(t, nil, contract.Values{"credential_type": kind})
				event(m)
				for range 2 {
					m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
				}
				m.works(ans, false)
			})
		}
	}
}

// forget loses records, as a restore from an old copy does.
func (m *mount) forget(prefix string) {
	for _, k := range m.disk.keys(prefix) {
		m.disk.mu.Lock()
		delete(m.disk.data, k)
		m.disk.mu.Unlock()
	}
}

// newer makes records look as if a newer version had written them.
func (m *mount) newer(prefix string) {
	for _, k := range m.disk.keys(prefix) {
		m.disk.mu.Lock()
		m.disk.data[k] = []byte(`{"v":99,"body":{"different":true}}`)
		m.disk.mu.Unlock()
	}
}

// A target that turns out to be another place is refused; nothing counts as
// gone there.
func TestAnotherPlaceRefusesRevokeAndIssue(t *testing.T) {
	m, ans := ready(t, nil, nil)
	m.world.SetPlace("one", "somewhere-else")
	if err := m.a.LeaseEnded(t.Context(), ans.Lease); err == nil {
		t.Fatal("gone, at a place where it never was")
	}
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodePlace)
	m.pass(2 * time.Hour)
	if c := m.cred(ans); c.State != domain.CredRevoking {
		t.Fatalf("%s", c.State)
	}
	m.world.SetPlace("one", "place-of-one")
	m.pass(10 * time.Minute)
	m.clean()
}

// A credential whose access has ended keeps its remainder until its time, even
// if its grant ends.
func TestRemainderIsClearedInItsTime(t *testing.T) {
	m, ans := ready(t, nil, contract.Values{"remainder": 1800})
	m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
	m.works(ans, false)
	if c := m.cred(ans); c.State != domain.CredEnded {
		t.Fatalf("%s", c.State)
	}
	m.must(onlyErr(m.a.Cancel(t.Context(), who("alice"), ans.Lease.Request)))
	m.pass(29 * time.Minute)
	if len(m.world.Objects()) != 1 {
		t.Fatal("the remainder was cleared before its time")
	}
	m.crash()
	m.pass(2 * time.Minute)
	if len(m.world.Objects()) != 0 {
		t.Fatal("the remainder was not cleared")
	}
	m.clean()
}

// What a failed issue may have left is undone at once, and looked at once more
// for a call that was given up and still landed.
func TestFailedIssueIsUndoneAndLookedAtAgain(t *testing.T) {
	m := newMount(t)
	admin(m)
	m.granted("alice", "admin")
	m.world.Inject(fake.Fault{On: fake.OpCreate, Mode: fake.FailAfter, Times: 1})
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeUpstream)
	if n := len(m.world.Objects()); n != 0 {
		t.Fatalf("%d are left", n)
	}
	deletes := m.world.Count(fake.OpDelete)
	m.pass(59 * time.Second)
	if n := m.world.Count(fake.OpDelete); n != deletes {
		t.Errorf("looked again too early")
	}
	m.pass(30 * time.Second)
	if n := m.world.Count(fake.OpDelete); n != deletes+1 {
		t.Errorf("looked %d times more, want once", n-deletes)
	}
	m.issued("alice", "admin")
	m.clean()
}

// A call that was given up and lands late is found by the second look.
func TestLateLandingIsFound(t *testing.T) {
	m := newMount(t)
	admin(m)
	id := m.granted("alice", "admin")
	gate := m.world.Hold(fake.OpCreate, "")
	out := m.reading(t.Context(), "alice", "admin")
	<-gate.Reached()
	// The process dies while its call is on the way; the next one undoes it.
	m.s.kill()
	dead := m.a
	m.boot()
	c := m.request(id).Credentials[0]
	if c.State == domain.CredIssuing || c.State == domain.CredGone {
		t.Fatalf("%s, planned by a process that is dead", c.State)
	}
	gate.Release() // and only now it lands
	<-out
	dead.Stop()
	if n := len(m.world.Objects()); n != 1 {
		t.Fatalf("%d landed", n)
	}
	m.pass(2 * time.Minute)
	if n := len(m.world.Objects()); n != 0 {
		t.Fatal("it was never found")
	}
	m.clean()
}

// What another process was issuing counts for nothing and is undone at once.
func TestAbandonedIssueCountsForNothing(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.MaxCredentials = 1 }, nil)
	m.granted("alice", "admin")
	m.s.plan(cut{at: 2, crash: true}) // intended, made, never settled
	if err := onlyErr(m.creds("alice", "admin")); err == nil {
		t.Fatal("answered by a dead process")
	}
	if n := len(m.world.Objects()); n != 1 {
		t.Fatalf("%d made", n)
	}
	m.host.readonly = true // the reaper has not looked yet
	m.crash()
	m.issued("alice", "admin")
	m.host.readonly = false
	m.tick()
	if n := len(m.world.Objects()); n != 1 {
		t.Fatalf("%d alive, want the new one alone", n)
	}
	m.clean()
}

// A process that cannot write ends nothing, since it may not be the owner.
func TestWhoCannotWriteEndsNothing(t *testing.T) {
	m, ans := ready(t, nil, nil)
	m.host.readonly = true
	m.pass(2 * time.Hour)
	if n := m.world.Count(fake.OpDelete); n != 0 {
		t.Fatalf("%d deletes", n)
	}
	m.host.readonly = false
	m.tick()
	m.works(ans, false)
	m.clean()
}
