package bench

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func hostVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), script(t, "host.sh"), "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), " (")
	first, _, _ = strings.Cut(first, ",")
	return first
}

// series is one thing that is compared.
type series struct {
	name string
	m    *mount // nil = the host's own KV store
	path string
}

// next is the load of a series by so many clients. Nobody reads more than a grant
// may hold.
func (b *run) next(w *world, s series, clients int) Next {
	if s.m == nil {
		return func(c, n int) (Call, bool) {
			p := w.people[(c+n*clients)%len(w.people)]
			return Call{Method: http.MethodGet, URL: w.host.Addr + "/v1/" + s.path, Token: p.Token}, true
		}
	}
	return s.m.read(s.path, clients, len(w.people)*perGrant/max(clients, len(w.people))*max(1, len(w.people)/clients))
}

// slice1 measures one series once and cleans up after it.
func (b *run) slice1(w *world, table, row string, s series, clients, round int) {
	var plugin []int
	if s.m != nil {
		plugin = []int{s.m.pid()}
	}
	if s.name == "pim" {
		s.m.profile()
	}
	before := w.commits()
	sample := b.timed(w, point{table, row, s.name, round}, clients, plugin, b.next(w, s, clients))
	after := w.commits()
	if s.name == "pim" {
		s.m.profile()
	}
	calls := float64(len(sample.Latencies))
	if s.m != nil {
		c := s.m.counters()
		storage := c["gets"] + c["puts"] + c["deletes"] + c["lists"]
		b.results.Add(table, row, s.name, "storage calls/op", round, storage/calls)
		b.results.Add(table, row, s.name, "writes/op", round, (c["puts"]+c["deletes"])/calls)
		b.results.Add(table, row, s.name, "system-view calls/op", round, c["views"]/calls)
		b.results.Add(table, row, s.name, identities, round, c["people"]/calls)
		if c["puts"] > 0 {
			b.results.Add(table, row, s.name, "bytes/write", round, c["put_bytes"]/c["puts"])
			b.written = int(c["put_bytes"] / c["puts"])
		}
	}
	if after > before {
		b.results.Add(table, row, s.name, "commits/op", round, (after-before)/calls)
	}
	if s.m != nil {
		s.m.clear()
	}
	if s.name == "pim" {
		s.m.renew("one", w.people...)
	}
}

// point is where results of one slice belong.
type point struct {
	table, row, series string
	round              int
}

// timed measures a closed loop and what host and plugin spend on each call.
func (b *run) timed(w *world, at point, clients int, plugin []int, next Next) Sample {
	w.t.Helper()
	host, own := w.spent(w.host.PID()), w.spent(plugin...)
	sample := w.load.Closed(w.t.Context(), clients, b.slice, next)
	host, own = w.spent(w.host.PID())-host, w.spent(plugin...)-own
	calls := float64(len(sample.Latencies))
	if calls == 0 {
		w.t.Fatalf("%+v: no call succeeded, %d failed: %v", at, sample.Errors, sample.First)
	}
	b.sample(at.table, at.row, at.series, at.round, sample)
	b.results.Add(at.table, at.row, at.series, "host CPU ms/op", at.round, host/calls)
	if len(plugin) > 0 {
		b.results.Add(at.table, at.row, at.series, "plugin CPU ms/op", at.round, own/calls)
	}
	b.results.Add(at.table, at.row, at.series, "CPU ms/op", at.round, (host+own)/calls)
	return sample
}

func (b *run) sample(table, row, name string, round int, s Sample) {
	b.results.Add(table, row, name, "ops/s", round, s.Rate())
	b.results.Add(table, row, name, "p50 ms", round, s.Quantile(0.5))
	b.results.Add(table, row, name, "p95 ms", round, s.Quantile(0.95))
	b.results.Add(table, row, name, "p99 ms", round, s.Quantile(0.99))
	b.results.Add(table, row, name, "errors", round, float64(s.Errors))
}

// identities are the calls of the system view that every read makes; once a second
// pim asks the host about itself besides.
const identities = "identity calls/op"

