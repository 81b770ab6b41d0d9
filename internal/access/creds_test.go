package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func seconds(n int) *domain.Seconds { s := domain.Seconds(n); return &s }

// several lets a person have several grants of a role, for one of two places.
func several(r *domain.Role) {
	r.MaxActive = 3
	r.Params = map[string]domain.Param{"place": {Allowed: []string{"north", "south"}, Default: "north"}}
}

func (m *mount) grantedFor(name, role string, ask access.Ask) domain.RequestID {
	m.Helper()
	s, err := m.ask(name, role, ask)
	m.must(err)
	m.must(m.decide("bob", s.View.Request.ID, domain.Approve))
	return s.View.Request.ID
}

// Of several grants a read means the one with its parameters; of several of
// those the one that ends last.
func TestWhichGrantAReadMeans(t *testing.T) {
	north, south := map[string]string{"place": "north"}, map[string]string{"place": "south"}
	setup := func(t *testing.T) (*mount, domain.RequestID, domain.RequestID, domain.RequestID) {
		m := newMount(t)
		m.role("admin", several, nil)
		long := m.grantedFor("alice", "admin", access.Ask{TTL: seconds(7200)})
		short := m.grantedFor("alice", "admin", access.Ask{TTL: seconds(1800)})
		other := m.grantedFor("alice", "admin", access.Ask{TTL: seconds(3600), Params: south})
		return m, long, short, other
	}
	t.Run("of the same parameters the one that ends last", func(t *testing.T) {
		m, long, _, _ := setup(t)
		ans, err := m.a.Creds(t.Context(), who("alice"), "admin", access.CredsAsk{Ask: access.Ask{Params: north}})
		m.must(err)
		if ans.Lease.Request != long {
			t.Fatalf("issued under %s, want %s", ans.Lease.Request, long)
		}
	})
	t.Run("the one with the parameters of the read", func(t *testing.T) {
		m, _, _, other := setup(t)
		ans, err := m.a.Creds(t.Context(), who("alice"), "admin", access.CredsAsk{Ask: access.Ask{Params: south}})
		m.must(err)
		if ans.Lease.Request != other {
			t.Fatalf("issued under %s, want %s", ans.Lease.Request, other)
		}
		if got := m.world.Of(ans.Lease.Credential)[0].Params["place"]; got != "south" {
			t.Fatalf("made for %q", got)
		}
	})
	t.Run("the one that is named", func(t *testing.T) {
		m, _, short, _ := setup(t)
		ans, err := m.a.Creds(t.Context(), who("alice"), "admin", access.CredsAsk{RequestID: string(short)})
		m.must(err)
		if ans.Lease.Request != short || ans.TTL != 30*time.Minute {
			t.Fatalf("issued under %s for %s", ans.Lease.Request, ans.TTL)
		}
	})
	t.Run("ambiguous when parameters differ and none are named", func(t *testing.T) {
		m, _, _, _ := setup(t)
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeAmbiguous)
	})
	t.Run("not the one of another person", func(t *testing.T) {
		m, _, short, _ := setup(t)
		_, err := m.a.Creds(t.Context(), who("dave"), "admin", access.CredsAsk{RequestID: string(short)})
		m.refused(err, fault.CodeNoGrant)
	})
	t.Run("not one of another role", func(t *testing.T) {
		m, _, short, _ := setup(t)
		m.role("other", nil, nil)
		_, err := m.a.Creds(t.Context(), who("alice"), "other", access.CredsAsk{RequestID: string(short)})
		m.refused(err, fault.CodeNoGrant)
	})
	t.Run("a named one never answers for other parameters", func(t *testing.T) {
		m, _, short, _ := setup(t)
		_, err := m.a.Creds(t.Context(), who("alice"), "admin",
			access.CredsAsk{RequestID: string(short), Ask: access.Ask{Params: south}})
		if err == nil {
			t.Fatal("a credential for the north answered a read for the south")
		}
	})
}

// The lease is the shortest of everything that bounds it, in whole seconds, and
// never outlives the window.
func TestLeaseOfACredential(t *testing.T) {
	rows := []struct {
		name   string
		edit   func(*domain.Role)
		fields contract.Values
		mount  time.Duration
		after  time.Duration
		want   time.Duration
		code   fault.Code
	}{
		{"the window when nothing else bounds it", nil, nil, 0, 0, time.Hour, ""},
		{"the role's lease_ttl", func(r *domain.Role) { r.LeaseTTL = 900 }, nil, 0, 0, 15 * time.Minute, ""},
		{"what is left of the window", func(r *domain.Role) { r.LeaseTTL = 900 }, nil, 0, 50 * time.Minute, 10 * time.Minute, ""},
		{"the longest that the target makes", nil, contract.Values{"longest": 600}, 0, 0, 10 * time.Minute, ""},
		{"the mount's maximum", nil, nil, 5 * time.Minute, 0, 5 * time.Minute, ""},
		{"whole seconds", nil, nil, 0, 10*time.Minute + 300*time.Millisecond, 49*time.Minute + 59*time.Second, ""},
		{"exactly min_ttl left", nil, nil, 0, 59 * time.Minute, time.Minute, ""},
		{"less than min_ttl left", nil, nil, 0, 59*time.Minute + time.Second, 0, fault.CodeWindowEnding},
		{"a mount whose maximum is below min_ttl", nil, nil, 30 * time.Second, 0, 0, fault.CodeWindowEnding},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			if row.mount > 0 {
				m.host.max = row.mount
			}
			m.role("admin", row.edit, row.fields)
			id := m.granted("alice", "admin")
			m.clk.Advance(row.after)
			ans, err := m.creds("alice", "admin")
			if row.code != "" {
				m.refused(err, row.code)
				if n := m.world.Count("create"); n > 0 {
					t.Fatalf("%d things were made", n)
				}
				return
			}
			m.must(err)
			if ans.TTL != row.want {
				t.Errorf("lease of %s, want %s", ans.TTL, row.want)
			}
			c := m.cred(ans)
			if end := m.clk.Now().Add(ans.TTL); end.After(m.request(id).WindowEnd) || !end.Equal(c.Expires) {
				t.Errorf("the lease ends at %s, the credential at %s, the window at %s", end, c.Expires, m.request(id).WindowEnd)
			}
			if o := m.world.Of(c.ID)[0]; !o.NotAfter.Equal(c.Expires) {
				t.Errorf("the target itself ends it at %s, want %s", o.NotAfter, c.Expires)
			}
		})
	}
}

