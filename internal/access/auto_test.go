package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// shortLeases approves by itself and has leases shorter than the window.
func shortLeases(r *domain.Role) { auto(r); r.LeaseTTL = 900 }

// perRun approves by itself and is asked for with the id of a run.
func perRun(r *domain.Role) {
	shortLeases(r)
	r.Params = map[string]domain.Param{
		"run":   {Pattern: "[0-9]+", Required: true},
		"stage": {Allowed: []string{"test", "prod"}, Default: "test"},
	}
}

func (m *mount) run(name, role string, params map[string]string) (*access.Answer, error) {
	return m.a.Creds(m.Context(), who(name), role, access.CredsAsk{Ask: access.Ask{Params: params}})
}

// A role that approves by itself gives each job a grant of its own.
func TestJobsLendEachOtherNothing(t *testing.T) {
	t.Run("with a lease as long as the window each read has its own grant", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", auto, nil)
		one := m.issued("robot", "ci")
		m.clk.Advance(time.Second)
		two := m.issued("robot", "ci")
		if one.Lease.Request == two.Lease.Request {
			t.Fatal("two reads under one grant")
		}
		if one.TTL != time.Hour || two.TTL != time.Hour {
			t.Fatalf("leases of %s and %s", one.TTL, two.TTL)
		}
		m.must(m.a.LeaseEnded(t.Context(), one.Lease))
		m.works(two, true)
		m.clean()
	})
	t.Run("a grant takes reads while a full lease is left in it", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", shortLeases, nil)
		first := m.issued("robot", "ci")
		m.clk.Advance(45 * time.Minute)
		last := m.issued("robot", "ci")
		if last.Lease.Request != first.Lease.Request || last.TTL != 15*time.Minute {
			t.Fatalf("the last full lease: %s, of another grant: %v", last.TTL, last.Lease.Request != first.Lease.Request)
		}
		m.clk.Advance(time.Second)
		next := m.issued("robot", "ci")
		if next.Lease.Request == first.Lease.Request || next.TTL != 15*time.Minute {
			t.Fatalf("inherited the last %s of another job", next.TTL)
		}
		m.clean()
	})
	t.Run("runs have grants of their own, and find them again", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", perRun, nil)
		of := map[string]domain.RequestID{}
		for range 3 {
			for _, n := range []string{"1", "2"} {
				ans, err := m.run("robot", "ci", map[string]string{"run": n})
				m.must(err)
				if before, ok := of[n]; ok && before != ans.Lease.Request {
					t.Fatalf("run %s did not find its grant again", n)
				}
				of[n] = ans.Lease.Request
			}
		}
		if of["1"] == of["2"] {
			t.Fatal("two runs share a grant")
		}
		m.refused(onlyErr(m.run("robot", "ci", nil)), fault.CodeInvalid)
		if n := len(m.disk.keys("req/")); n != 2 {
			t.Fatalf("%d requests", n)
		}
		m.clean()
	})
}

// However often a read of a role that approves by itself is repeated, and
// whatever stands in its way, requests do not pile up.
func TestAutoApprovedReadsPileUpNothing(t *testing.T) {
	const reads = 8
	tries := func(m *mount, code fault.Code) {
		m.Helper()
		for range reads {
			m.refused(onlyErr(m.creds("robot", "ci")), code)
			m.clk.Advance(10 * time.Second)
			m.tick()
		}
	}
	t.Run("when the target is down", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", auto, nil)
		undo := m.world.Inject(fake.Fault{On: fake.OpCreate, Mode: fake.FailBefore})
		tries(m, fault.CodeUpstream)
		undo()
		m.pass(2 * time.Minute)
		if n := len(m.disk.keys("req/")); n > 1 {
			t.Errorf("%d requests are open after %d reads that failed", n, reads)
		}
		m.issued("robot", "ci")
		m.clean()
	})
	t.Run("when the target refuses", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", auto, nil)
		m.world.Inject(fake.Fault{On: fake.OpCreate, Mode: fake.Refuse})
		tries(m, fault.CodeTarget)
		m.pass(2 * time.Minute)
		if n := len(m.disk.keys("req/")); n > 0 {
			t.Errorf("%d requests are open after %d reads that were refused", n, reads)
		}
		m.clean()
	})
	t.Run("when the target is full", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", auto, nil)
		one := 1
		_, err := m.a.WriteTarget(t.Context(), access.Caller{}, "site", access.TargetEdit{MaxLive: &one}, access.EditOptions{})
		m.must(err)
		m.issued("alice", "ci")
		tries(m, fault.CodeLimit)
		if n := len(m.disk.keys("req/")); n > 2 {
			t.Errorf("%d requests are open", n)
		}
		m.clean()
	})
	t.Run("when the window starts at the first read", func(t *testing.T) {
		m := newMount(t)
		m.role("ci", func(r *domain.Role) {
			shortLeases(r)
			r.Start, r.ClaimWithin = domain.StartFirstRead, 3600
		}, nil)
		first := m.issued("robot", "ci")
		for range reads {
			if again := m.issued("robot", "ci"); again.Lease.Request != first.Lease.Request {
				t.Fatal("each read files a request")
			}
		}
		m.clean()
	})
}

// wishful files requests by reads.
func wishful(r *domain.Role) { r.AutoRequest, r.RequireJustification = true, false }

