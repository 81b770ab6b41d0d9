package condition

import "sync"

// cache keeps the sets of the roles used last.
type cache struct {
	mu    sync.Mutex
	size  int
	uses  uint64 // counts, in place of a clock
	byKey map[string]*entry
}

type entry struct {
	set  *Set
	used uint64
}

func newCache(size int) *cache {
	return &cache{size: max(size, 1), byKey: map[string]*entry{}}
}

func (c *cache) get(key string) *Set {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return nil
	}
	c.uses++
	e.used = c.uses
	return e.set
}

// put keeps a set in the place of the one that has not been used for longest.
// Looking for that one costs nothing beside the compilation before it.
func (c *cache) put(key string, s *Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uses++
	c.byKey[key] = &entry{s, c.uses}
	for len(c.byKey) > c.size {
		oldest, since := "", c.uses+1
		for k, e := range c.byKey {
			if e.used < since {
				oldest, since = k, e.used
			}
		}
		delete(c.byKey, oldest)
	}
}

// Set gives the compiled conditions of a role. The revision must cover the
// expressions and the site, as a role's revision does; exprs and site are used
// when the set is not at hand. Compiling takes no lock, so two callers may do
// it at once for the same role.
func (e *Engine) Set(revision string, exprs []string, site Site) *Set {
	if s := e.cache.get(revision); s != nil {
		return s
	}
	s := e.Compile(exprs, site)
	e.cache.put(revision, s)
	return s
}
