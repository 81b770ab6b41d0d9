package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// background has clients read all the time until stop is called.
func (m *mount) background(path string, clients int) (stop func()) {
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.load.Closed(ctx, clients, time.Hour, m.read(path, clients, 1<<30))
	}()
	return func() { cancel(); <-done }
}

func (b *run) onMemory(t *testing.T, w *world) {
	t.Helper()
	b.creds(w, "in memory")
}

// together is what people do to each other.
func (b *run) together(t *testing.T, w *world) {
	t.Helper()
	b.roles(w)
	b.slow(w)
	b.cycles(w)
}

func (b *run) onRaft(t *testing.T, w *world) {
	t.Helper()
	b.creds(w, "Raft")
}

func (b *run) started(t *testing.T, w *world) {
	t.Helper()
	b.start(w)
}

// cycles measures ask, look, approve and give back.
func (b *run) cycles(w *world) {
	m := w.pim("cycles")
	m.role("one", "local")
	for round := range b.rounds {
		for _, clients := range b.clients {
			clients = min(clients, len(w.people))
			sample := w.load.Each(w.t.Context(), clients, b.slice, func(c int) error { return m.cycle(w.people[c].Actor) })
			b.sample("cycles", fmt.Sprintf("%d people", clients), "ask, approve, give back", round, sample)
		}
	}
}

// store fills a mount with n requests: one in ten is a grant with a live
// credential, the others are over.
func (m *mount) store(n int) {
	m.t.Helper()
	m.seed("archived", "one", n-n/10, 1, 30*time.Hour, 8*time.Hour)
	m.seed("active", "one", n/10, 1, time.Hour, 24*time.Hour)
	m.reload()
	m.indexed()
}

// stored measures what depends on how much is stored. Memory comes last: what the
// load left behind belongs to it.
func (b *run) stored(t *testing.T, w *world) {
	t.Helper()
	var all []series
	for _, n := range b.sizes {
		m := w.pim(fmt.Sprint("size-", n))
		m.role("one", "local", w.people...)
		m.store(n)
		all = append(all, series{fmt.Sprintf("%d stored", n), m, "creds/one"})
	}
	if b.full { // records grow until they have as many credentials and lines as they keep
		b.takeTurns(w, "warm-up", all, 4)
	}
	b.takeTurns(w, "size", all, 6*b.rounds) // a slope of some percent is small beside the spread of rounds
	b.resting(w, all)
	for i, s := range all {
		now, most := s.m.resident()
		b.results.Add("memory", memoryRow(b.sizes[i]), "plugin", "RSS MiB", 0, now)
		b.results.Add("memory", memoryRow(b.sizes[i]), "plugin", "most RSS MiB", 0, most)
	}
}

// takeTurns measures reads on each mount in each round.
func (b *run) takeTurns(w *world, table string, all []series, rounds int) {
	w.t.Helper()
	for round := range rounds {
		for i := range all {
			s := all[(i+round)%len(all)]
			b.timed(w, point{table, "8 clients", s.name, round}, 8, []int{s.m.pid()}, b.next(w, s, 8))
			s.m.revoke()
		}
	}
}

func memoryRow(stored int) string { return fmt.Sprintf("%d stored, %d live", stored, stored/10) }

// resting measures what the plugins spend while nobody asks them anything, over two
// rounds of the reaper.
func (b *run) resting(w *world, all []series) {
	w.t.Helper()
	lasts := b.slice
	if b.full {
		lasts = 20 * time.Second
	}
	pids, spent := make([]int, len(all)), make([]float64, len(all))
	for i, s := range all {
		pids[i] = s.m.pid()
		spent[i] = w.spent(pids[i])
	}
	began := now()
	select {
	case <-time.After(lasts):
	case <-w.t.Context().Done():
	}
	passed := now().Sub(began).Seconds()
	for i, pid := range pids {
		b.results.Add("memory", memoryRow(b.sizes[i]), "plugin", "idle CPU ms/s", 0, (w.spent(pid)-spent[i])/passed)
	}
}

// atOnce measures what comes over many at once: an inbox in front of a long
// history, the kill switch, and everything being due.
func (b *run) atOnce(t *testing.T, w *world) {
	t.Helper()
	m := w.pim("large")
	m.role("one", "local", w.people...)
	m.store(b.large)
	b.inbox(w, m)
	b.kill(w, m)
	b.reaper(w)
}

// revoke ends the leases and does not wait for what was stored.
func (m *mount) revoke() {
	m.t.Helper()
	_, err := m.host.Root().Do(context.Background(), http.MethodPut, "sys/leases/revoke-prefix/"+m.path+"/creds",
		map[string]any{"sync": true}, nil)
	if err != nil {
		m.t.Fatal(err)
	}
}

