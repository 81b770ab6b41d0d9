package access_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// listedFor is how long whatever was ended stays on the test's list.
const listedFor = 2 * time.Hour

// newListing is a mount with a target that publishes what is ended: one line
// with the number, then one for each credential.
func newListing(t *testing.T) *mount {
	t.Helper()
	m := bare(t)
	m.list = &contract.RevocationList{
		PublicField: "open",
		Until:       func(domain.Handle) time.Time { return start.Add(listedFor) },
		Render: func(hs []domain.Handle, number uint64, _ time.Time) ([]byte, error) {
			lines := []string{fmt.Sprintf("list %d", number)}
			for _, h := range hs {
				lines = append(lines, string(h.Credential))
			}
			return []byte(strings.Join(lines, "\n")), nil
		},
	}
	m.a.Stop()
	m.boot()
	m.target("site", "one")
	m.role("ci", auto, nil)
	return m
}

// published is the list as it is on disk.
func (m *mount) published() domain.RevocationList {
	m.Helper()
	if m.disk.value("krl/site") == nil {
		return domain.RevocationList{}
	}
	return record[domain.RevocationList](m, "krl/site")
}

// lists tells whether a credential is on the list.
func (m *mount) lists(id domain.CredentialID) bool {
	m.Helper()
	return slices.Contains(strings.Split(string(m.published().Body), "\n"), string(id))
}

// keeps insists that whatever counts as ended is on the list.
func (m *mount) keeps() {
	m.Helper()
	for _, key := range append(m.disk.keys("req/"), m.disk.keys("arch/")...) {
		for _, c := range record[domain.Request](m, key).Credentials {
			if c.State == domain.CredEnded && !m.lists(c.ID) {
				m.Fatalf("credential %s counts as ended and is not on the list", c.ID)
			}
		}
	}
}

func TestAccessIsNotGoneBeforeTheListSaysSo(t *testing.T) {
	for _, way := range ways {
		for n := 1; ; n++ {
			reached := false
			t.Run(fmt.Sprintf("%s/write %d", way.name, n), func(t *testing.T) {
				m := newListing(t)
				m.role("ci", auto, contract.Values{"remainder": 3 * 3600})
				other := m.issued("alice", "ci")
				ans := m.issued("alice", "ci")
				c := way.cut
				c.at = n
				m.s.plan(c)
				err := m.a.LeaseEnded(t.Context(), ans.Lease)
				reached = m.s.reached()
				if !reached {
					m.must(err)
				}
				m.keeps()
				if c.crash {
					m.crash()
				} else {
					m.s.plan(cut{})
				}
				m.keeps()
				m.pass(2 * time.Minute)
				m.keeps()
				if got := m.cred(ans).State; reached && got != domain.CredEnded && got != domain.CredActive {
					t.Fatalf("the credential is %s", got)
				}
				if m.cred(ans).State == domain.CredActive { // the end was never asked for on record
					m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
				}
				if !m.lists(ans.Lease.Credential) || m.lists(other.Lease.Credential) {
					t.Fatalf("the list is %q", m.published().Body)
				}
			})
			if !reached {
				if n < 3 {
					t.Fatalf("%s: only %d writes were cut", way.name, n-1)
				}
				break
			}
		}
	}
}

func TestTheListDropsWhatIsOver(t *testing.T) {
	m := newListing(t)
	m.role("ci", auto, contract.Values{"remainder": 60})
	ans := m.issued("alice", "ci")
	empty := m.published()
	m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
	full := m.published()
	if full.Entries != 1 || full.Number <= empty.Number || !full.Next.Equal(start.Add(listedFor)) {
		t.Fatalf("the list was %+v and is %+v", empty, full)
	}
	m.pass(30 * time.Second)
	if now := m.published(); now.Number != full.Number {
		t.Error("a list that says the same was written again")
	}
	m.pass(listedFor)
	over := m.published()
	if over.Entries != 0 || over.Number <= full.Number || !over.Next.IsZero() || m.lists(ans.Lease.Credential) {
		t.Errorf("the list is %+v: %q", over, over.Body)
	}
}