// What a read without a grant answers in each state.
func TestAnswersWithoutAGrant(t *testing.T) {
	rows := []struct {
		name  string
		setup func(m *mount) domain.RequestID
		code  fault.Code
		kind  fault.Kind
		state string
	}{
		{"nothing was asked", func(*mount) domain.RequestID { return "" }, fault.CodeNoGrant, fault.Conflict, "none"},
		{"pending", func(m *mount) domain.RequestID { return m.pending("alice", "admin") }, fault.CodePending, fault.Conflict, "pending"},
		{"denied", func(m *mount) domain.RequestID {
			id := m.pending("alice", "admin")
			m.must(m.decide("bob", id, domain.Deny))
			return id
		}, fault.CodeRequestDenied, fault.Denied, "denied"},
		{"denied and archived", func(m *mount) domain.RequestID {
			id := m.pending("alice", "admin")
			m.must(m.decide("bob", id, domain.Deny))
			m.tick()
			return id
		}, fault.CodeRequestDenied, fault.Denied, "denied"},
		{"denied longer ago than the cool-down", func(m *mount) domain.RequestID {
			id := m.pending("alice", "admin")
			m.must(m.decide("bob", id, domain.Deny))
			m.pass(4 * time.Hour)
			return id
		}, fault.CodeNoGrant, fault.Conflict, "denied"},
		{"cancelled", func(m *mount) domain.RequestID {
			id := m.pending("alice", "admin")
			m.must(onlyErr(m.a.Cancel(m.Context(), who("alice"), id)))
			return id
		}, fault.CodeCancelled, fault.Conflict, "cancelled"},
		{"revoked", func(m *mount) domain.RequestID {
			id := m.granted("alice", "admin")
			m.must(onlyErr(m.a.RevokeGrant(m.Context(), who("bob"), id, "")))
			return id
		}, fault.CodeRevoked, fault.Denied, "revoked"},
		{"void", func(m *mount) domain.RequestID {
			id := m.pending("alice", "admin")
			m.must(onlyErr(m.edit("admin", access.LiveUnsaid, shorter)))
			return id
		}, fault.CodeVoid, fault.Conflict, "void"},
		{"expired", func(m *mount) domain.RequestID {
			id := m.pending("alice", "admin")
			m.clk.Advance(24 * time.Hour) // nobody has written that down yet
			return id
		}, fault.CodeExpired, fault.Conflict, "expired"},
		{"ended", func(m *mount) domain.RequestID {
			id := m.granted("alice", "admin")
			m.pass(time.Hour)
			return id
		}, fault.CodeEnded, fault.Conflict, "ended"},
		{"starts later", func(m *mount) domain.RequestID {
			return m.grantedFor("alice", "admin", access.Ask{Start: m.clk.Now().Add(2 * time.Hour)})
		}, fault.CodeScheduled, fault.Conflict, "scheduled"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			admin(m)
			id := row.setup(m)
			for _, by := range []access.CredsAsk{{}, {RequestID: string(id)}} {
				_, err := m.a.Creds(t.Context(), who("alice"), "admin", by)
				f := m.refused(err, row.code)
				if f.Kind != row.kind || f.Data["state"] != row.state || f.Data["next"] == "" {
					t.Errorf("%v: kind %d, data %v", by, f.Kind, f.Data)
				}
				if id != "" && f.Data["request_id"] != string(id) {
					t.Errorf("%v: names %v, want %s", by, f.Data["request_id"], id)
				}
			}
			if n := m.world.Count("create"); n > 0 {
				t.Errorf("%d things were made", n)
			}
		})
	}
}

// Unknown roles and roles that one is not eligible for look the same.
func TestRolesCannotBeGuessed(t *testing.T) {
	m := newMount(t)
	admin(m)
	var texts []string
	for _, ask := range []struct{ name, role string }{{"alice", "nothing"}, {"bob", "admin"}, {"alice", "No Name"}} {
		texts = append(texts, m.refused(onlyErr(m.creds(ask.name, ask.role)), fault.CodeNotEligible).Public)
		texts = append(texts, m.refused(onlyErr(m.ask(ask.name, ask.role, access.Ask{})), fault.CodeNotEligible).Public)
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("%q is not %q", text, texts[0])
		}
	}
}
