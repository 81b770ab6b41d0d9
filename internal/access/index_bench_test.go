package access

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// full is an index of n requests: one in a hundred is pending, the others are
// grants, of 8 people, under 50 roles.
func full(n int) (*index, time.Time) {
	x, now := anIndex(), time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	for i := range n {
		state := domain.Active
		if i%100 == 0 {
			state = domain.Pending
		}
		x.put(stored(i, state, fmt.Sprint("role-", i%50), "site"), now)
	}
	return x, now
}

// What every request, approval, page and round of the reaper asks of the index
// costs the same, however many requests there are.
func BenchmarkIndex(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		x, now := full(n)
		fresh := stored(n, domain.Pending, "role-0", "site")
		b.Run(fmt.Sprintf("write/%d", n), func(b *testing.B) {
			for b.Loop() {
				x.put(fresh, now)
			}
		})
		b.Run(fmt.Sprintf("file and archive/%d", n), func(b *testing.B) {
			for b.Loop() {
				x.put(fresh, now)
				x.drop(fresh.ID)
			}
		})
		b.Run(fmt.Sprintf("count/%d", n), func(b *testing.B) {
			for b.Loop() {
				if x.open() < n || x.liveAt("site") == 0 {
					b.Fatal("the index counts wrong")
				}
			}
		})
		b.Run(fmt.Sprintf("page of the inbox/%d", n), func(b *testing.B) {
			roles := x.pendingAt()
			for b.Loop() {
				x.pendingOf(roles, "", MaxPage, func(w *row) bool { return w.person() != "person-3" })
			}
		})
		b.Run(fmt.Sprintf("walk of the reaper/%d", n), func(b *testing.B) {
			rows := make([]held, 0, rowsAtATime)
			for b.Loop() {
				x.openAfter(fresh.ID[:1], rows)
			}
		})
		b.Run(fmt.Sprintf("everything of the kill switch/%d", n), func(b *testing.B) {
			all := domain.Hold{Kind: domain.HoldAll}
			for b.Loop() {
				x.ids(func(w *row) bool { return all.Covers(w.scope(), now) })
			}
		})
	}
}

// BenchmarkIndexRoom reports how many bytes one request takes in memory.
func BenchmarkIndexRoom(b *testing.B) {
	const n = 100_000
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		x, _ := full(n)
		b.ReportMetric(float64(heap()-before)/n, "B/request")
		runtime.KeepAlive(x)
	}
}