func again(r *domain.Role) { wishful(r); r.AutoRequestAgain = true }

// filed counts the requests that exist, archived ones included.
func (m *mount) filed() int {
	return len(m.disk.keys("req/")) + len(m.disk.keys("arch/"))
}

// A read files one request, shows it until somebody decides, and neither
// bothers people after a refusal nor asks for ever.
func TestReadsThatFileRequests(t *testing.T) {
	deny := func(m *mount) { m.must(m.decide("bob", firstOpen(m), domain.Deny)); m.tick() }
	cancel := func(m *mount) { m.must(onlyErr(m.a.Cancel(m.Context(), who("alice"), firstOpen(m)))); m.tick() }
	expire := func(m *mount) { m.pass(24*time.Hour + time.Minute) }
	use := func(m *mount) { m.must(m.decide("bob", firstOpen(m), domain.Approve)); m.pass(time.Hour + time.Minute) }
	revoke := func(m *mount) {
		m.must(m.decide("bob", firstOpen(m), domain.Approve))
		m.must(onlyErr(m.a.RevokeGrant(m.Context(), who("bob"), firstOpen(m), "")))
		m.tick()
	}
	void := func(m *mount) { m.must(onlyErr(m.edit("admin", access.LiveUnsaid, shorter))); m.tick() }
	rows := []struct {
		name  string
		role  func(*domain.Role)
		after func(*mount)
		wait  time.Duration
		files bool
	}{
		{"while it is pending", wishful, func(*mount) {}, 0, false},
		{"after a denial", wishful, deny, 3 * time.Hour, false},
		{"after a denial, when the cool-down is over", wishful, deny, 4 * time.Hour, true},
		{"after a cancel", wishful, cancel, 3 * time.Hour, false},
		{"after a cancel, when the cool-down is over", wishful, cancel, 4 * time.Hour, true},
		{"after a revocation", wishful, revoke, 3 * time.Hour, false},
		{"after a revocation, when the cool-down is over", wishful, revoke, 4 * time.Hour, true},
		{"after it became void", wishful, void, 3 * time.Hour, false},
		{"after it expired", wishful, expire, 48 * time.Hour, false},
		{"after it expired, when the role says again", again, expire, 0, true},
		{"after it ended", wishful, use, 72 * time.Hour, false},
		{"after it ended, when the role says again", again, use, 0, true},
		{"after a denial, although the role says again", again, deny, 3 * time.Hour, false},
	}
	for _, row := range rows {
		for _, restart := range []bool{false, true} {
			t.Run(row.name, func(t *testing.T) {
				m := newMount(t)
				m.role("admin", row.role, nil)
				m.refused(onlyErr(m.creds("alice", "admin")), fault.CodePending)
				m.refused(onlyErr(m.creds("alice", "admin")), fault.CodePending)
				if m.filed() != 1 {
					t.Fatalf("two reads filed %d requests", m.filed())
				}
				row.after(m)
				m.pass(row.wait)
				if restart {
					m.crash()
				}
				want := 1
				if row.files {
					want = 2
				}
				for range 3 {
					if err := onlyErr(m.creds("alice", "admin")); err == nil {
						t.Fatal("no error")
					}
					if m.filed() != want {
						t.Fatalf("%d requests, want %d", m.filed(), want)
					}
				}
			})
		}
	}
}

func TestReadsFileAtMostThreeRequestsADay(t *testing.T) {
	m := newMount(t)
	m.role("admin", wishful, nil)
	m.role("other", nil, nil)
	m.config(func(c *domain.Config) { c.AutoRequestCooldown = 0 })
	for i := range 6 {
		_ = onlyErr(m.creds("alice", "admin")) // the codes have a test of their own
		if want := min(i+1, 3); m.filed() != want {
			t.Fatalf("after %d refusals %d requests, want %d", i, m.filed(), want)
		}
		for _, k := range m.disk.keys("req/") {
			m.must(m.decide("bob", record[domain.Request](m, k).ID, domain.Deny))
		}
		m.pass(time.Minute)
	}
	m.pass(24 * time.Hour)
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodePending)
}

// What a person was told of a role is not forgotten because they asked for
// another one.
func TestOtherRequestsDoNotMakeAReadForget(t *testing.T) {
	m := newMount(t)
	m.role("admin", wishful, nil)
	m.role("other", nil, nil)
	m.config(func(c *domain.Config) { c.AutoRequestCooldown = 7 * 24 * 3600 })
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodePending)
	m.must(m.decide("bob", firstOpen(m), domain.Deny))
	m.pass(25 * time.Hour)
	m.pending("alice", "other") // cuts old entries off the person's record
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeRequestDenied)
	if n := m.filed(); n != 2 {
		t.Fatalf("%d requests", n)
	}
}

// A request by hand ends the cool-down: it is what the read shows.
func TestRequestByHandEndsTheCoolDown(t *testing.T) {
	m := newMount(t)
	m.role("admin", wishful, nil)
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodePending)
	m.must(m.decide("bob", firstOpen(m), domain.Deny))
	m.tick()
	id := m.pending("alice", "admin")
	f := m.refused(onlyErr(m.creds("alice", "admin")), fault.CodePending)
	if f.Data["request_id"] != string(id) {
		t.Fatalf("shows %v", f.Data["request_id"])
	}
}
