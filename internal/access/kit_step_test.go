package access_test

import (
	"sync/atomic"
)

// at starts a new process in which do runs once, when the named step is reached
// for the first time after it was armed.
func (m *mount) at(step string, do func()) (arm func()) {
	m.Helper()
	var armed atomic.Bool
	m.step = func(name string) {
		if name == step && armed.CompareAndSwap(true, false) {
			do()
		}
	}
	m.crash()
	return func() { armed.Store(true) }
}
