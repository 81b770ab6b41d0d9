package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// A target that does not answer holds up nobody else's end: neither what is due
// at the same time elsewhere, nor what is due later.
func TestReaperGoesOnPastATargetThatHangs(t *testing.T) {
	m, stuck := ready(t, nil, nil)
	m.target("other", "two")
	m.role("second", func(r *domain.Role) { r.Target, r.MaxTTL, r.TTL = "other", 4*3600, 3600 }, nil)
	m.granted("alice", "second")
	first := m.issued("alice", "second")
	gone := func(ans *access.Answer) bool { return m.cred(ans).State == domain.CredGone }
	gate := m.world.Hold(fake.OpDelete, stuck.Lease.Credential)
	m.a.Start()
	m.clk.Advance(90 * time.Minute)
	m.a.Nudge()
	<-gate.Reached()
	m.eventually("what is due at the same time ends", func() bool { return gone(first) })

	m.granted("dave", "second")
	later := m.issued("dave", "second")
	m.clk.Advance(90 * time.Minute)
	m.eventually("what is due later ends", func() bool {
		m.clk.Advance(access.WorkFor) // so long a round waits
		m.a.Nudge()
		return gone(later)
	})
	if gone(stuck) {
		t.Error("what hangs is on record as gone")
	}
	gate.Release()
	m.eventually("and the one that hung", func() bool { return gone(stuck) })
}

// Decisions nudge the reaper. A nudge is about what is due: everybody is looked
// at once in an interval, however much is decided.
func TestANudgeDoesNotAskAboutEverybody(t *testing.T) {
	m := newMount(t)
	admin(m)
	m.pending("alice", "admin")
	m.a.Start()
	rounds := func() int { return m.clk.waited(10 * time.Second) }
	m.eventually("the reaper has looked once", func() bool { return rounds() > 0 })
	m.people.spent()
	for range 5 {
		before := rounds()
		m.a.Nudge()
		m.eventually("a nudge is followed", func() bool { return rounds() > before })
	}
	if n := m.people.spent(); n != 0 {
		t.Errorf("five nudges asked the host about people %d times", n)
	}
	m.clk.Advance(10 * time.Second)
	m.eventually("after the interval everybody is looked at", func() bool { return m.people.spent() > 0 })
}

// The end of a lease is one read and two writes, whatever else is on the record.
func TestCostOfTheEndOfALease(t *testing.T) {
	m, ans := ready(t, nil, nil)
	other := m.issued("alice", "admin")
	for _, lease := range []access.LeaseData{ans.Lease, other.Lease} {
		m.zero()
		m.must(m.a.LeaseEnded(t.Context(), lease))
		if got, want := m.s.spent(), (counts{reads: 1, writes: 2}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
