package access_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// everything is all that somebody with a role in an organisation can do.
func (m *mount) everything(c access.Caller, id domain.RequestID) map[string]error {
	ctx := m.Context()
	return map[string]error{
		"request": onlyErr(m.a.Submit(ctx, c, "admin", access.Ask{Justification: "x"})),
		"creds":   onlyErr(m.a.Creds(ctx, c, "admin", access.CredsAsk{})),
		"decide":  onlyErr(m.a.Decide(ctx, c, id, access.Decision{Verdict: domain.Deny})),
		"cancel":  onlyErr(m.a.Cancel(ctx, c, id)),
		"revoke":  onlyErr(m.a.RevokeGrant(ctx, c, id, "")),
		"look":    onlyErr(m.a.Request(ctx, c, id)),
		"wait":    onlyErr(m.a.Wait(ctx, c, id)),
		"inbox":   onlyErr(m.a.Inbox(ctx, c, "", 0)),
		"mine":    onlyErr(m.a.MyRequests(ctx, c, "", 0)),
		"grants":  onlyErr(m.a.MyGrants(ctx, c, "", 0)),
		"list":    onlyErr(m.a.Eligible(ctx, c, "", 0)),
		"needs":   onlyErr(m.a.EligibleRole(ctx, c, "admin")),
	}
}

// Who the host does not vouch for does nothing at all.
func TestWhoTheHostDoesNotVouchFor(t *testing.T) {
	rows := map[string]func(m *mount) access.Caller{
		"a token without an entity":        func(*mount) access.Caller { return access.Caller{} },
		"an entity that the host forgot":   func(*mount) access.Caller { return who("nobody") },
		"a disabled entity":                func(m *mount) access.Caller { m.people.change("bob", disable); return who("bob") },
		"an entity without a login here":   func(m *mount) access.Caller { m.people.change("bob", homeless); return who("bob") },
		"the engine's own login":           func(m *mount) access.Caller { m.own("bob"); return who("bob") },
		"an entity without the person key": func(m *mount) access.Caller { m.personKey("email", "alice"); return who("bob") },
	}
	for name, caller := range rows {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			m.role("admin", func(r *domain.Role) { r.EligibleGroups = []string{"engineers", "leads"} }, nil)
			id := m.pending("alice", "admin")
			c := caller(m)
			for what, err := range m.everything(c, id) {
				if f := fault.From(err); f.Code != fault.CodeLogin || f.Kind != fault.Denied {
					t.Errorf("%s: %s", what, f.Public)
				}
			}
		})
	}
}

func disable(e *domain.Entity)  { e.Disabled = true }
func homeless(e *domain.Entity) { e.Aliases = nil }
func leave(e *domain.Entity)    { e.Groups = nil }

func machine(e *domain.Entity) {
	e.Aliases = append(e.Aliases, domain.Alias{MountAccessor: accApprole, MountType: "approle", Name: e.Name})
}

// own makes somebody the engine's own login at the target.
func (m *mount) own(name string) {
	m.Helper()
	m.world.SetSelf(id(name))
	m.must(m.writeTarget("site", "one", access.LiveKeep))
}

// personKey turns the person key on and gives the value to some.
func (m *mount) personKey(key string, names ...string) {
	m.Helper()
	for _, n := range names {
		m.people.change(n, func(e *domain.Entity) { e.Metadata = map[string]string{key: n + "@example.com"} })
	}
	m.config(func(c *domain.Config) { c.PersonKey = key })
}

// An approval counts only while its author still may give it.
func TestApproversAreReadLive(t *testing.T) {
	gone := map[string]func(m *mount, name string){
		"disabled":         func(m *mount, n string) { m.people.change(n, disable) },
		"merged or gone":   func(m *mount, n string) { m.people.remove(n) },
		"left the group":   func(m *mount, n string) { m.people.change(n, leave) },
		"without a login":  func(m *mount, n string) { m.people.change(n, homeless) },
		"became a machine": func(m *mount, n string) { m.people.change(n, machine) },
		"lost the person key": func(m *mount, n string) {
			m.people.change(n, func(e *domain.Entity) { e.Metadata = nil })
		},
	}
	two := func(r *domain.Role) { r.Approvals = 2 }
	for why, leave := range gone {
		setup := func(t *testing.T, edit func(*domain.Role)) *mount {
			m := newMount(t)
			m.personKey("email", "alice", "bob", "carol", "dave")
			m.role("admin", edit, nil)
			return m
		}
		t.Run(why+": no more credentials, the live ones stay", func(t *testing.T) {
			m := setup(t, nil)
			m.granted("alice", "admin")
			ans := m.issued("alice", "admin")
			leave(m, "bob")
			f := m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeNotApprover)
			if f.Kind != fault.Denied || strings.Contains(f.Public, "bob") {
				t.Errorf("kind %d: %s", f.Kind, f.Public)
			}
			m.works(ans, true)
			m.clean()
		})
		t.Run(why+": of two only one counts", func(t *testing.T) {
			m := setup(t, two)
			id := m.pending("alice", "admin")
			m.must(m.decide("bob", id, domain.Approve))
			leave(m, "bob")
			m.must(m.decide("carol", id, domain.Approve))
			m.state(id, domain.Pending)
			if len(m.world.Objects()) > 0 {
				t.Fatal("issued without a quorum")
			}
		})
	}
}

