package aws

import (
	"context"
	"errors"
	"sync"
	"time"
)

// batcher joins what several callers want in one policy into one read, write
// and verification, and keeps a second one from starting beside it. It holds
// no lock while that runs.
type batcher[O any] struct {
	run   func(ctx context.Context, order O) (wrote bool, err error)
	merge func(into *O, more O)
	bound func() (context.Context, context.CancelFunc) // the life of one batch

	mu     sync.Mutex
	next   map[string]*batch[O] // gathers while another runs, by policy
	busy   map[string]bool
	closed bool
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// batch is what runs together.
type batch[O any] struct {
	order O
	done  chan struct{}
	wrote bool // these two are valid once done is closed
	err   error
}

var errClosed = errors.New("the provider instance is closed")

func newBatcher[O any](
	limit time.Duration, run func(ctx context.Context, order O) (bool, error), merge func(into *O, more O),
) *batcher[O] {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:gosec // stop calls it
	return &batcher[O]{
		run: run, merge: merge, next: map[string]*batch[O]{}, busy: map[string]bool{}, stop: cancel,
		bound: func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, limit) },
	}
}

// do has an order carried out together with others for the same policy and
// waits for it. A caller whose context ends stops waiting; the batch goes on
// for the others.
func (b *batcher[O]) do(ctx context.Context, policy string, order O) (wrote bool, err error) {
	joined, err := b.join(policy, order)
	if err != nil {
		return false, err
	}
	select {
	case <-joined.done:
		return joined.wrote, joined.err
	case <-ctx.Done():
		return false, failed("deny sessions", ctx.Err())
	}
}

// join adds an order to the next batch and starts it if none is running.
func (b *batcher[O]) join(policy string, order O) (*batch[O], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed
	}
	waiting := b.next[policy]
	if waiting == nil {
		waiting = &batch[O]{order: order, done: make(chan struct{})}
		b.next[policy] = waiting
	} else {
		b.merge(&waiting.order, order)
	}
	if !b.busy[policy] {
		b.busy[policy] = true
		b.wg.Go(func() { b.work(policy) })
	}
	return waiting, nil
}

// work runs the batches of one policy until none is waiting.
func (b *batcher[O]) work(policy string) {
	for {
		b.mu.Lock()
		current := b.next[policy]
		delete(b.next, policy)
		if current == nil {
			delete(b.busy, policy)
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		current.wrote, current.err = b.runOne(current.order)
		close(current.done)
	}
}

func (b *batcher[O]) runOne(order O) (bool, error) {
	ctx, cancel := b.bound()
	defer cancel()
	return b.run(ctx, order)
}

// close ends what is running and waits for it.
func (b *batcher[O]) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.wg.Wait()
}
