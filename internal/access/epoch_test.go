package access_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// restored brings the disk back to what it was when saved was made.
func (m *mount) restored(saved *disk) {
	m.Helper()
	m.s.kill()
	m.a.Stop()
	m.disk = saved
	m.boot()
}

func (m *mount) rotateEpoch() domain.State {
	m.Helper()
	st, _, err := m.a.RotateEpoch(m.Context(), access.Caller{})
	m.must(err)
	m.a.Idle()
	return st
}

func (m *mount) unswept() int {
	m.Helper()
	_, st, err := m.a.Config(m.Context())
	m.must(err)
	return len(st.Unswept)
}

// After a restore from an old copy nothing that it forgot is left, and nothing
// that it revived.
func TestRestoreFromAnOldCopy(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.MaxActive = 5 }, nil)
	revived := m.granted("alice", "admin")
	before := m.issued("alice", "admin")
	waiting := m.pending("dave", "admin")
	saved := m.disk.copied()

	forgotten := m.issued("alice", "admin") // on no record of the copy
	m.must(m.decide("bob", waiting, domain.Deny))
	m.must(onlyErr(m.a.RevokeGrant(t.Context(), who("bob"), revived, "")))
	m.role("later", auto, nil)
	alsoForgotten := m.issued("robot", "later")
	m.restored(saved)
	m.state(revived, domain.Active)
	m.state(waiting, domain.Pending)

	m.rotateEpoch()
	for range 5 {
		m.tick()
	}
	for _, ans := range []*access.Answer{before, forgotten, alsoForgotten} {
		m.works(ans, false)
	}
	m.state(revived, domain.Revoked)
	m.state(waiting, domain.Revoked)
	if n := m.unswept(); n != 0 {
		t.Fatalf("%d targets are not swept", n)
	}
	m.granted("alice", "admin")
	m.issued("alice", "admin")
	m.clean()
}

// Nothing is issued at a target before it is swept, neither by this process nor
// by the next.
func TestNothingIsIssuedBeforeTheSweep(t *testing.T) {
	for _, restart := range []bool{false, true} {
		m := newMount(t)
		m.role("admin", nil, nil)
		m.role("ci", auto, nil)
		m.granted("alice", "admin")
		old := m.issued("alice", "admin")
		up := m.world.Inject(fake.Fault{On: fake.OpDelete, Mode: fake.FailBefore})
		m.rotateEpoch()
		if restart {
			m.crash()
		}
		for range 3 {
			m.refused(onlyErr(m.creds("robot", "ci")), fault.CodeEpoch)
			m.look(time.Minute)
		}
		m.works(old, true) // the target does not answer
		up()
		m.pass(12 * time.Minute)
		m.works(old, false)
		m.issued("robot", "ci")
		if n := m.filed(); n > 2 {
			t.Errorf("%d requests: the refused reads piled up", n)
		}
		m.clean()
	}
}

// A sweep that finds strays it cannot end, or cannot list, is not over.
func TestSweepIsRepeatedUntilItIsClean(t *testing.T) {
	for name, op := range map[string]fake.Op{"cannot list": fake.OpList, "cannot end": fake.OpDelete} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			m.role("ci", auto, nil)
			saved := m.disk.copied()
			stray := m.issued("robot", "ci")
			m.restored(saved)
			up := m.world.Inject(fake.Fault{On: op, Mode: fake.FailBefore})
			m.rotateEpoch()
			m.pass(5 * time.Minute)
			if m.unswept() != 1 {
				t.Fatal("the target counts as swept")
			}
			m.crash()
			m.refused(onlyErr(m.creds("robot", "ci")), fault.CodeEpoch)
			up()
			m.pass(time.Minute)
			m.works(stray, false)
			m.issued("robot", "ci")
			m.clean()
		})
	}
}

// Twice in a row is no harm; a second one starts over.
func TestRotateEpochTwice(t *testing.T) {
	m, ans := ready(t, nil, nil)
	first := m.rotateEpoch()
	m.tick()
	m.works(ans, false)
	second := m.rotateEpoch()
	if second.Epoch != first.Epoch+1 {
		t.Errorf("epochs %d and %d", first.Epoch, second.Epoch)
	}
	m.pass(time.Minute)
	if m.unswept() != 0 {
		t.Fatal("not swept")
	}
	m.clean()
}

// Objects that others share today are no strays.
func TestSweepSparesWhatIsShared(t *testing.T) {
	m, one, two := bound(t)
	m.rotateEpoch()
	m.pass(2 * time.Minute)
	m.usable(0)
	for _, role := range []string{"admin", "other"} {
		m.granted("alice", role)
		m.must(onlyErr(m.creds("alice", role)))
	}
	m.usable(1)
	for _, ans := range []*access.Answer{one, two} { // of the old epoch
		m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
	}
	m.usable(1)
	m.clean()
}

