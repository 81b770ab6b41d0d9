package store

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// maxParsed bounds the records, in bytes as stored, that are kept with what they
// mean. In memory they take about three times as much.
const maxParsed = 2 << 20

// parsed remembers what the records of requests and persons mean that were read
// or written last. It never stands in for a read: the storage is always asked, and
// only when it answers with the very same bytes they are not parsed once more.
// Parsing is most of what a read of a credential costs besides its calls.
type parsed struct {
	mu    sync.Mutex
	byKey map[string]*list.Element // of *meaning
	order list.List                // the one used last in front
	size  int
}

type meaning struct {
	key       string
	raw       []byte
	v         any               // *domain.Request or *domain.PersonRecord, never changed
	rendering *domain.Rendering // of a request that was written; nil = it was only read
}

// of returns what a record means if these bytes were seen before; nil = they
// were not.
func (p *parsed) of(key string, raw []byte) any {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.find(key)
	if m == nil || !bytes.Equal(m.raw, raw) {
		return nil
	}
	p.order.MoveToFront(p.byKey[key])
	return m.v
}

// find is what is remembered of a record. The caller holds mu.
func (p *parsed) find(key string) *meaning {
	e, ok := p.byKey[key]
	if !ok {
		return nil
	}
	m, _ := e.Value.(*meaning)
	return m
}

// last is what a record meant when it was last seen; nil = that is forgotten.
func (p *parsed) last(key string) *meaning {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.find(key)
}

// rendering is how a request was last written; nil = it was not, or that is
// forgotten.
func (p *parsed) rendering(key string) *domain.Rendering {
	if m := p.last(key); m != nil {
		return m.rendering
	}
	return nil
}

// keep remembers what a record means.
func (p *parsed) keep(m *meaning) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(m.key)
	if p.byKey == nil {
		p.byKey = map[string]*list.Element{}
	}
	p.byKey[m.key] = p.order.PushFront(m)
	p.size += len(m.raw)
	for p.size > maxParsed {
		if m, ok := p.order.Back().Value.(*meaning); ok {
			p.remove(m.key)
		}
	}
}

// forget drops one record, and clear all of them.
func (p *parsed) forget(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(key)
}

func (p *parsed) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byKey, p.size = nil, 0
	p.order.Init()
}

func (p *parsed) remove(key string) {
	e, ok := p.byKey[key]
	if !ok {
		return
	}
	delete(p.byKey, key)
	if m, ok := p.order.Remove(e).(*meaning); ok {
		p.size -= len(m.raw)
	}
}

// openRequest reads the record of a request that is not archived. The copy is the
// caller's, its lists are not: whatever changes a request copies what it changes. A
// change in place would count as what was written already.
func (st *Store) openRequest(ctx context.Context, id domain.RequestID) (*domain.Request, error) {
	return getParsed[domain.Request](ctx, st, keyRequest(id))
}

// Seen is an open request as this process last saw it: a hint, which says nothing
// of what storage holds now. nil = it is not remembered. Nobody may change it.
func (st *Store) Seen(id domain.RequestID) *domain.Request {
	m := st.parsed.last(keyRequest(id))
	if m == nil {
		return nil
	}
	r, _ := m.v.(*domain.Request)
	return r
}

// Person reads a person's record without a lock; an empty one when there is
// none.
func (st *Store) Person(ctx context.Context, p domain.Person) (domain.PersonRecord, error) {
	r, err := getParsed[domain.PersonRecord](ctx, st, keyPerson(p))
	if err != nil {
		return domain.PersonRecord{}, err
	}
	if r == nil {
		return domain.PersonRecord{Person: p}, nil
	}
	r.Entries, r.Usage = slices.Clone(r.Entries), maps.Clone(r.Usage) // the caller's own
	return *r, nil
}

// getParsed is get that parses only what was not seen before.
func getParsed[T any](ctx context.Context, st *Store, key string) (*T, error) {
	entry, err := st.s.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kind(key), err)
	}
	if entry == nil {
		return nil, nil //nolint:nilnil // absent is an ordinary answer of a store
	}
	if v, ok := st.parsed.of(key, entry.Value).(*T); ok {
		own := *v
		return &own, nil
	}
	out := new(T)
	if err := decode(entry.Value, out); err != nil {
		return nil, fmt.Errorf("%s: %w", kind(key), err)
	}
	own := *out
	st.parsed.keep(&meaning{key: key, raw: entry.Value, v: out})
	return &own, nil
}
