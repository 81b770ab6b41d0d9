package attacks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// attack is one row of the table: what somebody tries, how often, and beside which
// controls. Controls are what shows that the attempt fails for the reason it should.
type attack struct {
	t        *testing.T
	id, name string

	mu       sync.Mutex
	controls int
	attempts int
	notes    []string
}

// begin opens a row. id is that of docs/attacks.md; the row is written when the test
// ends.
func begin(t *testing.T, id, name string) *attack {
	t.Helper()
	a := &attack{t: t, id: id, name: name}
	t.Cleanup(func() {
		if !t.Failed() && (a.controls == 0 || a.attempts == 0) {
			t.Errorf("%d attempts beside %d controls: this proves nothing", a.attempts, a.controls)
		}
		results.add(a.row())
	})
	return a
}

func (a *attack) row() row {
	r := row{id: a.id, name: a.name, attempts: a.attempts, controls: a.controls, result: "held", note: strings.Join(a.notes, "; ")}
	if a.t.Failed() {
		r.result = "FAILED"
	}
	return r
}

// control counts something that works, as it must for the attempts to mean anything.
func (a *attack) control(t *testing.T, answer harness.Answer) harness.Answer {
	t.Helper()
	answer.OK(t)
	a.count(&a.controls)
	return answer
}

// refused counts an attempt that got exactly this refusal.
func (a *attack) refused(t *testing.T, answer harness.Answer, status int, prefix string) harness.Answer {
	t.Helper()
	answer.Refused(t, status, prefix)
	a.count(&a.attempts)
	return answer
}

// tried counts an attempt and fails the test unless it came to nothing.
func (a *attack) tried(t *testing.T, held bool, format string, args ...any) {
	t.Helper()
	a.count(&a.attempts)
	if !held {
		t.Errorf(format, args...)
	}
}

// seen counts a control that is no single answer.
func (a *attack) seen(t *testing.T, works bool, format string, args ...any) {
	t.Helper()
	a.count(&a.controls)
	if !works {
		t.Errorf("the control does not work: "+format, args...)
	}
}

// note adds a measured number or a limit to the row.
func (a *attack) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notes = append(a.notes, fmt.Sprintf(format, args...))
}

func (a *attack) count(n *int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*n++
}

type row struct {
	id, name           string
	attempts, controls int
	result, note       string
}

// table gathers the rows of a run.
type table struct {
	mu   sync.Mutex
	rows []row
}

var results table

func (t *table) add(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
}

// publish writes the table to dist/attacks.md. After a whole run it compares the rows
// with those of docs/attacks.md.
func (t *table) publish(whole bool) error {
	root, err := harness.RepoRoot()
	if err != nil {
		return err
	}
	slices.SortFunc(t.rows, func(a, b row) int { return strings.Compare(sortable(a.id)+a.name, sortable(b.id)+b.name) })
	var text strings.Builder
	fmt.Fprintf(&text, "host: %s\n\n| id | attack | attempts | controls | result | note |\n|---|---|---|---|---|---|\n", hostName())
	var errs []error
	for _, r := range t.rows {
		fmt.Fprintf(&text, "| %s | %s | %d | %d | %s | %s |\n", r.id, r.name, r.attempts, r.controls, r.result, r.note)
	}
	if err := os.MkdirAll(filepath.Join(root, "dist"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "dist", "attacks.md"), []byte(text.String()), 0o644); err != nil {
		return err
	}
	if whole {
		errs = append(errs, t.compare(filepath.Join(root, "docs", "attacks.md")))
	}
	return errors.Join(errs...)
}

func hostName() string {
	if host != nil && host.OpenBao {
		return "OpenBao"
	}
	return "Vault"
}

// sortable makes A2 come before A10.
func sortable(id string) string {
	return fmt.Sprintf("%s%03s", strings.TrimRight(id, "0123456789"), strings.TrimLeft(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
}

// compare wants the rows of a page to be those that have run.
func (t *table) compare(page string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) > 3 && len(strings.TrimSpace(cells[1])) > 1 && strings.ContainsAny(cells[1], "0123456789") {
			documented[strings.TrimSpace(cells[1])+" "+strings.TrimSpace(cells[2])] = true
		}
	}
	var errs []error
	for _, r := range t.rows {
		if key := r.id + " " + r.name; !documented[key] {
			errs = append(errs, fmt.Errorf("%s has no row in docs/attacks.md", key))
		} else {
			delete(documented, key)
		}
	}
	for key := range documented {
		errs = append(errs, fmt.Errorf("docs/attacks.md lists %s, which did not run", key))
	}
	return errors.Join(errs...)
}
