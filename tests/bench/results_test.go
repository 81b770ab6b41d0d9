package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func someResults() *Results {
	r := &Results{}
	for round, v := range []float64{10, 30, 20} {
		r.Add("t", "row", "a", "ops/s", round, v)
		r.Add("t", "row", "b", "ops/s", round, 2*v)
		r.Add("t", "row", "b", "p50 ms", round, 1)
	}
	r.Add("t", "row", "b", "ops/s", 3, 1000) // a round of which a has nothing
	return r
}

// Ratios are taken within rounds, and the middle of them is shown with its span.
func TestRatiosAreOfRounds(t *testing.T) {
	r := someResults()
	if s, ok := r.Of("t", "row", "a", "ops/s"); !ok || s != (Spread{20, 10, 30}) {
		t.Errorf("a is %v", s)
	}
	if s, ok := r.Ratio("t", "row", "b", "a", "ops/s"); !ok || s != (Spread{2, 2, 2}) {
		t.Errorf("b over a is %v", s)
	}
	if _, ok := r.Ratio("t", "row", "a", "b", "p99 ms"); ok {
		t.Error("there is a ratio of what was not measured")
	}
	if got := (Spread{12.345, 1.5, 1000}).String(); got != "12.3 (1.50–1000)" {
		t.Errorf("printed as %q", got)
	}
}

// What a run has written is what another one reads.
func TestResultsAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "raw.jsonl")
	var back Results
	if err := errors.Join(back.Read(file), someResults().Write(file), back.Read(file)); err != nil {
		t.Fatal(err)
	}
	if got, want := back.Markdown("t"), someResults().Markdown("t"); got != want || !strings.Contains(got, "| row | a | 20.0 (10.0–30.0) | |") {
		t.Errorf("read back:\n%s\nwritten:\n%s", got, want)
	}
}

// A plot is well-formed, whatever the names, and has a bar for each series of a
// case.
// What is measured again takes the place of what an earlier run has, and of nothing
// else.
func TestAgainReplaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "raw.jsonl")
	var first, second Results
	for round := range 3 {
		first.Add("creds", "8 clients", "pim", "ops/s", round, 100)
		first.Add("creds", "8 clients", "probe", "ops/s", round, 200)
	}
	if err := errors.Join(first.Write(file), second.Read(file)); err != nil {
		t.Fatal(err)
	}
	second.Add("creds", "8 clients", "pim", "ops/s", 0, 50)
	second.Add("creds", "8 clients", "pim", "ops/s", 1, 50)
	if got, _ := second.Of("creds", "8 clients", "pim", "ops/s"); got != (Spread{50, 50, 50}) {
		t.Errorf("measured again: %v", got)
	}
	if got, _ := second.Of("creds", "8 clients", "probe", "ops/s"); got != (Spread{200, 200, 200}) || len(second.Points) != 5 {
		t.Errorf("not measured again: %v of %d points", got, len(second.Points))
	}
}

func TestPlot(t *testing.T) {
	r := someResults()
	r.Add("t", `<row> & "more"`, "a", "ops/s", 0, 5)
	text := r.Plot("t", "ops/s", "a < b")
	for dec := xml.NewDecoder(strings.NewReader(text)); ; {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
	if n := strings.Count(text, `stroke="black"`); n != 3 {
		t.Errorf("%d bars, want 3", n)
	}
}

func TestQuantiles(t *testing.T) {
	var s Sample
	for i := range 100 {
		s.Latencies = append(s.Latencies, time.Duration(i+1)*time.Millisecond)
	}
	s.Wall = 2 * time.Second
	if s.Rate() != 50 || s.Quantile(0.5) != 51 || s.Quantile(0.99) != 100 || s.Quantile(1) != 100 || (Sample{}).Quantile(0.5) != 0 {
		t.Errorf("%v, %v, %v", s.Rate(), s.Quantile(0.5), s.Quantile(0.99))
	}
}
