package access_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

func emergencies() []sequence {
	once := func(r *domain.Role) { r.BreakGlassLimitPerson, r.BreakGlassRotate = 1, true }
	var rid domain.RequestID
	return []sequence{
		{"breaking the glass", func(m *mount) { emergencyWith(m, once) }, func(m *mount) error { return onlyErr(m.glass("dave", "INC-1")) }, 6},
		{"an emergency from its start to its end", func(m *mount) { emergencyWith(m, once) }, func(m *mount) error {
			s, err := m.glass("dave", "INC-1")
			if err != nil {
				return err
			}
			if err := onlyErr(m.creds("dave", "admin")); err != nil {
				return err
			}
			if err := onlyErr(m.a.Cancel(m.Context(), who("dave"), s.View.Request.ID)); err != nil {
				return err
			}
			m.tick()
			m.tick()
			return nil
		}, 18},
		{"signing off what is open", func(m *mount) { emergency(m); rid = m.broken("dave", "INC-1") }, func(m *mount) error { return m.signOff("bob", rid) }, 4},
		{"signing off what is archived", func(m *mount) {
			emergency(m)
			rid = m.broken("dave", "INC-1")
			m.returned("dave", rid)
		}, func(m *mount) error { return m.signOff("bob", rid) }, 4},
		{"a consumer hears", func(m *mount) { emergency(m); rid = m.broken("dave", "INC-1") }, func(m *mount) error {
			list, err := m.a.Events(m.Context(), "", 0)
			if err != nil {
				return err
			}
			return onlyErr(m.a.Acknowledge(m.Context(), access.Caller{}, "siem", list[len(list)-1].ID))
		}, 3},
		{"a missed deadline", func(m *mount) { emergency(m); m.broken("dave", "INC-1") }, func(m *mount) error {
			m.clk.Advance(domain.DefaultReviewDeadline.Duration())
			m.tick()
			return nil
		}, 6},
	}
}

func TestEveryCutOfAnEmergencyHeals(t *testing.T) {
	for _, q := range emergencies() {
		cutEverywhere(t, q)
	}
}

// Wherever breaking the glass is cut, who does it again gets in exactly once;
// and whatever exists is in the feed, in the log and in somebody's inbox.
func TestNoEmergencyIsSilent(t *testing.T) {
	for _, way := range ways {
		for n := 1; n <= 6; n++ {
			t.Run(fmt.Sprintf("%s/write %d", way.name, n), func(t *testing.T) {
				m := newMount(t)
				emergencyWith(m, func(r *domain.Role) { r.BreakGlassLimitPerson = 1 })
				c := way.cut
				c.at = n
				m.s.plan(c)
				if _, err := m.glass("erin", "INC-1"); err != nil {
					t.Logf("write %d: %v", n, err)
				}
				if !m.s.reached() {
					t.Fatal("that write does not exist")
				}
				if c.crash {
					m.crash()
				} else {
					m.s.plan(cut{})
					m.tick()
				}
				for _, k := range m.disk.keys("req/") {
					m.loud(record[domain.Request](m, k).ID) // before anybody does anything
				}
				rid := m.broken("erin", "INC-1")
				m.loud(rid)
				if got := len(m.disk.keys("req/")); got != 1 {
					t.Errorf("%d emergencies", got)
				}
				m.issued("erin", "admin")
				m.must(m.signOff("bob", rid))
				m.dangling = true
				m.clean()
			})
		}
	}
}

// loud insists that an emergency is where it must be.
func (m *mount) loud(rid domain.RequestID) {
	m.Helper()
	list, err := m.a.Events(m.Context(), "", 0)
	m.must(err)
	if !slices.ContainsFunc(list, func(e domain.FeedEvent) bool { return e.Kind == domain.EventBreakGlass && e.Request == rid }) {
		m.Errorf("emergency %s is not in the feed: %v", rid, list)
	}
	if !slices.ContainsFunc(m.log.all(), func(s string) bool {
		return strings.HasPrefix(s, "error ") && strings.Contains(s, "BREAK-GLASS") && strings.Contains(s, string(rid))
	}) {
		m.Errorf("emergency %s is not in the log", rid)
	}
	p, err := m.a.Reviews(m.Context(), who("bob"), "", 0)
	m.must(err)
	if !slices.Contains(p.Keys, string(rid)) {
		m.Errorf("emergency %s is in nobody's inbox: %v", rid, p.Keys)
	}
}

// A sign-off that was cut anywhere counts after all, or can be given again; and
// then it frees the person.
func TestSignOffThatWasCut(t *testing.T) {
	for _, way := range ways {
		for n := 1; n <= 4; n++ {
			for _, archived := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/write %d/archived %v", way.name, n, archived), func(t *testing.T) {
					m := newMount(t)
					emergencyWith(m, func(r *domain.Role) { r.BreakGlassMax = 1 })
					rid := m.broken("erin", "INC-1")
					if archived {
						m.returned("erin", rid)
					}
					c := way.cut
					c.at = n
					m.s.plan(c)
					if err := m.signOff("bob", rid); err != nil {
						t.Logf("write %d: %v", n, err)
					}
					if c.crash {
						m.crash()
					} else {
						m.s.plan(cut{})
						m.tick()
					}
					if m.request(rid).OwesReview() {
						m.must(m.signOff("bob", rid))
					}
					if !archived {
						m.returned("erin", rid)
					}
					m.broken("erin", "INC-1")
					if !slices.Contains(m.kinds(), domain.EventReviewed) {
						t.Errorf("the feed does not tell of the sign-off: %v", m.kinds())
					}
				})
			}
		}
	}
}

// An event has at most 300 bytes, whatever the names.
func TestSizeOfAnEvent(t *testing.T) {
	m := newMount(t)
	emergency(m)
	long := strings.Repeat("r", 63)
	m.role(long, func(r *domain.Role) { r.BreakGlassGroups = []string{"on-call"} }, nil)
	m.must(onlyErr(m.a.BreakGlass(t.Context(), who("erin"), long, access.Ask{Justification: strings.Repeat("x", 2000), Ticket: strings.Repeat("t", 200)})))
	m.clk.Advance(domain.DefaultReviewDeadline.Duration() + time.Millisecond)
	m.tick()
	keys := m.disk.keys("ev/")
	if len(keys) < 3 {
		t.Fatalf("%d events", len(keys))
	}
	for _, k := range keys {
		if n := len(m.disk.value(k)); n > 300 {
			t.Errorf("an event of %d bytes: %s", n, m.disk.value(k))
		}
	}
}
