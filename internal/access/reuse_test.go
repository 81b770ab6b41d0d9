package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

func reusable(r *domain.Role) { r.ReuseWindow = 300 }

func reuseMount(t *testing.T) *mount {
	m := newMount(t)
	m.role("admin", reusable, nil)
	m.granted("alice", "admin")
	return m
}

func same(a, b *access.Answer) bool {
	return a.Lease.Credential == b.Lease.Credential && a.Data["password"] == b.Data["password"]
}

// Within the window reads share a credential, each with a lease of its own; it
// ends with the last of them.
func TestSharedCredentialEndsWithItsLastLease(t *testing.T) {
	m := reuseMount(t)
	one := m.issued("alice", "admin")
	m.clk.Advance(time.Minute)
	two := m.issued("alice", "admin")
	m.clk.Advance(3 * time.Minute)
	three := m.issued("alice", "admin")
	if !same(one, two) || !same(two, three) {
		t.Fatal("reads within the window got credentials of their own")
	}
	if one.Data["pim_shared"] != false || two.Data["pim_shared"] != true {
		t.Errorf("pim_shared: %v, %v", one.Data["pim_shared"], two.Data["pim_shared"])
	}
	if one.Lease.Nonce == two.Lease.Nonce || two.Lease.Nonce == three.Lease.Nonce {
		t.Error("two leases with one nonce")
	}
	if three.TTL != time.Hour-4*time.Minute {
		t.Errorf("the third lease is of %s", three.TTL)
	}
	for _, ans := range []*access.Answer{two, one, two, one} { // twice is once
		m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
		m.works(three, true)
	}
	m.must(m.a.LeaseEnded(t.Context(), three.Lease))
	m.works(three, false)
	again := m.issued("alice", "admin")
	if same(again, three) {
		t.Fatal("what has ended was handed out again")
	}
	m.clean()
}

func TestWhenReadsDoNotShare(t *testing.T) {
	rows := []struct {
		name    string
		between func(m *mount)
	}{
		{"after the reuse window", func(m *mount) { m.clk.Advance(5 * time.Minute) }},
		{"after a restart", func(m *mount) { m.crash() }},
		{"under another grant", func(m *mount) {
			m.must(onlyErr(m.a.Cancel(m.Context(), who("alice"), firstOpen(m))))
			m.tick()
			m.granted("alice", "admin")
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := reuseMount(t)
			one := m.issued("alice", "admin")
			row.between(m)
			if same(one, m.issued("alice", "admin")) {
				t.Fatal("shared")
			}
			m.clean()
		})
	}
}

// Everything that ends access or stops issuing stops sharing too.
func TestSharingIsRefusedLikeIssuing(t *testing.T) {
	rows := []struct {
		name   string
		before func(m *mount)
		code   fault.Code
	}{
		{"role held", func(m *mount) { m.hold(domain.HoldRole, "admin") }, fault.CodeHeld},
		{"approver disabled", func(m *mount) { m.people.change("bob", func(e *domain.Entity) { e.Disabled = true }) }, fault.CodeNotApprover},
		{"requester not eligible", func(m *mount) { m.people.change("alice", func(e *domain.Entity) { e.Groups = nil }) }, fault.CodeNotEligible},
		{"grant revoked", func(m *mount) { m.must(onlyErr(m.a.RevokeGrant(m.Context(), who("bob"), firstOpen(m), ""))) }, fault.CodeRevoked},
		{"role edited, live kept", func(m *mount) { m.must(onlyErr(m.edit("admin", access.LiveKeep, shorter))) }, fault.CodeRoleChanged},
		{"window over", func(m *mount) { m.clk.Advance(time.Hour) }, fault.CodeEnded},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := reuseMount(t)
			m.issued("alice", "admin")
			row.before(m)
			m.refused(onlyErr(m.creds("alice", "admin")), row.code)
		})
	}
}

// A lease that the host gave up on does not keep a shared credential alive.
func TestLostLeaseDoesNotKeepASharedCredential(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { reusable(r); r.LeaseTTL = 600 }, nil)
	m.granted("alice", "admin")
	m.issued("alice", "admin")
	m.clk.Advance(2 * time.Minute)
	two := m.issued("alice", "admin")
	m.pass(8 * time.Minute) // the host says nothing of either
	m.works(two, false)
	m.clean()
}

// However often a shared credential is read, its record stays small enough to
// be ended.
func TestManyReadsOfASharedCredential(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { reusable(r); r.MaxCredentials = 3 }, nil)
	m.granted("alice", "admin")
	var all []*access.Answer
	for range 300 {
		all = append(all, m.issued("alice", "admin"))
	}
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeLimit) // 3 credentials with 100 leases each
	if n := len(m.disk.value("req/" + string(all[0].Lease.Request))); n > 64<<10 {
		t.Errorf("the record has %d bytes", n)
	}
	m.must(onlyErr(m.a.RevokeGrant(t.Context(), who("bob"), all[0].Lease.Request, "")))
	m.works(all[0], false)
	m.works(all[len(all)-1], false)
	for _, ans := range all[:10] {
		m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
	}
	m.clean()
}
