package cases

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/journal"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// ledger is what people asked for, decided and were given, by their own clocks. The
// journal is judged by it.
type ledger struct {
	mu       sync.Mutex
	approved map[string]time.Time // request → when its approval was first sent
	ending   map[string]time.Time // request → when its end was first asked for, or due
	ended    map[string]time.Time // request → when its end was confirmed
	lease    map[string]time.Time // credential → when the end of its lease was asked for, or due
	handed   map[string]bool      // credentials that a client was given
	wrong    []string
}

func newLedger() *ledger {
	return &ledger{
		approved: map[string]time.Time{}, ending: map[string]time.Time{}, ended: map[string]time.Time{},
		lease: map[string]time.Time{}, handed: map[string]bool{},
	}
}

func (l *ledger) first(m map[string]time.Time, id string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, known := m[id]; !known || at.Before(old) {
		m[id] = at
	}
}

func (l *ledger) approving(request string)         { l.first(l.approved, request, time.Now()) }
func (l *ledger) endAsked(request string)          { l.first(l.ending, request, time.Now()) }
func (l *ledger) endTold(request string)           { l.first(l.ended, request, time.Now()) }
func (l *ledger) leaseAsked(credential string)     { l.first(l.lease, credential, time.Now()) }
func (l *ledger) leaseDue(id string, at time.Time) { l.first(l.lease, id, at) }

// answered notes a credential that a client was given; began is when it asked.
func (l *ledger) answered(a harness.Answer, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	request, credential := fmt.Sprint(a.Data["pim_request_id"]), fmt.Sprint(a.Data["pim_credential_id"])
	l.handed[credential] = true
	if told, over := l.ended[request]; over && began.After(told) {
		l.wrong = append(l.wrong, credential+" was given out after the end of its grant was confirmed")
	}
	if _, ok := l.approved[request]; !ok {
		l.wrong = append(l.wrong, credential+" was given out without approval")
	}
}

// judge compares the journal with the ledger: what was made for a request that
// nobody had approved, or after its end had been confirmed and then given out.
func (l *ledger) judge(entries []journal.Entry) (wrong []string, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wrong = append(wrong, l.wrong...)
	for _, e := range entries {
		if at, ok := l.approved[e.Request]; !ok || e.Made.Before(at) {
			wrong = append(wrong, e.Credential+" was made without approval")
		}
		if told, over := l.ended[e.Request]; over && e.Made.After(told) && l.handed[e.Credential] {
			wrong = append(wrong, e.Credential+" was made after the end and given out")
		}
		if due, ok := l.due(e); ok && !e.Deleted.IsZero() && e.Deleted.Sub(due) > delay {
			delay = e.Deleted.Sub(due)
		}
	}
	return wrong, delay
}

// due is when an end was first asked for, or was due.
func (l *ledger) due(e journal.Entry) (at time.Time, ok bool) {
	at, ok = l.ending[e.Request]
	if lease, known := l.lease[e.Credential]; known && (!ok || lease.Before(at)) {
		at, ok = lease, true
	}
	if ok && at.Before(e.Made) {
		at = e.Made
	}
	return at, ok
}

// close shows that everything at the target is on record, ends all of it, and writes
// the row of a case.
func (s *stage) close(t *testing.T, row report.Row) {
	t.Helper()
	orphans := 0
	if err := poll.Within(grace, func() error { return s.onRecord(t) }); err != nil {
		t.Error(err)
		orphans++
	}
	live := s.target.Live()
	for _, e := range live {
		s.ledger.endAsked(e.Request)
	}
	if len(live) > 0 {
		s.call(t, s.nodes[0].Root(), http.MethodPut, s.path("revoke"), map[string]any{
			"all": true, "confirm": "all", "hold": 0, "reason": "end of the test",
		}).OK(t)
	}
	if err := poll.Within(grace, func() error {
		if n := len(s.target.Live()); n > 0 {
			return fmt.Errorf("%d bindings are left at the target", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
		orphans = max(orphans, len(s.target.Live()))
	}
	wrong, delay := s.ledger.judge(s.target.Entries())
	for _, w := range wrong {
		t.Error(w)
	}
	row.Orphans, row.Wrong, row.Delay = orphans, len(wrong), delay
	if row.Host == "" {
		row.Host = s.hostName(t)
	}
	report.Add(t, row)
}