// A mount that was away for long says that somebody has to decide.
func TestEpochIsDueAfterALongSleep(t *testing.T) {
	m := newMount(t)
	due := func() bool {
		_, st, err := m.a.Config(t.Context())
		m.must(err)
		return m.a.EpochDue(st)
	}
	if due() {
		t.Fatal("due from the start")
	}
	m.s.kill()
	m.a.Stop()
	m.clk.Advance(2 * time.Hour)
	m.boot()
	if !due() {
		t.Fatal("two hours of silence, and nothing is said")
	}
	m.pass(time.Hour)
	if !due() {
		t.Fatal("it went away by itself")
	}
	m.rotateEpoch()
	if due() {
		t.Fatal("still due")
	}
}

// Retention: what people did is kept longer than what machines did, and nothing
// goes that is not over.
func TestRetention(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	m.role("ci", auto, nil)
	m.granted("alice", "admin")
	old := m.issued("alice", "admin")
	m.giveBack(old)
	m.issued("robot", "ci")
	m.drain()
	kept := func(days int, want int) {
		t.Helper()
		m.clk.Advance(start.Add(time.Duration(days)*24*time.Hour + time.Minute).Sub(m.clk.Now()))
		m.tick()
		m.tick()
		if n := len(m.disk.keys("arch/")); n != want {
			t.Fatalf("after %d days %d requests are kept, want %d", days, n, want)
		}
	}
	kept(2, 2)
	kept(4, 1)
	kept(29, 1)
	open := m.pending("dave", "admin")
	kept(31, 1) // dave's, which expired meanwhile
	m.must(m.a.LeaseEnded(t.Context(), old.Lease))
	m.state(open, domain.Expired)
	status, err := m.a.TidyStatus(t.Context())
	m.must(err)
	if status.At.IsZero() || status.Running {
		t.Errorf("%+v", status)
	}
	m.clean()
}

// A mount that goes away ends everything, due or not.
func TestMountThatGoesAway(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	m.role("ci", auto, contract.Values{"credential_type": "late"})
	m.granted("alice", "admin")
	m.issued("alice", "admin")
	m.issued("robot", "ci")
	m.pending("dave", "admin")
	m.world.Inject(fake.Fault{On: fake.OpDelete, Mode: fake.FailBefore, Times: 1})
	if err := m.a.EndAll(t.Context()); err != nil {
		t.Fatal(err) // a failure is on record with its next try
	}
	m.clk.Advance(time.Minute)
	m.must(m.a.EndAll(t.Context()))
	if n := len(m.world.Objects()); n != 0 {
		t.Fatalf("%d are left", n)
	}
}

// What exists at a target ends first, however many requests were filed before it.
func TestMountThatGoesAwayEndsCredentialsFirst(t *testing.T) {
	m := newMount(t)
	var pending []domain.RequestID
	waiting := -1
	arm := m.at("before provider revoke", func() {
		waiting = 0
		for _, id := range pending {
			if m.request(id).State == domain.Pending {
				waiting++
			}
		}
	})
	m.config(func(c *domain.Config) { c.PersonMaxOpen = 200 })
	m.role("ci", auto, contract.Values{"credential_type": "late"})
	for i := range 100 {
		role := fmt.Sprintf("admin-%d", i)
		m.role(role, nil, nil)
		pending = append(pending, m.pending("dave", role))
		m.clk.Advance(time.Second)
	}
	m.issued("robot", "ci")
	arm()
	m.must(m.a.EndAll(t.Context()))
	if waiting != len(pending) {
		t.Fatalf("the credential was ended after %d requests without one", len(pending)-waiting)
	}
}

// Retention counts from the end of a request, not from when it was filed.
func TestRetentionCountsFromTheEnd(t *testing.T) {
	m := newMount(t)
	m.role("ci", func(r *domain.Role) { shortLeases(r); r.TTL, r.MaxTTL = 24*3600, 24*3600 }, nil)
	m.issued("robot", "ci")
	m.clk.Advance(24 * time.Hour)
	m.drain()
	for _, row := range []struct{ hours, kept int }{{73, 1}, {95, 1}, {97, 0}} {
		m.clk.Advance(start.Add(time.Duration(row.hours) * time.Hour).Sub(m.clk.Now()))
		m.tick()
		m.tick()
		if n := len(m.disk.keys("arch/")); n != row.kept {
			t.Errorf("after %d hours %d are kept, want %d", row.hours, n, row.kept)
		}
	}
}
