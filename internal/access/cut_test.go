package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

func onlyErr[T any](_ T, err error) error { return err }

// admin prepares the ordinary role.
func admin(m *mount) { m.role("admin", nil, nil) }

// bindings prepares two roles that share one object per principal.
func bindings(m *mount) {
	shared := contract.Values{"principal_source": "principal"}
	m.role("admin", nil, shared)
	m.role("other", nil, shared)
}

// both have alice hold the shared object under two grants.
func both(m *mount) {
	bindings(m)
	for _, role := range []string{"admin", "other"} {
		m.granted("alice", role)
		m.must(onlyErr(m.creds("alice", role)))
	}
}

func requests() []sequence {
	return []sequence{
		{"filing a request", admin, func(m *mount) error { return onlyErr(m.ask("alice", "admin", access.Ask{})) }, 2},
		{"approving", func(m *mount) { admin(m); m.pending("alice", "admin") }, func(m *mount) error {
			return m.decide("bob", firstOpen(m), domain.Approve)
		}, 1},
		{"denying and archiving", func(m *mount) { admin(m); m.pending("alice", "admin") }, func(m *mount) error {
			err := m.decide("bob", firstOpen(m), domain.Deny)
			m.tick()
			return err
		}, 4},
		{"cancelling and archiving", func(m *mount) { admin(m); m.pending("alice", "admin") }, func(m *mount) error {
			err := onlyErr(m.a.Cancel(m.Context(), who("alice"), firstOpen(m)))
			m.tick()
			return err
		}, 4},
		{"giving a grant back", func(m *mount) { admin(m); m.granted("alice", "admin"); m.issued("alice", "admin") }, func(m *mount) error {
			err := onlyErr(m.a.Cancel(m.Context(), who("alice"), firstOpen(m)))
			m.tick()
			return err
		}, 5},
		{"expiry of what nobody decided", func(m *mount) { admin(m); m.pending("alice", "admin") }, func(m *mount) error {
			m.clk.Advance(25 * time.Hour)
			m.tick()
			return nil
		}, 5},
		{"end of the window", func(m *mount) { admin(m); m.granted("alice", "admin"); m.issued("alice", "admin") }, func(m *mount) error {
			m.clk.Advance(time.Hour)
			m.tick()
			return nil
		}, 6},
	}
}

func firstOpen(m *mount) domain.RequestID {
	m.Helper()
	keys := m.disk.keys("req/")
	if len(keys) == 0 {
		m.Fatal("no request is open")
	}
	return domain.RequestID(keys[0][len("req/"):])
}

func issues() []sequence {
	read := func(m *mount) error { return onlyErr(m.creds("alice", "admin")) }
	granted := func(fields contract.Values, edit func(*domain.Role)) func(*mount) {
		return func(m *mount) { m.role("admin", edit, fields); m.granted("alice", "admin") }
	}
	return []sequence{
		{"issuing", granted(nil, nil), read, 2},
		{"issuing what is named on the way", granted(contract.Values{"credential_type": "late"}, nil), read, 3},
		{"issuing what takes long", granted(contract.Values{"slow": true}, nil), read, 2},
		{"issuing and ending at once", granted(contract.Values{"remainder": 600}, nil), func(m *mount) error {
			ans, err := m.creds("alice", "admin")
			if err != nil {
				return err
			}
			if err := m.a.LeaseEnded(m.Context(), ans.Lease); err != nil {
				return err
			}
			m.pass(11 * time.Minute)
			return nil
		}, 5},
		{"issuing under a role that approves by itself", func(m *mount) { m.role("admin", auto, nil) }, read, 4},
		{"first read of a window", granted(nil, func(r *domain.Role) {
			r.Start, r.ClaimWithin = domain.StartFirstRead, 3600
		}), read, 2},
		{"sharing a credential", func(m *mount) {
			granted(nil, func(r *domain.Role) { r.ReuseWindow = 300 })(m)
			m.issued("alice", "admin")
		}, read, 1},
		{"a read that files a request", func(m *mount) {
			m.role("admin", func(r *domain.Role) { r.AutoRequest, r.RequireJustification = true, false }, nil)
		}, func(m *mount) error {
			if _, err := m.creds("alice", "admin"); err == nil || !m.s.alive() || m.s.reached() {
				return err
			}
			return nil
		}, 2},
	}
}

