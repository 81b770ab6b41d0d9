package access_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// What memory says only saves reads: whatever it says, the answer is the same.
func TestReadsOfTheStorageForACredential(t *testing.T) {
	named := func(m *mount) access.CredsAsk { return access.CredsAsk{RequestID: string(m.granted("alice", "admin"))} }
	plain := func(m *mount) access.CredsAsk { m.granted("alice", "admin"); return access.CredsAsk{} }
	rows := []struct {
		name  string
		setup func(m *mount) access.CredsAsk
		reads int
	}{
		{"the only grant", plain, 1},
		{"the only grant, where metadata names people", func(m *mount) access.CredsAsk {
			m.personKey("email", "alice", "bob")
			return plain(m)
		}, 1},
		{"a grant that is named", named, 1},
		{"the only grant, and a request that waits", func(m *mount) access.CredsAsk {
			ask := plain(m)
			m.pending("alice", "admin")
			return ask
		}, 1},
		{"the only grant for this role", func(m *mount) access.CredsAsk {
			m.role("other", nil, nil)
			m.granted("alice", "other")
			return plain(m)
		}, 1},
		{"the only one that has not ended", func(m *mount) access.CredsAsk {
			_, err := m.a.Cancel(m.Context(), who("alice"), m.granted("alice", "admin"))
			m.must(err)
			return plain(m)
		}, 1},
		{"one of two: their own record tells which", func(m *mount) access.CredsAsk {
			south := access.Ask{Params: map[string]string{"place": "south"}}
			m.grantedFor("alice", "admin", south)
			plain(m)
			return access.CredsAsk{Ask: south}
		}, 3},
		{"one, of somebody with as many requests as people may have", func(m *mount) access.CredsAsk {
			m.alsoAsked(domain.DefaultConfig().PersonMaxOpen - 1)
			return plain(m)
		}, 1},
		{"one, of somebody with more than memory looks through", func(m *mount) access.CredsAsk {
			m.config(func(c *domain.Config) { c.PersonMaxOpen = 100 })
			m.alsoAsked(32)
			return plain(m)
		}, 2},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			m.role("admin", several, nil)
			ask := row.setup(m)
			read := func() {
				t.Helper()
				ans, err := m.a.Creds(t.Context(), who("alice"), "admin", ask)
				m.must(err)
				m.works(ans, true)
			}
			read() // warms up
			m.zero()
			read()
			if got := m.s.spent(); got != (counts{reads: row.reads, writes: 2}) {
				t.Errorf("storage: %+v, want %d reads", got, row.reads)
			}
		})
	}
}

// A process that has not read every record yet takes nothing for the only one.
func TestMemoryThatIsNotWholeGuessesNothing(t *testing.T) {
	m := newMount(t)
	m.role("admin", several, nil)
	north := m.grantedFor("alice", "admin", access.Ask{Params: map[string]string{"place": "north"}})
	m.grantedFor("alice", "admin", access.Ask{Params: map[string]string{"place": "south"}})
	m.blind = true
	m.crash()
	m.s.setBlind(false)
	_, err := m.a.Creds(t.Context(), who("alice"), "admin", access.CredsAsk{RequestID: string(north)})
	m.must(err) // the one that memory knows of now
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeAmbiguous)
}

