package store

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// maxParsed bounds the records, in bytes as stored, that are kept with what they
// mean. In memory they take about three times as much.
const maxParsed = 2 << 20

// parsed remembers what the records of requests mean that were read or written
// last. It never stands in for a read: the storage is always asked, and only
// when it answers with the very same bytes they are not parsed once more. Parsing
// is most of what a read of a credential costs besides its calls.
type parsed struct {
	mu    sync.Mutex
	byID  map[domain.RequestID]*list.Element // of *meaning
	order list.List                          // the one used last in front
	size  int
}

type meaning struct {
	id  domain.RequestID
	raw []byte
	r   domain.Request // never changed: the domain copies what it changes
}

// of returns what a record means if these bytes were seen before; nil = they
// were not. The copy is the caller's.
func (p *parsed) of(id domain.RequestID, raw []byte) *domain.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.byID[id]
	if !ok {
		return nil
	}
	m, _ := e.Value.(*meaning)
	if !bytes.Equal(m.raw, raw) {
		return nil
	}
	p.order.MoveToFront(e)
	r := m.r
	return &r
}

// keep remembers what a record means.
func (p *parsed) keep(id domain.RequestID, raw []byte, r domain.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(id)
	if p.byID == nil {
		p.byID = map[domain.RequestID]*list.Element{}
	}
	p.byID[id] = p.order.PushFront(&meaning{id: id, raw: raw, r: r})
	p.size += len(raw)
	for p.size > maxParsed {
		if m, ok := p.order.Back().Value.(*meaning); ok {
			p.remove(m.id)
		}
	}
}

// forget drops one record, and clear all of them.
func (p *parsed) forget(id domain.RequestID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(id)
}

func (p *parsed) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byID, p.size = nil, 0
	p.order.Init()
}

func (p *parsed) remove(id domain.RequestID) {
	e, ok := p.byID[id]
	if !ok {
		return
	}
	delete(p.byID, id)
	if m, ok := p.order.Remove(e).(*meaning); ok {
		p.size -= len(m.raw)
	}
}

// openRequest reads the record of a request that is not archived.
func (st *Store) openRequest(ctx context.Context, id domain.RequestID) (*domain.Request, error) {
	key := keyRequest(id)
	entry, err := st.s.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kind(key), err)
	}
	if entry == nil {
		return nil, nil //nolint:nilnil // absent is an ordinary answer of a store
	}
	if r := st.parsed.of(id, entry.Value); r != nil {
		return r, nil
	}
	r := new(domain.Request)
	if err := decode(entry.Value, r); err != nil {
		return nil, fmt.Errorf("%s: %w", kind(key), err)
	}
	st.parsed.keep(id, entry.Value, *r)
	return r, nil
}