// The requester is read live when the last approval is given.
func TestRequesterIsReadLiveAtTheDecision(t *testing.T) {
	for why, leave := range map[string]func(m *mount){
		"disabled":            func(m *mount) { m.people.change("alice", disable) },
		"merged or gone":      func(m *mount) { m.people.remove("alice") },
		"lost the person key": func(m *mount) { m.people.change("alice", func(e *domain.Entity) { e.Metadata = nil }) },
	} {
		t.Run(why, func(t *testing.T) {
			m := newMount(t)
			m.personKey("email", "alice", "bob")
			admin(m)
			id := m.pending("alice", "admin")
			leave(m)
			m.refused(m.decide("bob", id, domain.Approve), fault.CodeVoid)
			m.state(id, domain.Void)
		})
	}
}

// Entities with one person value are one person everywhere, however it is
// written.
func TestOnePersonIsOnePerson(t *testing.T) {
	second := func(m *mount, name, of string, groups ...string) {
		e := person(name, groups...)
		e.Metadata = map[string]string{"email": "  " + strings.ToUpper(of) + "@Example.COM "}
		m.people.add(e)
	}
	setup := func(t *testing.T, edit func(*domain.Role)) *mount {
		m := newMount(t)
		m.personKey("email", "alice", "bob", "carol", "dave")
		m.role("admin", edit, nil)
		return m
	}
	t.Run("nobody approves their own request as somebody else", func(t *testing.T) {
		m := setup(t, nil)
		second(m, "alias-of-alice", "alice", "leads")
		id := m.pending("alice", "admin")
		_, err := m.a.Decide(t.Context(), who("alias-of-alice"), id, access.Decision{
			Verdict: domain.Approve, Digest: m.request(id).Digest,
		})
		m.refused(err, fault.CodeNotApprover)
		m.state(id, domain.Pending)
	})
	t.Run("one person approves once", func(t *testing.T) {
		m := setup(t, func(r *domain.Role) { r.Approvals = 2 })
		second(m, "alias-of-bob", "bob", "leads")
		id := m.pending("alice", "admin")
		m.must(m.decide("bob", id, domain.Approve))
		m.refused(m.decide("alias-of-bob", id, domain.Approve), fault.CodeAlreadyDecided)
		m.state(id, domain.Pending)
	})
	t.Run("two become one before the quorum", func(t *testing.T) {
		m := setup(t, func(r *domain.Role) { r.Approvals = 2 })
		id := m.pending("alice", "admin")
		m.must(m.decide("bob", id, domain.Approve))
		m.people.change("bob", func(e *domain.Entity) { e.Metadata = map[string]string{"email": "carol@example.com"} })
		m.must(m.decide("carol", id, domain.Approve))
		m.state(id, domain.Pending)
	})
	t.Run("an approver becomes the requester", func(t *testing.T) {
		m := setup(t, nil)
		id := m.granted("alice", "admin")
		m.people.change("bob", func(e *domain.Entity) { e.Metadata = map[string]string{"email": "alice@example.com"} })
		m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeNotApprover)
		m.state(id, domain.Active)
	})
	t.Run("grants and limits are the person's", func(t *testing.T) {
		m := setup(t, nil)
		second(m, "phone-of-alice", "alice", "engineers")
		id := m.granted("alice", "admin")
		ans, err := m.creds("phone-of-alice", "admin")
		m.must(err)
		if ans.Lease.Request != id {
			t.Fatal("a grant of its own")
		}
		m.refused(onlyErr(m.ask("phone-of-alice", "admin", access.Ask{TTL: seconds(600)})), fault.CodeLimit)
	})
	t.Run("a hold on one entity holds the other", func(t *testing.T) {
		m := setup(t, nil)
		second(m, "phone-of-alice", "alice", "engineers")
		m.hold(domain.HoldPerson, id("alice"))
		m.refused(onlyErr(m.ask("phone-of-alice", "admin", access.Ask{})), fault.CodeHeld)
	})
	t.Run("setting the key later revives no own approval", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		second(m, "alias-of-alice", "alice", "leads")
		m.people.change("alice", func(e *domain.Entity) { e.Metadata = map[string]string{"email": "alice@example.com"} })
		id := m.pending("alice", "admin")
		m.must(m.decide("alias-of-alice", id, domain.Approve)) // two persons, as things are
		m.config(func(c *domain.Config) { c.PersonKey = "email" })
		if err := onlyErr(m.creds("alice", "admin")); err == nil {
			t.Fatal("issued on one's own approval")
		}
	})
}

