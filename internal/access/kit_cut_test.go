package access_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// sequence is something that writes more than once, or writes and calls a
// target.
type sequence struct {
	name   string
	before func(m *mount)
	do     func(m *mount) error
	writes int // the least that it writes, so that a test that cuts nothing fails
}

// ways are how one write can go wrong.
var ways = []struct {
	name string
	cut  cut
}{
	{"the process dies before the write", cut{crash: true}},
	{"the process dies after the write", cut{crash: true, written: true}},
	{"the write fails", cut{}},
	{"the write fails although it was written", cut{written: true}},
}

// cutEverywhere runs a sequence once for each of its writes and for each way in
// which that write can go wrong, and insists each time that it heals.
func cutEverywhere(t *testing.T, q sequence) {
	t.Helper()
	for _, way := range ways {
		n := 0
		for done := false; !done; n++ {
			t.Run(fmt.Sprintf("%s/%s/write %d", q.name, way.name, n+1), func(t *testing.T) {
				m := newMount(t)
				q.before(m)
				c := way.cut
				c.at = n + 1
				m.s.plan(c)
				err := q.do(m)
				m.a.Idle()
				if done = !m.s.reached(); done {
					m.must(err)
				}
				m.Logf("writes: %s; error: %v", strings.Join(m.s.written(), ", "), err)
				if c.crash {
					m.crash()
				} else {
					m.s.plan(cut{})
				}
				m.heals()
			})
			if n > 60 {
				t.Fatal("the sequence never ends")
			}
		}
		if n-1 < q.writes {
			t.Errorf("%s: %d writes were cut, want at least %d", q.name, n-1, q.writes)
		}
	}
}

// heals insists that nothing is lost now, that everything ends by itself, and
// that life goes on.
func (m *mount) heals() {
	m.Helper()
	m.covered()
	m.tick()
	m.covered()
	m.dangling = true
	m.clean()
	m.dangling = false
	m.lives()
	m.clean()
}

// covered insists that whatever exists at the target is on a record that will
// end it.
func (m *mount) covered() {
	m.Helper()
	on := map[string]bool{}
	for _, k := range m.disk.keys("req/") {
		for _, c := range record[domain.Request](m, k).Credentials {
			if c.State == domain.CredGone {
				continue
			}
			on[string(c.ID)] = true
			if c.Handle.Shared != "" {
				on[c.Handle.Shared] = true
			}
		}
	}
	for _, o := range m.world.Objects() {
		if !on[string(o.Credential)] && (o.Principal == "" || !on[o.Name]) {
			m.Errorf("%s %s of credential %s is on no record", o.Kind, o.Name, o.Credential)
		}
	}
	if m.Failed() {
		m.FailNow()
	}
}

// lives insists that the next person gets through the main path.
func (m *mount) lives() {
	m.Helper()
	holds, err := m.a.Holds(m.Context())
	m.must(err)
	for _, h := range holds {
		m.must(m.a.LiftHold(m.Context(), access.Caller{}, h.ID))
	}
	if m.disk.value("target/site") == nil {
		m.target("site", "one")
	}
	m.role("next", nil, nil)
	for _, name := range []string{"alice", "dave"} {
		id := m.granted(name, "next")
		ans := m.issued(name, "next")
		_, err := m.a.Cancel(m.Context(), who(name), id)
		m.must(err)
		m.tick()
		m.works(ans, false)
	}
}