func sharedObjects() []sequence {
	read := func(role string) func(*mount) error {
		return func(m *mount) error { return onlyErr(m.creds("alice", role)) }
	}
	end := func(roles ...string) func(*mount) error {
		return func(m *mount) error {
			for _, k := range m.disk.keys("req/") {
				r := record[domain.Request](m, k)
				for _, role := range roles {
					if r.Role != role {
						continue
					}
					if err := onlyErr(m.a.Cancel(m.Context(), who("alice"), r.ID)); err != nil {
						return err
					}
				}
			}
			m.tick()
			return nil
		}
	}
	return []sequence{
		{"the first holder of a shared object", func(m *mount) { bindings(m); m.granted("alice", "admin") }, read("admin"), 3},
		{"the second holder of a shared object", func(m *mount) {
			bindings(m)
			m.granted("alice", "admin")
			m.must(onlyErr(m.creds("alice", "admin")))
			m.granted("alice", "other")
		}, read("other"), 3},
		{"one of two holders ends", both, end("admin"), 4},
		{"both holders end", both, end("admin", "other"), 8},
	}
}

func edits() []sequence {
	live := func(m *mount) {
		admin(m)
		m.granted("alice", "admin")
		m.issued("alice", "admin")
		m.pending("dave", "admin")
	}
	return []sequence{
		{"editing a role and revoking", live, func(m *mount) error {
			_, err := m.edit("admin", access.LiveRevoke, func(r *domain.Role) { r.TTL = 1800 })
			m.tick()
			return err
		}, 6},
		{"editing a role and keeping", live, func(m *mount) error {
			return onlyErr(m.edit("admin", access.LiveKeep, func(r *domain.Role) { r.TTL = 1800 }))
		}, 2},
		{"deleting a role and revoking", live, func(m *mount) error {
			_, err := m.a.DeleteRole(m.Context(), access.Caller{}, "admin", access.EditOptions{Live: access.LiveRevoke})
			m.tick()
			return err
		}, 6},
		{"writing a target", func(*mount) {}, func(m *mount) error { return m.writeTarget("more", "two", access.LiveUnsaid) }, 2},
		{"moving a target", func(m *mount) { admin(m); m.pending("alice", "admin") }, func(m *mount) error {
			return m.writeTarget("site", "two", access.LiveUnsaid)
		}, 3},
		{"deleting a target", func(m *mount) { m.target("more", "two") }, func(m *mount) error {
			return onlyErr(m.a.DeleteTarget(m.Context(), access.Caller{}, "more", access.EditOptions{}))
		}, 2},
		{"changing settings", func(*mount) {}, func(m *mount) error {
			return onlyErr(m.a.WriteConfig(m.Context(), access.Caller{}, func(c *domain.Config) { c.IssueRate = 31 }, access.EditOptions{}))
		}, 1},
	}
}

func (m *mount) writeTarget(name, address string, live access.Live) error {
	typ := "fake"
	_, err := m.a.WriteTarget(m.Context(), access.Caller{}, name, access.TargetEdit{
		Type: &typ, Set: contract.Values{"address": address},
		Secrets: map[string]secret.String{"password": secret.New("root-of-" + address)},
	}, access.EditOptions{Live: live})
	return err
}

func switches() []sequence {
	crowd := func(m *mount) {
		admin(m)
		m.role("other", nil, nil)
		m.granted("alice", "admin")
		m.issued("alice", "admin")
		m.pending("alice", "other")
		m.granted("dave", "admin")
		m.issued("dave", "admin")
	}
	kill := func(k access.Kill) func(*mount) error {
		return func(m *mount) error {
			_, err := m.a.Kill(m.Context(), access.Caller{}, k)
			m.a.Idle()
			m.tick()
			return err
		}
	}
	return []sequence{
		{"the kill switch for a person", crowd, kill(access.Kill{Kind: domain.HoldPerson, Value: id("alice")}), 10},
		{"the kill switch for everything", crowd, kill(access.Kill{Kind: domain.HoldAll}), 14},
		{"revoking a grant", crowd, func(m *mount) error {
			for _, k := range m.disk.keys("req/") {
				if r := record[domain.Request](m, k); r.Requester.Name == "dave" {
					return onlyErr(m.a.RevokeGrant(m.Context(), who("bob"), r.ID, "enough"))
				}
			}
			return nil
		}, 5},
		{"rotate-epoch", crowd, func(m *mount) error {
			_, _, err := m.a.RotateEpoch(m.Context(), access.Caller{})
			m.a.Idle()
			m.tick()
			return err
		}, 10},
		{"setting a hold", admin, func(m *mount) error {
			return onlyErr(m.a.SetHold(m.Context(), access.Caller{}, access.Kill{Kind: domain.HoldRole, Value: "admin"}))
		}, 1},
	}
}

// Every write sequence is cut after every single write, and heals.
func TestEveryCutHeals(t *testing.T) {
	for group, sequences := range map[string][]sequence{
		"requests": requests(), "issues": issues(), "shared objects": sharedObjects(), "edits": edits(), "switches": switches(),
	} {
		t.Run(group, func(t *testing.T) {
			for _, q := range sequences {
				cutEverywhere(t, q)
			}
		})
	}
}