// Machines request and never decide, not even next to a login for people.
func TestMachinesNeverDecide(t *testing.T) {
	m := newMount(t)
	admin(m)
	id := m.pending("robot", "admin")
	m.people.change("bob", machine)
	m.refused(onlyErr(m.a.Decide(t.Context(), who("bob"), id, access.Decision{
		Verdict: domain.Approve, Digest: m.request(id).Digest,
	})), fault.CodeNotApprover)
	m.refused(onlyErr(m.a.RevokeGrant(t.Context(), who("bob"), id, "")), fault.CodeInvalid)
	page, err := m.a.Inbox(t.Context(), who("bob"), "", 0)
	m.must(err)
	if len(page.Keys) > 0 {
		t.Errorf("a machine's inbox: %v", page.Keys)
	}
	m.must(m.decide("carol", id, domain.Approve))
	m.issued("robot", "admin")
	m.clean()
}

// A group that is named by its name is the one that was first met under it.
func TestGroupNamesArePinned(t *testing.T) {
	another := func(e *domain.Entity) { e.Groups[0].ID = id("another group") }
	t.Run("of the eligible", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		m.pending("alice", "admin")
		m.people.change("dave", another)
		m.refused(onlyErr(m.ask("dave", "admin", access.Ask{})), fault.CodeNotEligible)
		if !slices.ContainsFunc(m.log.all(), func(l string) bool { return strings.Contains(l, "another group") }) {
			t.Error("nobody is warned")
		}
	})
	t.Run("of the approvers", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		m.granted("dave", "admin")
		id := m.pending("alice", "admin")
		m.people.change("carol", another)
		m.refused(onlyErr(m.a.Decide(t.Context(), who("carol"), id, access.Decision{
			Verdict: domain.Approve, Digest: m.request(id).Digest,
		})), fault.CodeInvalid) // as an unknown request
		m.state(id, domain.Pending)
	})
	t.Run("over restarts and edits that keep the name", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		m.pending("alice", "admin")
		m.must(onlyErr(m.edit("admin", access.LiveUnsaid, shorter)))
		m.crash()
		m.people.change("dave", another)
		m.refused(onlyErr(m.ask("dave", "admin", access.Ask{})), fault.CodeNotEligible)
	})
	t.Run("until the role is written with another one", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		m.pending("alice", "admin")
		m.must(onlyErr(m.edit("admin", access.LiveUnsaid, func(r *domain.Role) { r.EligibleGroups = []string{"others"} })))
		m.must(onlyErr(m.edit("admin", access.LiveUnsaid, func(r *domain.Role) { r.EligibleGroups = []string{"engineers"} })))
		m.people.change("dave", another)
		m.must(onlyErr(m.ask("dave", "admin", access.Ask{})))
	})
	t.Run("learning a pin voids nothing", func(t *testing.T) {
		m := newMount(t)
		admin(m)
		id := m.pending("alice", "admin")
		m.granted("dave", "admin")
		m.tick()
		m.state(id, domain.Pending)
	})
}

// For whom a request is not, it does not exist.
func TestWhoSeesARequest(t *testing.T) {
	m := newMount(t)
	admin(m)
	m.people.add(person("stranger", "engineers"))
	id := m.pending("alice", "admin")
	for name, sees := range map[string]bool{"alice": true, "bob": true, "carol": true, "dave": false, "stranger": false, "robot": false} {
		_, err := m.a.Request(t.Context(), who(name), id)
		if (err == nil) != sees {
			t.Errorf("%s: %v", name, err)
		}
		if unknown, err := m.a.Request(t.Context(), who(name), "01arz3ndektsv4rrffq69g5fav"); err == nil || unknown.Request.ID != "" {
			t.Errorf("%s sees what does not exist", name)
		} else if !sees {
			_, err2 := m.a.Request(t.Context(), who(name), id)
			if fault.From(err2).Public != fault.From(err).Public {
				t.Errorf("%s can tell what exists", name)
			}
		}
	}
	m.must(m.decide("bob", id, domain.Deny))
	m.people.change("bob", leave)
	m.must(onlyErr(m.a.Request(t.Context(), who("bob"), id))) // past deciders
}
