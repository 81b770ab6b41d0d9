package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

func leases() []sequence {
	var first, second *access.Answer
	return []sequence{
		{"one of two leases on a shared credential ends, then the other", func(m *mount) {
			m.role("admin", func(r *domain.Role) { r.ReuseWindow = 300 }, nil)
			m.granted("alice", "admin")
			first, second = m.issued("alice", "admin"), m.issued("alice", "admin")
		}, func(m *mount) error {
			if err := m.a.LeaseEnded(m.Context(), first.Lease); err != nil {
				return err
			}
			m.works(second, true)
			return m.a.LeaseEnded(m.Context(), second.Lease)
		}, 3},
		{"a lease ends", func(m *mount) {
			admin(m)
			m.granted("alice", "admin")
			first = m.issued("alice", "admin")
		}, func(m *mount) error { return m.a.LeaseEnded(m.Context(), first.Lease) }, 2},
		{"tidying up", func(m *mount) {
			admin(m)
			m.granted("alice", "admin")
			m.issued("alice", "admin")
			m.drain()
			m.clk.Advance(31 * 24 * time.Hour)
		}, func(m *mount) error {
			m.a.Tidy(m.Context())
			m.a.Idle()
			m.tick()
			return nil
		}, 3},
	}
}

// Leases end whole, and retention never loses what is not over.
func TestEveryCutOfALeaseHeals(t *testing.T) {
	for _, q := range leases() {
		cutEverywhere(t, q)
	}
}

// A rotation that is cut anywhere leaves a root credential that works, and the
// next rotation leaves no other.
func TestEveryCutOfARotationHeals(t *testing.T) {
	cutEverywhere(t, sequence{"rotate-root", func(m *mount) {
		admin(m)
		m.granted("alice", "admin")
		m.issued("alice", "admin")
	}, func(m *mount) error {
		return onlyErr(m.a.RotateRoot(m.Context(), "site"))
	}, 5})
	for _, way := range ways {
		for n := 1; n <= 5; n++ {
			t.Run(way.name, func(t *testing.T) {
				m := newMount(t)
				c := way.cut
				c.at = n
				m.s.plan(c)
				if err := onlyErr(m.a.RotateRoot(t.Context(), "site")); err == nil {
					t.Fatal("no error")
				}
				m.s.plan(cut{})
				if c.crash {
					m.crash()
				}
				m.must(onlyErr(m.a.RotateRoot(t.Context(), "site")))
				m.refused(m.writeTarget("thief", "one", access.LiveUnsaid), fault.CodeTarget) // with the first root credential
				admin(m)
				m.granted("alice", "admin")
				m.issued("alice", "admin")
			})
		}
	}
}