// inbox measures a page of an approver's inbox, with much that is over.
func (b *run) inbox(w *world, m *mount) {
	m.seed("pending", "one", min(1000, b.large), 0, time.Minute, time.Hour)
	m.reload()
	m.indexed()
	page := func(int, int) (Call, bool) {
		return Call{Method: "LIST", URL: w.host.Addr + "/v1/" + m.path + "/approvals/?limit=100", Token: w.bob.Token}, true
	}
	for round := range b.rounds {
		for _, clients := range []int{1, 8} {
			sample := w.load.Closed(w.t.Context(), clients, b.slice, page)
			b.sample("inbox", fmt.Sprintf("%d clients", clients), fmt.Sprintf("page of 100 of 1000 pending, %d stored", b.large), round, sample)
		}
	}
}

// kill pulls the kill switch over everything that is live.
func (b *run) kill(w *world, m *mount) {
	live := m.live("local")
	began := now()
	m.write(w.host.Root(), m.path+"/revoke", map[string]any{"all": true, "confirm": "all", "reason": "a drill"})
	held := now().Sub(began)
	if err := w.load.send(w.t.Context(), Call{Method: http.MethodGet, URL: w.host.Addr + "/v1/" + m.path + "/creds/one", Token: w.people[0].Token}); !errors.Is(err, errStatus) {
		w.t.Fatalf("a credential was read past the hold: %v", err)
	}
	w.until("everything is revoked", func() error {
		if n := m.live("local"); n > 0 {
			return fmt.Errorf("%v are alive", n)
		}
		return nil
	})
	drained := now().Sub(began)
	row := fmt.Sprintf("%.0f live credentials", live)
	b.results.Add("kill", row, "kill switch over all", "held after s", 0, held.Seconds())
	b.results.Add("kill", row, "kill switch over all", "drained after s", 0, drained.Seconds())
	b.results.Add("kill", row, "kill switch over all", "revocations/s", 0, live/drained.Seconds())
}

// reaper measures how fast what is due ends, and how late another target's
// credential ends beside it.
func (b *run) reaper(w *world) {
	m := w.pim("reaper")
	m.role("one", "local")
	m.target("other", 0)
	m.role("other", "other")
	ahead := 3 * time.Second // so long it takes to write them and to load the plugin again
	if b.full {
		ahead = 20 * time.Second
	}
	m.seed("active", "one", b.due, 1, time.Hour-ahead, time.Hour)
	m.seed("active", "other", 1, 1, time.Hour-ahead-time.Second, time.Hour)
	due := now().Add(ahead) // the last of them, give or take how long it took to write them
	m.reload()
	m.indexed()
	w.until("they are due", func() error {
		if live := m.live("local"); live >= float64(b.due) && now().Before(due.Add(time.Minute)) {
			return errors.New("nothing has ended yet")
		}
		return nil
	})
	began := now()
	left := m.live("local")
	took := w.until("another target's credential ends", func() error { return m.ended("other") })
	w.until("everything that was due is ended", func() error { return m.ended("local") })
	drained := now().Sub(began)
	row := fmt.Sprintf("%d due at once", b.due)
	b.results.Add("reaper", row, "reaper", "revocations/s", 0, left/drained.Seconds())
	b.results.Add("reaper", row, "reaper", "all ended after s", 0, drained.Seconds())
	b.results.Add("reaper", row, "reaper", "another target's ended after s", 0, took.Seconds())
}

func (m *mount) ended(target string) error {
	if n := m.live(target); n > 0 {
		return fmt.Errorf("%v are alive", n)
	}
	return nil
}

// start measures what the plugin adds to a start of the host: from the unseal to
// the first credential, beside a plugin that does nothing.
func (b *run) start(w *world) {
	empty, full, noop := w.pim("start-empty"), w.pim("start-full"), w.mount("noop", "start")
	for _, m := range []*mount{empty, full} {
		m.role("one", "local", w.people[0])
	}
	full.store(b.large)
	for round := range b.rounds {
		w.host.Seal(w.t)
		began := now()
		w.host.Unseal(w.t)
		order := []series{{"noop", noop, "creds/x"}, {"pim, 0 stored", empty, "creds/one"}, {fmt.Sprintf("pim, %d stored", b.large), full, "creds/one"}}
		for i := range order {
			s := order[(i+round)%len(order)]
			b.firstRead(w, s, round, began)
		}
		b.results.Add("start", "after an unseal", order[2].name, "every request known after s", round, now().Sub(began).Seconds()+full.indexed().Seconds())
	}
}

// firstRead is the time until the first read of a mount is answered.
func (b *run) firstRead(w *world, s series, round int, unsealed time.Time) {
	asked := now()
	w.until("the first read is answered", func() error {
		return w.load.send(context.Background(), Call{Method: http.MethodGet, URL: w.host.Addr + "/v1/" + s.m.path + "/" + s.path, Token: w.people[0].Token})
	})
	b.results.Add("start", "after an unseal", s.name, "first answer ms", round, float64(now().Sub(asked).Microseconds())/1000)
	b.results.Add("start", "after an unseal", s.name, "since the unseal s", round, now().Sub(unsealed).Seconds())
}
