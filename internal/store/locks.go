package store

import "sync"

// The lock order: person, then role and target (shared), then request, then
// claim. Never two keys of one class at once, and nothing is held across the
// network or a system-view call. One process per mount on the writable node
// makes in-process locks enough.
type locks struct {
	person  keyed
	role    keyed
	target  keyed
	request keyed
	claim   keyed
	single  keyed // config, state, holds, jobs, lists
}

// keyed is one lock per key. Unlike stripes it cannot make two keys wait for
// each other.
type keyed struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	sync.RWMutex
	refs int
}

func (k *keyed) acquire(key string) *keyLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[string]*keyLock{}
	}
	l, ok := k.held[key]
	if !ok {
		l = &keyLock{}
		k.held[key] = l
	}
	l.refs++
	return l
}

func (k *keyed) release(key string, l *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.refs--; l.refs == 0 {
		delete(k.held, key)
	}
}

// lock takes a key alone.
func (k *keyed) lock(key string) (unlock func()) {
	l := k.acquire(key)
	l.Lock()
	return func() { l.Unlock(); k.release(key, l) }
}

// rlock takes a key together with other readers.
func (k *keyed) rlock(key string) (unlock func()) {
	l := k.acquire(key)
	l.RLock()
	return func() { l.RUnlock(); k.release(key, l) }
}
