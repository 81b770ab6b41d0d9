package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

func now() time.Time { return clock.System{}.Now() }

// plan says how much is measured. scripts/bench.sh sets it through the
// environment; without that it is a smoke of some seconds, which shows that
// everything here works and asserts no time.
type plan struct {
	full    bool
	rounds  int
	slice   time.Duration
	people  int
	clients []int
	besides []int // clients beside other engines
	mounts  int   // of another engine that holds each of them back
	sizes   []int // stored requests
	large   int   // stored requests of the cases that have one size
	due     int   // credentials that are due, or revoked, at once
	only    *regexp.Regexp
	dir     string // where raw data, tables and plots go
}

func planned(t *testing.T) plan {
	t.Helper()
	p := plan{
		rounds: 1, slice: 200 * time.Millisecond, people: 2, clients: []int{1, 2}, besides: []int{2}, mounts: 8,
		sizes: []int{0, 50}, large: 50, due: 20, only: regexp.MustCompile("memory-creds|scale|peers"), dir: t.TempDir(),
	}
	if os.Getenv("PIM_BENCH") != "full" {
		return p
	}
	p = plan{
		full: true, rounds: number(t, "ROUNDS", 5), slice: time.Duration(number(t, "SLICE_MS", 1000)) * time.Millisecond, people: 32,
		clients: clientsOf(t), besides: []int{1, 8}, mounts: 64, sizes: []int{0, 10_000, number(t, "LARGE", 100_000)}, large: number(t, "LARGE", 100_000),
		due: number(t, "DUE", 10_000), only: regexp.MustCompile(os.Getenv("ONLY")), dir: os.Getenv("PIM_BENCH_DIR"),
	}
	if os.Getenv("FULL") == "1" {
		p.sizes = append(p.sizes, 1_000_000)
	}
	if p.dir == "" {
		t.Fatal("PIM_BENCH_DIR names no directory for the results")
	}
	return p
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: want a number above 0, got %q", name, text)
	}
	return n
}

// run is one run of the benchmark.
type run struct {
	plan
	t       *testing.T
	results Results
	written int // bytes that pim wrote with each write of the last slice
	shared  *world
}

// world is a host of the part's own where numbers count, so that no part finds what
// another one has left behind. The smoke has one for all, which is quicker.
func (b *run) world(t *testing.T, memory bool, others int) *world {
	t.Helper()
	if b.full {
		return newWorld(t, memory, b.people, others)
	}
	if b.shared == nil {
		b.shared = newWorld(b.t, memory, b.people, crowd)
	}
	w := *b.shared
	w.t = t
	return &w
}

// TestBench measures everything that the plan names and writes it down. It fails
// when something cannot be measured, never because something is slow: whether a
// goal is met is in the table of goals.
func TestBench(t *testing.T) {
	b := &run{plan: planned(t), t: t}
	if err := b.results.Read(filepath.Join(b.dir, "raw.jsonl")); err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		name    string
		memory  bool
		others  int // whose requests are stored
		measure func(*testing.T, *world)
	}{
		{"memory-creds", inmem, 0, b.onMemory},
		{"memory-roles", inmem, 0, b.together},
		{"raft-creds", raft, 0, b.onRaft},
		{"raft-start", raft, crowd, b.started},
		{"scale-stored", inmem, crowd, b.stored},
		{"scale-ends", inmem, crowd, b.atOnce},
		{"peers-aws", inmem, 0, b.besideAWS},
		{"peers-kubernetes", inmem, 0, b.besideKubernetes},
	} {
		if !b.only.MatchString(part.name) {
			continue
		}
		if !t.Run(part.name, func(t *testing.T) { part.measure(t, b.world(t, part.memory, part.others)) }) {
			t.Errorf("%s could not be measured", part.name)
		}
		if err := b.keep(); err != nil {
			t.Fatal(err)
		}
	}
	b.likeProbe()
	for _, table := range unique(b.results.Points, func(p Point) (string, bool) { return p.Table, true }) {
		t.Logf("%s\n%s", table, b.results.Markdown(table))
	}
	t.Logf("goals\n%s", b.goals())
}

// likeProbe insists that the probe makes as many calls as pim: otherwise it would
// be no measure of it.
func (b *run) likeProbe() {
	rows := unique(b.results.Points, func(p Point) (string, bool) {
		return p.Row, p.Table == "creds" && strings.HasSuffix(p.Row, ", 1 clients")
	})
	for _, row := range rows {
		for _, metric := range []string{"storage calls/op", "writes/op", identities} {
			pim, _ := b.results.Of("creds", row, "pim", metric)
			probe, _ := b.results.Of("creds", row, "probe", metric)
			// The reaper's own calls fall into a slice now and then.
			if pim.Low != probe.Low || pim.Low == 0 {
				b.t.Errorf("%s: pim makes %v %s, the probe %v", row, pim, metric, probe)
			}
		}
		all, _ := b.results.Of("creds", row, "pim", "system-view calls/op")
		people, _ := b.results.Of("creds", row, "pim", identities)
		if all.Low >= people.Low+1 {
			b.t.Errorf("%s: pim asks the host about itself in each read: %v calls, %v about people", row, all, people)
		}
	}
}

// keep writes what has been measured so far: a run that is ended early has lost
// nothing.
func (b *run) keep() error {
	var page strings.Builder
	for _, line := range b.machine() {
		fmt.Fprintf(&page, "%s\n", line)
	}
	fmt.Fprintf(&page, "\n### Goals\n\n%s\n", b.goals())
	errs := []error{b.results.Write(filepath.Join(b.dir, "raw.jsonl"))}
	for _, x := range tables() {
		text := b.results.Markdown(x.name)
		if len(unique(b.results.Points, func(p Point) (string, bool) { return p.Table, p.Table == x.name })) == 0 {
			continue
		}
		fmt.Fprintf(&page, "### %s\n\n%s\n\n", x.title, x.what)
		for _, metric := range x.plots {
			file := "bench-" + x.name + "-" + slug(metric) + ".svg"
			errs = append(errs, os.WriteFile(filepath.Join(b.dir, file), []byte(b.results.Plot(x.name, metric, x.title+": "+metric)), 0o600))
			fmt.Fprintf(&page, "![%s: %s](img/%s)\n\n", x.title, metric, file)
		}
		fmt.Fprintf(&page, "%s\n", text)
	}
	errs = append(errs, os.WriteFile(filepath.Join(b.dir, "tables.md"), []byte(page.String()), 0o600))
	return errors.Join(errs...)
}

func slug(metric string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(metric), "-"), "-")
}

// machine says on what was measured.
func (b *run) machine() []string {
	model := "unknown processor"
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := regexp.MustCompile(`model name\s*:\s*(.*)`).FindSubmatch(raw); found != nil {
			model = string(found[1])
		}
	}
	load := "unknown"
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Join(strings.Fields(string(raw))[:3], " ")
	}
	return []string{fmt.Sprintf("%s, %s, %d rounds of %s; load average at the end %s; host %s.",
		now().Format("2006-01-02 15:04 MST"), model, b.rounds, b.slice, load, hostVersion(b.t))}
}

// clientsOf is how many clients read at the same time, by comma in CLIENTS.
func clientsOf(t *testing.T) []int {
	t.Helper()
	text := os.Getenv("CLIENTS")
	if text == "" {
		return []int{1, 8, 64}
	}
	var out []int
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			t.Fatalf("CLIENTS: want numbers above 0 by comma, got %q", text)
		}
		out = append(out, n)
	}
	return out
}
