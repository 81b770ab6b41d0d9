package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// What a person did with a role is known while a grant is open, stays known
// when it is archived, and is counted once.
func TestUsageOfAPerson(t *testing.T) {
	m := newMount(t)
	admin(m)
	want := func(when string, count, denials int, last time.Time) {
		t.Helper()
		u, err := m.a.Usage(t.Context(), "entity:"+domain.Person(id("alice")), "admin")
		m.must(err)
		if u.Count != count || u.Denials != denials || !u.Last.Equal(last) {
			t.Fatalf("%s: %+v", when, u)
		}
	}
	want("before anything", 0, 0, time.Time{})
	m.pending("alice", "admin")
	m.must(m.decide("bob", firstOpen(m), domain.Deny))
	m.tick()
	want("after a denial", 0, 1, time.Time{})
	m.clk.Advance(5 * time.Hour)
	id := m.granted("alice", "admin")
	want("approved but not used", 0, 1, time.Time{})
	first := m.clk.Now()
	m.issued("alice", "admin")
	m.issued("alice", "admin")
	want("while the grant is open", 1, 1, first)
	_, err := m.a.Cancel(t.Context(), who("alice"), id)
	m.must(err)
	m.tick()
	want("given back and archived", 1, 1, first)
	m.pending("alice", "admin")
	want("after the next request was filed", 1, 1, first)
	m.clk.Advance(40 * 24 * time.Hour)
	m.clean()
	m.a.Tidy(t.Context())
	m.a.Idle()
	want("after the retention of requests", 1, 1, first)
}

// A close that was cut anywhere is counted once.
func TestUsageIsCountedOnce(t *testing.T) {
	for _, way := range ways {
		for n := 1; n <= 6; n++ {
			t.Run(way.name, func(t *testing.T) {
				m := newMount(t)
				admin(m)
				rid := m.granted("alice", "admin")
				m.issued("alice", "admin")
				c := way.cut
				c.at = n
				m.s.plan(c)
				if _, err := m.a.Cancel(t.Context(), who("alice"), rid); err != nil {
					t.Logf("write %d: %v", n, err)
				}
				m.tick()
				if c.crash {
					m.crash()
				} else {
					m.s.plan(cut{})
				}
				m.drain()
				u, err := m.a.Usage(t.Context(), "entity:"+domain.Person(id("alice")), "admin")
				m.must(err)
				if u.Count != 1 {
					t.Errorf("cut at write %d: counted %d times", n, u.Count)
				}
			})
		}
	}
}
