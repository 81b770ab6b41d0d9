package pim

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// leastHeap is about how large the heap may grow, in bytes, before its garbage is
// collected. Go's own measure is twice what is alive: a mount with few requests has
// some 8 MiB, and would collect several times a second under load for the sake of as
// little memory. From 18 MiB alive on Go's own measure holds, so that this adds
// nothing to what a large mount takes.
const leastHeap = 36 << 20

// easeCollector keeps to leastHeap from now on, in the whole process. Whoever sets
// GOGC where the plugin is registered has said what they want.
func easeCollector() {
	if os.Getenv("GOGC") == "" {
		afterEachCollection(func() { debug.SetGCPercent(gcPercent(aliveBytes())) })
	}
}

// gcPercent is GOGC for a process in which so many bytes are alive.
func gcPercent(alive uint64) int {
	const least, most = 100, 1000
	room := leastHeap - min(alive, leastHeap)
	return int(min(max(room*100/max(alive, 1), least), most))
}

// aliveBytes is what the last collection found alive.
func aliveBytes() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// afterEachCollection calls f now and after each collection: what nothing refers
// to is cleaned up by the next one.
func afterEachCollection(f func()) {
	f()
	runtime.AddCleanup(new([16]byte), afterEachCollection, f)
}
