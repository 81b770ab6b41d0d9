package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// A window that was asked for later opens at its start, and its end stays where
// it is however late the approval comes.
func TestWindowWithAStart(t *testing.T) {
	at := func(d time.Duration) time.Time { return start.Add(d) }
	rows := []struct {
		name      string
		approve   time.Duration // after filing; the start is at two hours, for one hour
		early     fault.Code    // of a read right after the approval
		from, end time.Time
	}{
		{"approved before", time.Hour, fault.CodeScheduled, at(2 * time.Hour), at(3 * time.Hour)},
		{"approved at the start", 2 * time.Hour, "", at(2 * time.Hour), at(3 * time.Hour)},
		{"approved after the start", 150 * time.Minute, "", at(150 * time.Minute), at(3 * time.Hour)},
	}
	for _, row := range rows {
		for _, reaper := range []bool{true, false} {
			t.Run(row.name, func(t *testing.T) {
				m := newMount(t)
				admin(m)
				s, err := m.ask("alice", "admin", access.Ask{Start: at(2 * time.Hour)})
				m.must(err)
				id := s.View.Request.ID
				m.clk.Advance(row.approve)
				m.must(m.decide("bob", id, domain.Approve))
				r := m.request(id)
				if !r.WindowStart.Equal(row.from) || !r.WindowEnd.Equal(row.end) {
					t.Errorf("the window is from %s to %s", r.WindowStart, r.WindowEnd)
				}
				if row.early != "" {
					m.refused(onlyErr(m.creds("alice", "admin")), row.early)
					m.clk.Advance(row.from.Sub(m.clk.Now()))
					if reaper {
						m.tick()
					}
				}
				ans := m.issued("alice", "admin")
				if end := m.clk.Now().Add(ans.TTL); !end.Equal(row.end) {
					t.Errorf("the lease ends at %s", end)
				}
				m.clk.Advance(row.end.Sub(m.clk.Now()))
				m.tick()
				m.works(ans, false)
				m.clean()
			})
		}
	}
}

func TestWindowsThatNobodyCanAskFor(t *testing.T) {
	rows := []struct {
		name  string
		ask   access.Ask
		first bool
	}{
		{"a start in the past", access.Ask{Start: start.Add(-2 * time.Minute)}, false},
		{"a start more than 30 days ahead", access.Ask{Start: start.Add(30*24*time.Hour + time.Minute)}, false},
		{"a start for a window that starts at the first read", access.Ask{Start: start.Add(time.Hour)}, true},
		{"longer than max_ttl", access.Ask{TTL: seconds(9 * 3600)}, false},
		{"shorter than min_ttl", access.Ask{TTL: seconds(59)}, false},
		{"no length", access.Ask{TTL: seconds(0)}, false},
		{"a negative length", access.Ask{TTL: seconds(-1)}, false},
		{"no justification", access.Ask{Justification: "\x00"}, false},
		{"parameters that nobody declared", access.Ask{Params: map[string]string{"x": "y"}}, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			m.role("admin", func(r *domain.Role) {
				if row.first {
					r.Start, r.ClaimWithin = domain.StartFirstRead, 600
				}
			}, nil)
			m.refused(onlyErr(m.ask("alice", "admin", row.ask)), fault.CodeInvalid)
			if n := m.filed(); n != 0 {
				t.Errorf("%d requests were filed", n)
			}
		})
	}
}

// A window may start at the first read, within the time to claim it.
func TestWindowFromTheFirstRead(t *testing.T) {
	first := func(r *domain.Role) { r.Start, r.ClaimWithin = domain.StartFirstRead, 2*3600 }
	t.Run("it has its whole length", func(t *testing.T) {
		m := newMount(t)
		m.role("admin", first, nil)
		id := m.granted("alice", "admin")
		m.state(id, domain.Scheduled)
		m.pass(119 * time.Minute)
		ans := m.issued("alice", "admin")
		if ans.TTL != time.Hour {
			t.Errorf("a lease of %s", ans.TTL)
		}
		m.state(id, domain.Active)
		m.pass(59 * time.Minute)
		m.works(ans, true)
		m.pass(time.Minute)
		m.works(ans, false)
		m.clean()
	})
	t.Run("it lapses unclaimed", func(t *testing.T) {
		m := newMount(t)
		m.role("admin", first, nil)
		m.granted("alice", "admin")
		m.clk.Advance(2 * time.Hour)
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeExpired)
		m.clean()
	})
	t.Run("a failed first read does not start it", func(t *testing.T) {
		m := newMount(t)
		m.role("admin", func(r *domain.Role) { first(r); r.MaxCredentials = 1 }, nil)
		id := m.granted("alice", "admin")
		m.hold(domain.HoldTarget, "site")
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeHeld)
		m.state(id, domain.Scheduled)
	})
}

