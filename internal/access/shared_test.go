package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// bound has alice hold one shared object under two grants.
func bound(t *testing.T) (m *mount, one, two *access.Answer) {
	t.Helper()
	m = newMount(t)
	bindings(m)
	m.granted("alice", "admin")
	m.granted("alice", "other")
	var err error
	one, err = m.creds("alice", "admin")
	m.must(err)
	two, err = m.creds("alice", "other")
	m.must(err)
	return m, one, two
}

func (m *mount) usable(want int) {
	m.Helper()
	if n := len(m.world.Usable()); n != want {
		m.Fatalf("%d objects give access, want %d", n, want)
	}
}

// A shared object lives as long as anybody who uses it.
func TestSharedObjectEndsWithItsLastUser(t *testing.T) {
	ends := map[string]func(m *mount, ans *access.Answer){
		"its lease ends":    func(m *mount, ans *access.Answer) { m.must(m.a.LeaseEnded(m.Context(), ans.Lease)) },
		"its grant is back": func(m *mount, ans *access.Answer) { m.giveBack(ans) },
		"it is revoked": func(m *mount, ans *access.Answer) {
			m.must(onlyErr(m.a.RevokeGrant(m.Context(), who("bob"), ans.Lease.Request, "")))
		},
	}
	for name, end := range ends {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				m, one, two := bound(t)
				m.usable(1)
				end(m, one)
				if restart {
					m.crash()
				}
				m.usable(1)
				for range 3 { // twice is once: it is not the other's turn
					m.must(m.a.LeaseEnded(t.Context(), one.Lease))
				}
				m.usable(1)
				end(m, two)
				m.usable(0)
				m.clean()
			})
		}
	}
}

func (m *mount) giveBack(ans *access.Answer) {
	m.Helper()
	m.must(onlyErr(m.a.Cancel(m.Context(), who("alice"), ans.Lease.Request)))
	m.tick()
}

// While the release of the last user is not confirmed, nobody enters.
func TestSharedObjectIsBusyWhileItIsReleased(t *testing.T) {
	m, one, two := bound(t)
	m.must(m.a.LeaseEnded(t.Context(), one.Lease))
	up := m.world.Inject(fake.Fault{On: fake.OpDelete, Mode: fake.FailAfter}) // it is gone, and nobody knows
	if err := m.a.LeaseEnded(t.Context(), two.Lease); err == nil {
		t.Fatal("confirmed")
	}
	for range 3 {
		f := m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeBusy)
		if f.Data["poll_after_seconds"] == nil {
			t.Error("nobody is told when to try again")
		}
		m.crash()
	}
	up()
	m.pass(10 * time.Minute)
	m.must(onlyErr(m.creds("alice", "admin")))
	m.usable(1)
	m.clean()
}

// The lease of a credential that ended long ago ends nothing of those who use
// the object today.
func TestOldLeaseDoesNotEndASharedObject(t *testing.T) {
	rows := map[string]func(m *mount, old *access.Answer){
		"record archived": func(m *mount, old *access.Answer) { m.giveBack(old) },
		"record tidied away": func(m *mount, old *access.Answer) {
			m.giveBack(old)
			m.forget("arch/")
			m.dangling = true
		},
		"credential dropped from its record": func(m *mount, old *access.Answer) {
			m.must(m.a.LeaseEnded(m.Context(), old.Lease))
			m.rewrite(old.Lease.Request, func(r *domain.Request) { r.Credentials = nil })
			m.crash()
		},
	}
	for name, event := range rows {
		t.Run(name, func(t *testing.T) {
			m, one, two := bound(t)
			event(m, one)
			m.usable(1)
			for range 2 {
				m.must(m.a.LeaseEnded(t.Context(), one.Lease))
				m.usable(1)
			}
			m.giveBack(two)
			m.usable(0)
			m.clean()
		})
	}
}

// The second user is told apart from an access that the principal has outside
// pim.
func TestStandingAccessIsNeitherAdoptedNorTaken(t *testing.T) {
	m := newMount(t)
	bindings(m)
	m.world.AddStanding("one", "admin", "alice@site")
	m.granted("alice", "admin")
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeTarget)
	m.pass(5 * time.Minute)
	m.clean()
	if n := m.world.Count(fake.OpCreate); n == 0 {
		t.Fatal("nothing was tried")
	}
}

// The principal that was approved is the one that is elevated.
func TestPrincipalIsTheOneThatWasApproved(t *testing.T) {
	m := newMount(t)
	bindings(m)
	id := m.granted("alice", "admin")
	if p := m.request(id).Principal; p != "alice@site" {
		t.Fatalf("sealed for %q", p)
	}
	m.people.change("alice", func(e *domain.Entity) { e.Metadata = map[string]string{"principal": "root@site"} })
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeRoleChanged)
	if n := m.world.Count(fake.OpCreate); n != 0 {
		t.Fatalf("%d calls", n)
	}
	m.clean()
}

// Two persons with one principal each need their own end.
func TestPrincipalsAreSharedOverPersons(t *testing.T) {
	m := newMount(t)
	m.people.change("dave", func(e *domain.Entity) { e.Metadata = map[string]string{"principal": "alice@site"} })
	m.role("admin", nil, contract.Values{"principal_source": "principal"})
	var leases []*access.Answer
	for _, n := range []string{"alice", "dave"} {
		m.granted(n, "admin")
		ans, err := m.creds(n, "admin")
		m.must(err)
		leases = append(leases, ans)
	}
	m.usable(1)
	m.kill(access.Kill{Kind: domain.HoldPerson, Value: id("alice")})
	m.usable(1)
	m.must(m.a.LeaseEnded(t.Context(), leases[1].Lease))
	m.usable(0)
	m.clean()
}
