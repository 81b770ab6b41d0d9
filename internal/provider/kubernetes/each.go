package kubernetes

import (
	"context"
	"errors"
	"sync"
)

// workers bounds the calls that one issue or revocation makes at once.
const workers = 6

// each runs do for every item, a few at a time, and joins the errors. One
// failure does not stop the others: a revocation goes as far as it can.
func each[T any](ctx context.Context, items []T, do func(context.Context, T) error) error {
	if len(items) == 1 {
		return do(ctx, items[0])
	}
	errs := make([]error, len(items))
	room := make(chan struct{}, workers)
	var wg sync.WaitGroup
	for i, item := range items {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			errs[i] = do(ctx, item)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