// Approvers may shorten what was asked, and the shortest counts.
func TestShortenedWindow(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.Approvals = 2 }, nil)
	id := m.pending("alice", "admin")
	digest := m.request(id).Digest
	say := func(name string, ttl *domain.Seconds) error {
		return onlyErr(m.a.Decide(t.Context(), who(name), id, access.Decision{Verdict: domain.Approve, Digest: digest, TTL: ttl}))
	}
	for _, wrong := range []int{0, -1, 59, 3601} {
		m.refused(say("bob", seconds(wrong)), fault.CodeInvalid)
	}
	m.must(say("bob", seconds(1800)))
	m.must(say("carol", seconds(900)))
	ans := m.issued("alice", "admin")
	if ans.TTL != 15*time.Minute {
		t.Errorf("a lease of %s", ans.TTL)
	}
	m.clean()
}

// A decision is about exactly what was asked.
func TestDecisionsBindToTheDigest(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	id := m.pending("alice", "admin")
	digest := m.request(id).Digest
	say := func(name string, d access.Decision) error { return onlyErr(m.a.Decide(t.Context(), who(name), id, d)) }
	m.refused(say("bob", access.Decision{Verdict: domain.Approve}), fault.CodeInvalid)
	m.refused(say("bob", access.Decision{Verdict: domain.Approve, Digest: digest[1:] + "0"}), fault.CodeDigest)
	m.refused(say("bob", access.Decision{Verdict: "maybe", Digest: digest}), fault.CodeInvalid)
	m.refused(say("alice", access.Decision{Verdict: domain.Approve, Digest: digest}), fault.CodeNotApprover)
	m.refused(say("dave", access.Decision{Verdict: domain.Approve, Digest: digest}), fault.CodeInvalid) // as unknown
	m.must(say("bob", access.Decision{Verdict: domain.Approve, Digest: digest}))
	m.refused(say("bob", access.Decision{Verdict: domain.Deny}), fault.CodeNotPending)
	m.refused(say("carol", access.Decision{Verdict: domain.Deny}), fault.CodeNotPending)
}

// A role or target that changed under a request makes it void instead of
// approved, a role that was deleted and written again too.
func TestChangedUnderARequest(t *testing.T) {
	rows := map[string]func(m *mount){
		"role edited": func(m *mount) { m.must(onlyErr(m.edit("admin", access.LiveUnsaid, shorter))) },
		"role written again": func(m *mount) {
			m.must(onlyErr(m.a.DeleteRole(m.Context(), access.Caller{}, "admin", access.EditOptions{})))
			m.role("admin", nil, nil)
		},
		"target moved": func(m *mount) { m.must(m.writeTarget("site", "two", access.LiveUnsaid)) },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			admin(m)
			id := m.pending("alice", "admin")
			digest := m.request(id).Digest
			copied := m.disk.copied().data["req/"+string(id)]
			change(m)
			m.state(id, domain.Void)
			// Even when the voiding was lost.
			m.disk.mu.Lock()
			m.disk.data["req/"+string(id)] = copied
			m.disk.mu.Unlock()
			m.host.readonly = true
			m.crash()
			m.refused(onlyErr(m.a.Decide(t.Context(), who("bob"), id, access.Decision{Verdict: domain.Approve, Digest: digest})), fault.CodeVoid)
			m.state(id, domain.Void)
			m.host.readonly = false
			m.clean()
		})
	}
	t.Run("new words for people change nothing", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		id := m.pending("alice", "admin")
		m.must(onlyErr(m.edit("admin", access.LiveUnsaid, func(r *domain.Role) {
			r.Description, r.Owner, r.Labels = "other words", "bob", map[string]string{"a": "b"}
		})))
		m.must(onlyErr(m.a.RotateRoot(t.Context(), "site")))
		m.must(m.decide("bob", id, domain.Approve))
		m.issued("alice", "admin")
	})
	t.Run("back to the same content, and it stands again", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		m.granted("alice", "admin")
		ans := m.issued("alice", "admin")
		m.must(onlyErr(m.edit("admin", access.LiveKeep, shorter)))
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeRoleChanged)
		m.works(ans, true)
		m.must(onlyErr(m.edit("admin", access.LiveKeep, func(r *domain.Role) { r.TTL = 3600 })))
		m.issued("alice", "admin")
		m.clean()
	})
}

// A request that is ended stays ended.
func TestWhatIsClosedStaysClosed(t *testing.T) {
	m := newMount(t)
	admin(m)
	id := m.pending("alice", "admin")
	m.refused(onlyErr(m.a.Cancel(t.Context(), who("dave"), id)), fault.CodeInvalid)
	for range 2 {
		m.must(onlyErr(m.a.Cancel(t.Context(), who("alice"), id)))
		m.tick()
	}
	m.refused(m.decide("bob", id, domain.Approve), fault.CodeNotPending)
	m.state(id, domain.Cancelled)
	for range 2 {
		m.refused(onlyErr(m.a.RevokeGrant(t.Context(), who("bob"), id, "")), fault.CodeInvalid) // it never was a grant
	}
	m.state(id, domain.Cancelled)
}