// What was asked for ahead is what the host says now, not what it said at the
// last read.
func TestWhatIsAskedAheadIsLive(t *testing.T) {
	down := errors.New("down")
	rows := []struct {
		name  string
		event func(m *mount, id domain.RequestID)
		code  fault.Code
	}{
		{"nothing changed", func(*mount, domain.RequestID) {}, ""},
		{"the approver was disabled", func(m *mount, _ domain.RequestID) { m.people.change("bob", disable) }, fault.CodeNotApprover},
		{"the approver left the group", func(m *mount, _ domain.RequestID) { m.people.change("bob", leave) }, fault.CodeNotApprover},
		{"the approver is gone", func(m *mount, _ domain.RequestID) { m.people.remove("bob") }, fault.CodeNotApprover},
		{"the requester was disabled", func(m *mount, _ domain.RequestID) { m.people.change("alice", disable) }, fault.CodeLogin},
		{"the requester is not eligible any more", func(m *mount, _ domain.RequestID) { m.people.change("alice", leave) }, fault.CodeNotEligible},
		{"it was given back", func(m *mount, id domain.RequestID) {
			_, err := m.a.Cancel(m.Context(), who("alice"), id)
			m.must(err)
		}, fault.CodeEnded},
		{"its window is over", func(m *mount, _ domain.RequestID) { m.clk.Advance(2 * time.Hour) }, fault.CodeEnded},
		{"the role changed", func(m *mount, _ domain.RequestID) {
			_, err := m.edit("admin", access.LiveKeep, func(r *domain.Role) { r.MaxCredentials = 7 })
			m.must(err)
		}, fault.CodeRoleChanged},
		{"the identity store fails", func(m *mount, _ domain.RequestID) { m.people.setFail(down) }, fault.CodeInternal},
		{"the storage fails", func(m *mount, _ domain.RequestID) { m.s.setBlind(true) }, fault.CodeInternal},
	}
	for _, key := range []string{"", "email"} {
		for _, row := range rows {
			t.Run(row.name+", people by "+key, func(t *testing.T) {
				m := newMount(t)
				if key != "" {
					m.personKey(key, "alice", "bob")
				}
				m.role("admin", nil, nil)
				id := m.granted("alice", "admin")
				m.issued("alice", "admin")
				made := len(m.world.Objects())
				row.event(m, id)
				_, err := m.creds("alice", "admin")
				if row.code == "" {
					m.must(err)
					return
				}
				if f := fault.From(err); err == nil || f.Code != row.code {
					t.Errorf("%v, want %s", err, row.code)
				}
				if got := len(m.world.Objects()); got > made {
					t.Errorf("%d objects, there were %d", got, made)
				}
			})
		}
	}
}

// Whoever names the request of somebody else learns nothing of it, and nobody is
// asked about.
func TestNothingIsAskedAheadForStrangers(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	id := m.granted("alice", "admin")
	m.issued("alice", "admin")
	cost := func(request string) int {
		m.people.spent()
		_, err := m.a.Creds(t.Context(), who("dave"), "admin", access.CredsAsk{RequestID: request})
		m.refused(err, fault.CodeNoGrant)
		return m.people.spent()
	}
	if known, unknown := cost(string(id)), cost(string(id[:len(id)-1]+"0")); known != unknown {
		t.Errorf("%d calls for a request of somebody else, %d for none", known, unknown)
	}
}

// Reads at the same time never take each other's answers.
func TestManyAskAhead(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.Approvals, r.MaxCredentials = 2, 32 }, nil)
	for _, name := range []string{"alice", "dave"} {
		id := m.pending(name, "admin")
		m.must(m.decide("bob", id, domain.Approve))
		m.must(m.decide("carol", id, domain.Approve))
	}
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			name := []string{"alice", "dave"}[i%2]
			ans, err := m.creds(name, "admin")
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if got := m.world.Of(ans.Lease.Credential)[0].Person; got != name {
				t.Errorf("%s got what was made for %s", name, got)
			}
		})
	}
	all.Wait()
}

// Each answer counts once: who approved both a grant and more time for it is
// asked about for each.
func TestAnAnswerAskedAheadIsUsedOnce(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.MaxExtension = 5400 }, nil)
	id := m.granted("alice", "admin")
	m.must(m.extend("alice", id, 3600, "not done"))
	m.must(m.decide("bob", id, domain.Approve))
	m.issued("alice", "admin")
	m.people.spent()
	m.issued("alice", "admin")
	if got := m.people.spent(); got != 6 { // two for each: entity and groups
		t.Errorf("%d calls, want alice's and twice bob's", got)
	}
}

// alsoAsked has alice ask for n other roles.
func (m *mount) alsoAsked(n int) {
	m.Helper()
	for i := range n {
		name := fmt.Sprintf("other-%d", i)
		m.role(name, nil, nil)
		m.pending("alice", name)
	}
}
