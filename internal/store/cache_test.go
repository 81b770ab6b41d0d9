package store

import (
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// cachedKind is one of the kinds that come from the cache.
type cachedKind struct {
	name  string
	key   string
	write func(t *testing.T, st *Store, value string) // through the store
	put   func(t *testing.T, d *disk, value string)   // behind its back
	read  func(t *testing.T, st *Store) string
}

func cachedKinds() []cachedKind {
	raw := func(t *testing.T, d *disk, key string, v any) {
		t.Helper()
		b, err := encode(v)
		must(t, err)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.data[key] = b
	}
	return []cachedKind{
		{
			"settings", keyConfig,
			func(t *testing.T, st *Store, v string) {
				t.Helper()
				_, err := st.UpdateConfig(t.Context(), func(c domain.Config) (domain.Config, error) { c.PersonKey = v; return c, nil })
				must(t, err)
			},
			func(t *testing.T, d *disk, v string) { t.Helper(); raw(t, d, keyConfig, domain.Config{PersonKey: v}) },
			func(t *testing.T, st *Store) string {
				t.Helper()
				c, err := st.Config(t.Context())
				must(t, err)
				return c.PersonKey
			},
		},
		{
			"role", prefixRole + "a",
			func(t *testing.T, st *Store, v string) {
				t.Helper()
				must(t, st.WithRole("a", func(tx *RoleTx) error { return tx.Put(t.Context(), domain.Role{Name: "a", Owner: v}) }))
			},
			func(t *testing.T, d *disk, v string) {
				t.Helper()
				raw(t, d, prefixRole+"a", domain.Role{Name: "a", Owner: v})
			},
			func(t *testing.T, st *Store) string {
				t.Helper()
				r, err := st.Role(t.Context(), "a")
				must(t, err)
				if r == nil {
					return ""
				}
				return r.Owner
			},
		},
		{
			"target", prefixTarget + "a",
			func(t *testing.T, st *Store, v string) {
				t.Helper()
				must(t, st.WithTarget("a", func(tx *TargetTx) error {
					return tx.Put(t.Context(), domain.Target{Name: "a", Place: v}, nil)
				}))
			},
			func(t *testing.T, d *disk, v string) {
				t.Helper()
				raw(t, d, prefixTarget+"a", domain.Target{Name: "a", Place: v})
			},
			func(t *testing.T, st *Store) string {
				t.Helper()
				x, err := st.Target(t.Context(), "a")
				must(t, err)
				if x == nil {
					return ""
				}
				return x.Place
			},
		},
	}
}

// The cache answers what was written last, costs no read when it is warm, and
// forgets when it is told to.
func TestCache(t *testing.T) {
	for _, k := range cachedKinds() {
		t.Run(k.name, func(t *testing.T) {
			d := newDisk()
			st := New(d)
			want := func(v string, reads int, when string) {
				t.Helper()
				d.counted()
				if got := k.read(t, st); got != v {
					t.Fatalf("%s: %q, want %q", when, got, v)
				}
				if n := d.counted(); n != reads {
					t.Errorf("%s: %d reads, want %d", when, n, reads)
				}
			}
			k.put(t, d, "one")
			want("one", 1, "cold")
			want("one", 0, "warm")
			k.write(t, st, "two")
			want("two", 1, "after a write")
			want("two", 0, "warm again")
			k.put(t, d, "three") // by another node
			want("two", 0, "nobody has said so")
			if !Cached(k.key) {
				t.Error("the host's word on this key would be ignored")
			}
			st.Drop()
			want("three", 1, "after the host said so")
		})
	}
	for _, key := range []string{keyState, keyRequest("x"), prefixTargetSecret + "a", keyPerson("p"), prefixHold + "a"} {
		if Cached(key) {
			t.Errorf("%s is said to be cached", key)
		}
	}
}

// A read that was overtaken by a write, or by the host's word, never fills the
// cache with what was true before.
func TestSlowReadFillsNoCache(t *testing.T) {
	for _, k := range cachedKinds() {
		for what, overtake := range map[string]func(t *testing.T, st *Store, d *disk){
			"a write":      func(t *testing.T, st *Store, _ *disk) { t.Helper(); k.write(t, st, "new") },
			"another node": func(t *testing.T, st *Store, d *disk) { t.Helper(); k.put(t, d, "new"); st.Drop() },
		} {
			t.Run(k.name+" and "+what, func(t *testing.T) {
				d := newDisk()
				st := New(d)
				k.put(t, d, "old")
				d.reading = func() { overtake(t, st, d) }
				if got := k.read(t, st); got != "old" && got != "new" {
					t.Fatalf("read %q", got)
				}
				if got := k.read(t, st); got != "new" {
					t.Errorf("the cache says %q for ever", got)
				}
			})
		}
	}
}

// A write that failed leaves nothing in the cache: it may have been written.
func TestFailedWriteForgets(t *testing.T) {
	ctx := t.Context()
	for _, k := range cachedKinds() {
		t.Run(k.name, func(t *testing.T) {
			d := newDisk()
			st := New(d)
			k.write(t, st, "one")
			k.read(t, st)
			d.fail = true
			var err error
			switch k.key {
			case keyConfig:
				_, err = st.UpdateConfig(ctx, func(c domain.Config) (domain.Config, error) { return c, nil })
			case prefixRole + "a":
				err = st.WithRole("a", func(tx *RoleTx) error { return tx.Put(ctx, domain.Role{}) })
			default:
				err = st.WithTarget("a", func(tx *TargetTx) error { return tx.Put(ctx, domain.Target{}, nil) })
			}
			if err == nil {
				t.Fatal("no error")
			}
			d.fail = false
			k.put(t, d, "written in spite of that")
			if got := k.read(t, st); got != "written in spite of that" {
				t.Errorf("the cache still says %q", got)
			}
		})
	}
}

// What was deleted is gone from the cache too.
func TestDeletedIsNotCached(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	st := New(d)
	kinds := cachedKinds()
	for _, k := range kinds {
		k.write(t, st, "x")
		k.read(t, st)
	}
	must(t, st.WithRole("a", func(tx *RoleTx) error { return tx.Delete(ctx) }))
	must(t, st.WithTarget("a", func(tx *TargetTx) error { return tx.Delete(ctx) }))
	for _, k := range kinds[1:] {
		if got := k.read(t, st); got != "" {
			t.Errorf("%s: %q", k.name, got)
		}
	}
}