func TestManyShareAWriteOfTheList(t *testing.T) {
	const many = 12
	m := newListing(t)
	var answers []*access.Answer
	m.config(func(c *domain.Config) { c.IssueRate = 600 })
	m.role("ci", func(r *domain.Role) { auto(r); r.MaxCredentials = many }, contract.Values{"remainder": 3 * 3600})
	for range many {
		answers = append(answers, m.issued("alice", "ci"))
	}
	var armed atomic.Bool
	waiting, through := make(chan struct{}), make(chan struct{})
	m.step = func(name string) {
		if name == "before put list" && armed.CompareAndSwap(true, false) {
			close(waiting)
			<-through
		}
	}
	m.crash()
	armed.Store(true)
	m.s.plan(cut{})
	var wg sync.WaitGroup
	errs := make([]error, many)
	for i, ans := range answers {
		wg.Go(func() { errs[i] = m.a.LeaseEnded(t.Context(), ans.Lease) })
	}
	<-waiting
	m.eventually("all others have written their intent", func() bool {
		n := 0
		for _, key := range m.disk.keys("req/") {
			for _, c := range record[domain.Request](m, key).Credentials {
				if c.State == domain.CredRevoking {
					n++
				}
			}
		}
		return n == many
	})
	close(through)
	wg.Wait()
	for _, err := range errs {
		m.must(err)
	}
	writes := 0
	for _, what := range m.s.written() {
		if what == "put krl" {
			writes++
		}
	}
	if writes > many/2 {
		t.Errorf("%d credentials took %d writes of the list", many, writes)
	}
	for _, ans := range answers {
		if !m.lists(ans.Lease.Credential) {
			t.Errorf("%s is not on the list", ans.Lease.Credential)
		}
	}
}

func TestALeaseWithoutARecordGetsOnTheList(t *testing.T) {
	m := newListing(t)
	m.role("ci", auto, contract.Values{"remainder": 3 * 3600})
	ans, other := m.issued("alice", "ci"), m.issued("dave", "ci")
	m.disk.drop("req/" + string(ans.Lease.Request))
	m.crash()
	for range 2 {
		m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
	}
	m.must(m.a.LeaseEnded(t.Context(), other.Lease))
	if l := m.published(); !m.lists(ans.Lease.Credential) || !m.lists(other.Lease.Credential) || l.Entries != 2 || len(l.Strays) != 1 {
		t.Fatalf("the list is %+v: %q", l, l.Body)
	}
	m.pass(listedFor)
	if l := m.published(); l.Entries != 0 || len(l.Strays) != 0 {
		t.Errorf("the list is %+v: %q", l, l.Body)
	}
}

func TestTheNumberGrowsWhateverIsLost(t *testing.T) {
	m := newListing(t)
	m.role("ci", auto, contract.Values{"remainder": 3 * 3600})
	m.must(m.a.LeaseEnded(t.Context(), m.issued("alice", "ci").Lease))
	before := m.published()
	m.disk.drop("krl/site")
	m.clk.Advance(time.Second)
	m.crash()
	if after := m.published(); after.Number <= before.Number || after.Entries != before.Entries {
		t.Errorf("the list was %+v and is %+v", before, after)
	}
}

func TestAListThatIsFullEndsNothing(t *testing.T) {
	m := newListing(t)
	plain := m.list.Render
	full := *m.list
	full.Render = func(hs []domain.Handle, number uint64, at time.Time) ([]byte, error) {
		if len(hs) > 0 {
			return make([]byte, store.MaxList), nil
		}
		return plain(hs, number, at)
	}
	*m.list = full
	m.crash()
	m.role("ci", auto, contract.Values{"remainder": 3 * 3600})
	ans := m.issued("alice", "ci")
	if err := m.a.LeaseEnded(t.Context(), ans.Lease); err == nil {
		t.Fatal("access counts as gone although nobody can know")
	}
	m.pass(90 * time.Second)
	if c := m.cred(ans); c.State != domain.CredRevoking || c.Attempts < 2 {
		t.Errorf("the credential is %s after %d tries", c.State, c.Attempts)
	}
	full.Render = plain
	*m.list = full
	m.crash()
	m.pass(10 * time.Minute)
	if !m.lists(ans.Lease.Credential) {
		t.Errorf("the list is %q", m.published().Body)
	}
}

func TestWhoPublishesNothingHasNoList(t *testing.T) {
	m := newMount(t)
	m.role("ci", auto, nil)
	m.must(m.a.LeaseEnded(t.Context(), m.issued("alice", "ci").Lease))
	for _, target := range []string{"site", "nosuch"} {
		l, err := m.a.ReadList(t.Context(), target)
		m.must(err)
		if l != nil {
			t.Errorf("%s publishes %+v", target, l)
		}
	}
	if keys := m.disk.keys("krl/"); len(keys) > 0 {
		t.Errorf("lists on disk: %v", keys)
	}
	with := newListing(t)
	l, err := with.a.ReadList(t.Context(), "site")
	with.must(err)
	if l == nil || l.Public || l.Entries != 0 || l.Number == 0 {
		t.Errorf("a target that publishes nothing yet: %+v", l)
	}
	with.role("ci", func(r *domain.Role) { auto(r); r.Target = "site" }, nil)
	_, err = with.a.DeleteRole(t.Context(), access.Caller{}, "ci", access.EditOptions{})
	with.must(err)
	with.must(onlyErr(with.a.DeleteTarget(t.Context(), access.Caller{}, "site", access.EditOptions{})))
	if keys := with.disk.keys("krl/"); len(keys) > 0 {
		t.Errorf("a target that is gone left its list: %v", keys)
	}
}
