package pim

import (
	"runtime"
	"sync/atomic"
	"testing"
)

func TestRoomBetweenCollections(t *testing.T) {
	const mib = 1 << 20
	for _, row := range []struct {
		name  string
		alive uint64
		want  int
	}{
		{"nothing is known yet", 0, 1000},
		{"next to nothing is alive", 100, 1000},
		{"a small mount", 8 * mib, 350},
		{"more", 12 * mib, 200},
		{"half of it is alive", 18 * mib, 100},
		{"all of it is alive", 36 * mib, 100},
		{"a large mount", 400 * mib, 100},
	} {
		if got := gcPercent(row.alive); got != row.want {
			t.Errorf("%s: GOGC=%d, want %d", row.name, got, row.want)
		}
	}
}

func TestAfterEachCollection(t *testing.T) {
	var calls atomic.Int32
	afterEachCollection(func() { calls.Add(1) })
	for want := int32(1); want <= 4; want++ {
		for calls.Load() < want { // its turn comes soon after a collection, not within it
			runtime.GC()
		}
	}
}
