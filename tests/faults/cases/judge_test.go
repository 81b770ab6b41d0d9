package cases

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/journal"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
)

// The judge is no yes-man: what must not be is found.
func TestJudgeOfJournals(t *testing.T) {
	t.Parallel()
	noon := time.Now()
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	rows := []struct {
		name  string
		entry journal.Entry
		write func(*ledger)
		wrong int
		delay time.Duration
	}{
		{"approved, used and ended is right", journal.Entry{Made: at(2), Deleted: at(9)}, func(l *ledger) {
			l.approved["r"], l.ending["r"] = at(1), at(5)
		}, 0, 4 * time.Second},
		{"never approved is wrong", journal.Entry{Made: at(2)}, func(*ledger) {}, 1, 0},
		{"approved later is wrong", journal.Entry{Made: at(2)}, func(l *ledger) { l.approved["r"] = at(3) }, 1, 0},
		{"made after the confirmed end and given out is wrong", journal.Entry{Made: at(7)}, func(l *ledger) {
			l.approved["r"], l.ended["r"], l.handed["c"] = at(1), at(6), true
		}, 1, 0},
		{"made after the confirmed end and kept from everybody is late, not wrong", journal.Entry{Made: at(7), Deleted: at(8)}, func(l *ledger) {
			l.approved["r"], l.ending["r"], l.ended["r"] = at(1), at(5), at(6)
		}, 0, time.Second},
		{"a lease that ends before its grant counts from then", journal.Entry{Made: at(2), Deleted: at(9)}, func(l *ledger) {
			l.approved["r"], l.lease["c"], l.ending["r"] = at(1), at(3), at(8)
		}, 0, 6 * time.Second},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			l := newLedger()
			row.write(l)
			row.entry.Request, row.entry.Credential = "r", "c"
			wrong, delay := l.judge([]journal.Entry{row.entry})
			if len(wrong) != row.wrong || delay != row.delay {
				t.Errorf("%d wrong (%v), delay %s; want %d and %s", len(wrong), wrong, delay, row.wrong, row.delay)
			}
		})
	}
}

// What carries our tag and is on no record is an orphan to the witness.
func TestWitnessSeesStrays(t *testing.T) {
	t.Parallel()
	s := newStage(t, shared)
	role := s.role(t, nil)
	s.grant(t, role)
	s.creds(t, role)
	if err := s.onRecord(t); err != nil {
		t.Fatalf("what is on record: %v", err)
	}
	body := `{"metadata": {"name": "pim-stray", "labels": {"vault-pim.github.io/credential-id": "stray"},
		"annotations": {"vault-pim.github.io/request-id": "01arz3ndektsv4rrffq69g5fav"}}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		s.target.URL+"/apis/rbac.authorization.k8s.io/v1/namespaces/prod/rolebindings", bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the test's own target
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("the stray was not made: %d, %v", resp.StatusCode, err)
	}
	if err := s.onRecord(t); !errors.Is(err, errUnknown) {
		t.Errorf("the stray was not seen: %v", err)
	}
	s.target.Remove("stray")
}

// The table has the rows by case, and counts what failed.
func TestTable(t *testing.T) {
	t.Parallel()
	raw := `{"case":"R10","what":"b","host":"h","runs":3,"delay":1500000000}
{"case":"R2","what":"a","host":"h","runs":1,"orphans":1,"failed":true}
`
	var out strings.Builder
	rows, failed, err := report.Table(&out, raw)
	if err != nil || rows != 2 || failed != 1 {
		t.Fatalf("%d rows, %d failed, %v", rows, failed, err)
	}
	want := `| case | what | host | runs | orphans | wrong grants | longest revoke delay | note |
|---|---|---|---|---|---|---|---|
| R2 | a | h | 1 | 1 | 0 | – | FAILED |
| R10 | b | h | 3 | 0 | 0 | 1.5s |  |
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}
