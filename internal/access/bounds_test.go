package access_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Whether this node answers is asked at most once for an operation, by the root
// package.
const doorCalls = 1

// zero forgets what was counted so far.
func (m *mount) zero() {
	m.s.spent()
	m.people.spent()
	m.host.spent()
}

// A credential under a grant costs less than DESIGN §5 allows, when what may be
// cached is cached.
func TestCostOfACredential(t *testing.T) {
	two := func(r *domain.Role) { r.Approvals = 2 }
	rows := []struct {
		name          string
		edit          func(*domain.Role)
		fields        contract.Values
		approvers     int
		byID          bool
		reads, writes int
	}{
		{"one approver", nil, nil, 1, false, 1, 2},
		{"one approver, by request id", nil, nil, 1, true, 1, 2},
		{"two approvers", two, nil, 2, false, 1, 2},
		{"a name learnt on the way", nil, contract.Values{"credential_type": "late"}, 1, false, 1, 3},
		{"a name learnt on the way, by request id", nil, contract.Values{"credential_type": "late"}, 1, true, 1, 3},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			m.role("admin", row.edit, row.fields)
			id := m.pending("alice", "admin")
			for _, name := range []string{"bob", "carol"}[:row.approvers] {
				m.must(m.decide(name, id, domain.Approve))
			}
			m.issued("alice", "admin") // warms up
			ask := access.CredsAsk{}
			if row.byID {
				ask.RequestID = string(id)
			}
			for range 3 {
				m.zero()
				_, err := m.a.Creds(t.Context(), who("alice"), "admin", ask)
				m.must(err)
				if got, want := m.s.spent(), (counts{reads: row.reads, writes: row.writes}); got != want {
					t.Errorf("storage: %+v, want %+v", got, want)
				}
				calls, most := m.people.spent()+m.host.spent()+doorCalls, 4+2*row.approvers
				if calls > most {
					t.Errorf("%d system-view calls, want at most %d", calls, most)
				}
			}
		})
	}
}

// The cost does not grow with what the person had before, nor with what others
// have.
func TestCostDoesNotGrow(t *testing.T) {
	m := newMount(t)
	admin(m)
	for range 10 {
		id := m.granted("alice", "admin")
		m.issued("alice", "admin")
		_, err := m.a.Cancel(t.Context(), who("alice"), id)
		m.must(err)
		m.tick()
	}
	for i := range 50 {
		name := fmt.Sprintf("colleague-%d", i)
		m.people.add(person(name, "engineers"))
		m.granted(name, "admin")
	}
	m.granted("alice", "admin")
	m.issued("alice", "admin")
	m.zero()
	m.issued("alice", "admin")
	if got, want := m.s.spent(), (counts{reads: 1, writes: 2}); got != want {
		t.Errorf("storage: %+v, want %+v", got, want)
	}
}

// Nothing on the way of a person lists anything.
func TestNoListsOnTheWay(t *testing.T) {
	m := newMount(t)
	admin(m)
	m.role("auto", auto, nil)
	m.pending("dave", "admin")
	m.zero()
	steps := []struct {
		name string
		do   func()
	}{
		{"request", func() { m.pending("alice", "admin") }},
		{"the same request again", func() { m.pending("alice", "admin") }},
		{"pending creds", func() { m.refused(onlyErr(m.creds("alice", "admin")), fault.CodePending) }},
		{"approve", func() {
			for _, k := range m.disk.keys("req/") {
				if r := record[domain.Request](m, k); r.Requester.Name == "alice" {
					m.must(m.decide("bob", r.ID, domain.Approve))
				}
			}
		}},
		{"creds", func() { m.issued("alice", "admin") }},
		{"creds of a role that approves by itself", func() { m.issued("alice", "auto") }},
		{"lease end", func() { m.must(m.a.LeaseEnded(t.Context(), m.issued("alice", "admin").Lease)) }},
	}
	for _, step := range steps {
		step.do()
		if c := m.s.spent(); c.lists > 0 {
			t.Errorf("%s: %d lists", step.name, c.lists)
		}
	}
}

// A page of the inbox costs no read for each row, and at most one for each role
// that is not cached.
func TestInboxReadsNothingPerRow(t *testing.T) {
	m := newMount(t)
	admin(m)
	for i := range 130 {
		name := fmt.Sprintf("colleague-%d", i)
		m.people.add(person(name, "engineers"))
		m.pending(name, "admin")
	}
	m.zero()
	first, err := m.a.Inbox(t.Context(), who("bob"), "", 0)
	m.must(err)
	if len(first.Keys) != access.MaxPage {
		t.Fatalf("a page of %d rows", len(first.Keys))
	}
	second, err := m.a.Inbox(t.Context(), who("bob"), first.Keys[access.MaxPage-1], 1000)
	m.must(err)
	if len(second.Keys) != 30 {
		t.Fatalf("the second page has %d rows", len(second.Keys))
	}
	if got := m.s.spent(); got != (counts{}) {
		t.Errorf("two pages cost %+v", got)
	}
	for _, k := range append(first.Keys, second.Keys...) {
		if info := first.Info[k]; info == nil && second.Info[k] == nil {
			t.Fatalf("nothing is said of %s", k)
		}
	}
}

// Who waits for a request costs nothing while waiting, and holds nothing up.
func TestWaitReadsNothingWhileItWaits(t *testing.T) {
	m := newMount(t)
	admin(m)
	id := m.pending("alice", "admin")
	got := make(chan domain.RequestState, 1)
	asked := m.clk.waited(access.MaxWait)
	go func() {
		v, err := m.a.Wait(t.Context(), who("alice"), id)
		if err != nil {
			t.Error(err)
		}
		got <- v.State
	}()
	m.eventually("somebody waits", func() bool { return m.clk.waited(access.MaxWait) > asked })
	m.zero()
	m.clk.Advance(time.Second)
	if c := m.s.spent(); c != (counts{}) {
		t.Errorf("waiting cost %+v", c)
	}
	m.must(m.decide("bob", id, domain.Approve))
	if s := <-got; s != domain.Active {
		t.Fatalf("woken by %s", s)
	}
}

// Who may not use a role is refused with the same calls, and so in the same time,
// as if there were none.
func TestRefusalsCostTheSame(t *testing.T) {
	m := newMount(t)
	admin(m)
	m.people.add(person("stranger"))
	cost := func(role string) (counts, int) {
		m.zero()
		m.refused(onlyErr(m.creds("stranger", role)), fault.CodeNotEligible)
		return m.s.spent(), m.host.spent()
	}
	cost("admin") // what a process reads once
	storage, calls := cost("admin")
	if s, c := cost("nosuch"); s != storage || c != calls {
		t.Errorf("there is one: %+v and %d calls of the host, there is none: %+v and %d", storage, calls, s, c)
	}
}