// atOnce is the probe that makes the calls that do not depend on each other at once.
const atOnce = "probe, at once"

// compared sets up the floor, the probe and pim with the same people.
func (b *run) compared(w *world) []series {
	w.t.Helper()
	pim, noop, probe := w.pim("main"), w.mount("noop", "main"), w.mount("probe", "main")
	pim.role("one", "local", w.people...)
	return []series{
		{"noop", noop, "creds/x"},
		{"pim", pim, "creds/one"},
		{"probe", probe, "creds/x"},
		{atOnce, w.mount("probe", "at-once"), "creds/x"},
		{"kv v2 read", nil, "secret/data/bench"},
	}
}

// sized gives the probe records as large as those that pim has just written.
func (b *run) sized(w *world, s series) {
	for _, p := range w.people {
		w.write(w.host.Root(), s.m.path+"/setup/"+p.EntityID, map[string]any{
			"approver": w.bob.EntityID, "request_bytes": b.written, "at_once": s.name == atOnce,
		})
	}
}

// creds measures the read of a credential beside the floor and the probe.
func (b *run) creds(w *world, storage string) {
	all := b.compared(w)
	b.slice1(w, "warm-up", storage, all[1], 8, 0)
	for round := range b.rounds {
		for _, clients := range b.clients {
			for i := range all {
				s := all[(i+round)%len(all)] // nobody is always first
				if s.name == "probe" || s.name == atOnce {
					b.sized(w, s)
				}
				b.slice1(w, "creds", fmt.Sprintf("%s, %d clients", storage, clients), s, clients, round)
			}
		}
		b.paced(w, storage, all, round)
	}
}

// paced measures latency at a rate that everybody can keep up with.
func (b *run) paced(w *world, storage string, all []series, round int) {
	const rate = 40
	lasts := b.slice
	if b.full {
		lasts = max(lasts, time.Second)
	}
	for i := range all {
		s := all[(i+round)%len(all)]
		sample := w.load.Paced(w.t.Context(), rate, lasts, b.next(w, s, 1))
		b.sample("paced", fmt.Sprintf("%s, %d calls/s", storage, rate), s.name, round, sample)
		if s.m != nil {
			s.m.clear()
		}
	}
}

// roles measures whether people of one role wait for each other.
func (b *run) roles(w *world) {
	m := w.pim("roles")
	eight := w.people[:min(8, len(w.people))]
	m.role("shared", "local", eight...)
	for i, p := range eight {
		m.role(fmt.Sprintf("own-%d", i), "local", p)
	}
	one := func(c, n int) (Call, bool) {
		return Call{Method: http.MethodGet, URL: w.host.Addr + "/v1/" + m.path + "/creds/shared", Token: eight[c].Token}, n < perGrant
	}
	many := func(c, n int) (Call, bool) {
		call, more := one(c, n)
		call.URL = fmt.Sprintf("%s/v1/%s/creds/own-%d", w.host.Addr, m.path, c)
		return call, more
	}
	for round := range 2 * b.rounds {
		for i := range 2 {
			name, next := "one role", Next(one)
			if (i+round)%2 == 1 {
				name, next = "a role each", many
			}
			b.sample("roles", fmt.Sprintf("%d people", len(eight)), name, round, w.load.Closed(w.t.Context(), len(eight), time.Minute, next))
			m.clear()
		}
	}
}

// slow measures one role while the target of another one takes two seconds.
func (b *run) slow(w *world) {
	m := w.pim("slow")
	m.target("slow", 2*time.Second)
	m.role("fast", "local", w.people...)
	m.role("slow", "slow", w.people...)
	for round := range 2 * b.rounds {
		for i := range 2 {
			beside := (i+round)%2 == 1
			name, stop := "alone", func() {}
			if beside {
				name, stop = "beside a slow target", m.background("creds/slow", 4)
			}
			sample := w.load.Closed(w.t.Context(), 8, b.slice, m.read("creds/fast", 8, 4*perGrant))
			stop()
			b.sample("slow", "another role", name, round, sample)
			m.clear()
		}
	}
}
