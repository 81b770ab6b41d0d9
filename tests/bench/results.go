package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Point is one number of one round.
type Point struct {
	Table  string  `json:"table"`  // which table it belongs to
	Row    string  `json:"row"`    // the case: clients, size, storage
	Series string  `json:"series"` // what was measured: pim, probe, noop, …
	Metric string  `json:"metric"` // with its unit
	Round  int     `json:"round"`
	Value  float64 `json:"value"`
}

// Results are all points of a run, in the order in which they were measured.
type Results struct {
	Points []Point
	again  map[[3]string]bool // table, row and series measured in this run
}

// Add notes a point. What is measured again takes the place of what an earlier run
// has of it: rounds of two runs have nothing to do with each other.
func (r *Results) Add(table, row, series, metric string, round int, value float64) {
	if what := [3]string{table, row, series}; !r.again[what] {
		r.Points = slices.DeleteFunc(r.Points, func(p Point) bool { return [3]string{p.Table, p.Row, p.Series} == what })
		if r.again == nil {
			r.again = map[[3]string]bool{}
		}
		r.again[what] = true
	}
	r.Points = append(r.Points, Point{Table: table, Row: row, Series: series, Metric: metric, Round: round, Value: value})
}

// Spread is the middle of the rounds with the lowest and the highest.
type Spread struct{ Median, Low, High float64 }

// String prints it with as many digits as it is worth.
func (s Spread) String() string {
	if s.Low == s.High {
		return digits(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", digits(s.Median), digits(s.Low), digits(s.High))
}

func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func spreadOf(values []float64) (Spread, bool) {
	if len(values) == 0 {
		return Spread{}, false
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Low: sorted[0], High: sorted[n-1]}, true
}

// Of is the spread of one metric over the rounds; false = it was not measured.
func (r *Results) Of(table, row, series, metric string) (Spread, bool) {
	var values []float64
	for _, p := range r.Points {
		if p.Table == table && p.Row == row && p.Series == series && p.Metric == metric {
			values = append(values, p.Value)
		}
	}
	return spreadOf(values)
}

// Ratio is one series over another, round by round: the two were measured one
// after the other, under the same load of the machine.
func (r *Results) Ratio(table, row, over, under, metric string) (Spread, bool) {
	below := map[int]float64{}
	for _, p := range r.Points {
		if p.Table == table && p.Row == row && p.Series == under && p.Metric == metric {
			below[p.Round] = p.Value
		}
	}
	var values []float64
	for _, p := range r.Points {
		if d := below[p.Round]; d > 0 && p.Table == table && p.Row == row && p.Series == over && p.Metric == metric {
			values = append(values, p.Value/d)
		}
	}
	return spreadOf(values)
}

// unique keeps the order of first appearance.
func unique(points []Point, of func(Point) (string, bool)) []string {
	var out []string
	for _, p := range points {
		if s, ok := of(p); ok && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Markdown is a table with a row for each case and series, and a column for each
// metric.
func (r *Results) Markdown(table string) string {
	in := func(p Point) bool { return p.Table == table }
	metrics := unique(r.Points, func(p Point) (string, bool) { return p.Metric, in(p) })
	var b strings.Builder
	fmt.Fprintf(&b, "| | | %s |\n|---|---|%s\n", strings.Join(metrics, " | "), strings.Repeat("---|", len(metrics)))
	for _, row := range unique(r.Points, func(p Point) (string, bool) { return p.Row, in(p) }) {
		for _, series := range unique(r.Points, func(p Point) (string, bool) { return p.Series, in(p) && p.Row == row }) {
			fmt.Fprintf(&b, "| %s | %s |", row, series)
			for _, m := range metrics {
				if s, ok := r.Of(table, row, series, m); ok {
					fmt.Fprintf(&b, " %s |", s)
				} else {
					b.WriteString(" |")
				}
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// Read adds what an earlier run has written; a file that is not there is empty.
func (r *Results) Read(file string) (err error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for dec := json.NewDecoder(f); ; {
		var p Point
		if err := dec.Decode(&p); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		r.Points = append(r.Points, p)
	}
}

// Write keeps the raw data, one point a line.
func (r *Results) Write(file string) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	enc := json.NewEncoder(f)
	for _, p := range r.Points {
		if err := enc.Encode(p); err != nil {
			return err
		}
	}
	return nil
}
