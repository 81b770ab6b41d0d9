package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// BenchmarkCreds reads a credential and ends one, under a grant that has twenty
// live ones, with the storage and the target in memory: what is ours of a read
// and of an end, without any call.
func BenchmarkCreds(b *testing.B) {
	m := newMount(b)
	m.role("admin", func(r *domain.Role) { r.MaxCredentials = 32 }, nil)
	m.config(func(c *domain.Config) { c.IssueRate = 100_000 })
	m.granted("alice", "admin")
	live := make([]*access.Answer, 0, 21)
	b.ReportAllocs()
	for b.Loop() {
		m.clk.Advance(time.Millisecond)
		live = append(live, m.issued("alice", "admin"))
		if len(live) < cap(live) {
			continue
		}
		m.must(m.a.LeaseEnded(b.Context(), live[0].Lease))
		live = append(live[:0], live[1:]...)
	}
}
