package access_test

import (
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

func shorter(r *domain.Role) { r.TTL = 1800 }

// An edit that revokes what is live catches what is being planned at that
// moment too.
func TestNothingSlipsThroughAnEdit(t *testing.T) {
	for name, edit := range map[string]func(m *mount) error{
		"role edited": func(m *mount) error { return onlyErr(m.edit("admin", access.LiveRevoke, shorter)) },
		"role deleted": func(m *mount) error {
			return onlyErr(m.a.DeleteRole(m.Context(), access.Caller{}, "admin", access.EditOptions{Live: access.LiveRevoke}))
		},
		"role deleted and written again": func(m *mount) error {
			err := onlyErr(m.a.DeleteRole(m.Context(), access.Caller{}, "admin", access.EditOptions{Live: access.LiveRevoke}))
			m.role("admin", nil, nil)
			return err
		},
		"target moved": func(m *mount) error { return m.writeTarget("site", "two", access.LiveRevoke) },
	} {
		for kind, edited := range map[string]func(*domain.Role){"approved": nil, "auto-approved": auto} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				m := newMount(t)
				m.role("admin", edited, nil)
				if edited == nil {
					m.granted("alice", "admin")
				}
				m.host.planning = func() { m.must(edit(m)) }
				_, err := m.creds("alice", "admin")
				m.refused(err, fault.CodeBusy)
				if n := len(m.world.Objects()); n > 0 {
					t.Fatalf("%d credential(s) were made under what is not the role any more", n)
				}
				m.clean()
			})
		}
	}
}

// live=revoke is never half done without an error, and doing it again finishes
// it.
func TestLiveRevokeIsFinishedByTheSameEdit(t *testing.T) {
	edits := map[string]func(m *mount) error{
		"role edit": func(m *mount) error { return onlyErr(m.edit("admin", access.LiveRevoke, shorter)) },
		"role delete": func(m *mount) error {
			return onlyErr(m.a.DeleteRole(m.Context(), access.Caller{}, "admin", access.EditOptions{Live: access.LiveRevoke}))
		},
		"target edit": func(m *mount) error { return m.writeTarget("site", "two", access.LiveRevoke) },
	}
	for name, edit := range edits {
		for _, way := range ways {
			t.Run(name+"/"+way.name, func(t *testing.T) {
				m := newMount(t)
				m.world.SetPlace("two", "place-of-one") // another address of the same place
				admin(m)
				for _, who := range []string{"alice", "dave"} {
					m.granted(who, "admin")
					m.issued(who, "admin")
				}
				c := way.cut
				c.at = 2 // in the midst of the two
				m.s.plan(c)
				if err := edit(m); err == nil {
					t.Fatal("half done, and no error")
				}
				m.s.plan(cut{})
				if way.cut.crash {
					m.crash()
				}
				m.must(edit(m))
				m.tick()
				if n := len(m.world.Usable()); n > 0 {
					t.Fatalf("%d credential(s) are alive after live=revoke", n)
				}
				m.clean()
			})
		}
	}
}

// A request that an edit could not void any more does not stand in the way of a
// new one, and nobody is asked to decide on it.
func TestRequestsOfAnOldRoleAreVoided(t *testing.T) {
	change := func(m *mount) {
		m.s.plan(cut{at: 2, crash: true}) // the role is written, its requests are not
		_, err := m.edit("admin", access.LiveUnsaid, shorter)
		m.Logf("the edit: %v", err)
	}
	t.Run("by the reaper", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		old := m.pending("alice", "admin")
		change(m)
		m.crash()
		m.state(old, domain.Void)
		m.clean()
	})
	t.Run("by the next ask", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		old := m.pending("alice", "admin")
		change(m)
		m.host.readonly = true // so the reaper of the next process does not look yet
		m.crash()
		s, err := m.ask("alice", "admin", access.Ask{})
		m.must(err)
		if s.Existing || s.View.Request.ID == old {
			t.Fatal("the old request was taken for the new one")
		}
		m.state(old, domain.Void)
		m.host.readonly = false
		m.tick()
		m.clean()
	})
}

// Where and what place a target is cannot change under what lives there, not
// even when it comes to live at that very moment.
func TestPlaceCannotChangeUnderLiveCredentials(t *testing.T) {
	m := newMount(t)
	admin(m)
	m.granted("alice", "admin")
	ans := m.issued("alice", "admin")
	m.refused(m.writeTarget("site", "two", access.LiveKeep), fault.CodePlace)
	m.refused(m.writeTarget("site", "two", access.LiveRevoke), fault.CodePlace)
	m.refused(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "site", access.EditOptions{})), fault.CodeLive)
	m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
	m.must(m.writeTarget("site", "two", access.LiveUnsaid))
	m.clean()
}

// A write that changes where we speak must carry the secret again.
func TestSecretGoesOnlyWhereItWasMeantFor(t *testing.T) {
	m := newMount(t)
	before := m.world.Count("")
	_, err := m.a.WriteTarget(t.Context(), access.Caller{}, "site", access.TargetEdit{
		Set: contract.Values{"address": "evil"},
	}, access.EditOptions{})
	f := m.refused(err, fault.CodeInvalid)
	if n := m.world.Count(""); n != before {
		t.Fatalf("the new address was called %d times with the old secret", n-before)
	}
	t.Log(f.Public)
	_, err = m.a.WriteTarget(t.Context(), access.Caller{}, "site", access.TargetEdit{
		Set:     contract.Values{"address": "two"},
		Secrets: map[string]secret.String{"password": secret.New("root-of-two")},
	}, access.EditOptions{})
	m.must(err)
}
