// Package report collects what the fault tests found: one row a case, appended to
// the file that PIM_FAULTS_REPORT names, as a line of JSON. scripts/faults.sh makes
// a table of them.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Row is what was found in one case on one host.
type Row struct {
	Case    string        `json:"case"`    // R1 to R22
	What    string        `json:"what"`    // the fault, in words
	Host    string        `json:"host"`    // name, version and how many nodes
	Runs    int           `json:"runs"`    // how often the fault was made
	Orphans int           `json:"orphans"` // what stayed at the target and nobody would have ended
	Wrong   int           `json:"wrong"`   // access that was given or kept against a decision
	Delay   time.Duration `json:"delay"`   // longest time from an end being asked for, or due, to the target having it
	Note    string        `json:"note"`    // what the case measures besides
	Failed  bool          `json:"failed"`
}

// HostName is a host program and its version, and how many nodes of it there are.
func HostName(t testing.TB, bin string, nodes int) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), bin, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(out))
	name := strings.TrimSuffix(strings.Join(words[:min(2, len(words))], " "), ",")
	if nodes > 1 {
		name += fmt.Sprintf(", %d nodes", nodes)
	}
	return name
}

// file of one run may be written by several processes: each line is one write.
var mu sync.Mutex //nolint:gochecknoglobals // one file for the whole run

// Add writes a row and fails the test if it has an orphan or a wrong grant.
func Add(t testing.TB, r Row) {
	t.Helper()
	if r.Orphans > 0 || r.Wrong > 0 {
		t.Errorf("%s: %d orphans, %d wrong grants", r.Case, r.Orphans, r.Wrong)
	}
	r.Failed = t.Failed()
	t.Logf("%s | %s | %s | %d runs | %d orphans | %d wrong | longest delay %s | %s",
		r.Case, r.What, r.Host, r.Runs, r.Orphans, r.Wrong, r.Delay.Round(time.Millisecond), r.Note)
	name := os.Getenv("PIM_FAULTS_REPORT")
	if name == "" {
		return
	}
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.Write(append(line, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

// Table writes the rows of a report file as a table in Markdown, by case. It
// returns how many rows there are and how many of them failed.
func Table(w io.Writer, raw string) (rows, failed int, err error) {
	var list []Row
	for line := range strings.Lines(raw) {
		var r Row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return 0, 0, err
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b Row) int { return number(a.Case) - number(b.Case) })
	var out strings.Builder
	out.WriteString("| case | what | host | runs | orphans | wrong grants | longest revoke delay | note |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range list {
		note := r.Note
		if r.Failed {
			failed++
			note = strings.TrimSpace("FAILED " + note)
		}
		delay := "–"
		if r.Delay > 0 {
			delay = r.Delay.Round(10 * time.Millisecond).String()
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %d | %d | %d | %s | %s |\n", r.Case, r.What, r.Host, r.Runs, r.Orphans, r.Wrong, delay, note)
	}
	_, err = io.WriteString(w, out.String())
	return len(list), failed, err
}

func number(name string) int {
	n := 0
	if _, err := fmt.Sscanf(name, "R%d", &n); err != nil {
		return 1 << 20
	}
	return n
}
