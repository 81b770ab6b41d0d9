package access

import (
	"context"
	"errors"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// flights knows what is being issued and ended by this process, so that one
// credential is never worked on from two sides.
type flights struct {
	mu      sync.Mutex
	issuing map[domain.CredentialID]*flight
	ending  map[domain.CredentialID]*flight
}

type flight struct {
	mu      sync.Mutex
	cancel  context.CancelFunc // of the provider's call, once it runs
	stopped bool
	done    chan struct{}
	err     error
}

// board gives the provider's call a context that grounded can cancel; false =
// it was grounded before it began.
func (fl *flight) board(cancel context.CancelFunc) bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.cancel = cancel
	return !fl.stopped
}

func (fl *flight) stop() {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.stopped = true
	if fl.cancel != nil {
		fl.cancel()
	}
}

// wasStopped tells whether the call was called back.
func (fl *flight) wasStopped() bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.stopped
}

func newFlights() *flights {
	return &flights{issuing: map[domain.CredentialID]*flight{}, ending: map[domain.CredentialID]*flight{}}
}

// issue notes an issue before its intent is on record, so that nobody who
// reads the record can overtake it. land must be called when the provider has
// returned, or when it is not called at all.
func (f *flights) issue(id domain.CredentialID) (fl *flight, land func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl = &flight{done: make(chan struct{})}
	f.issuing[id] = fl
	return fl, sync.OnceFunc(func() {
		f.mu.Lock()
		delete(f.issuing, id)
		f.mu.Unlock()
		close(fl.done)
	})
}

// grounded cancels an issue in flight and waits until the provider returned: a
// revocation must not overtake what it revokes.
func (f *flights) grounded(ctx context.Context, id domain.CredentialID) error {
	f.mu.Lock()
	fl := f.issuing[id]
	f.mu.Unlock()
	if fl == nil {
		return nil
	}
	fl.stop()
	select {
	case <-fl.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// busy tells whether this process is issuing a credential right now.
func (f *flights) busy(id domain.CredentialID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issuing[id] != nil
}

// end starts ending a credential, or joins whoever is already at it.
func (f *flights) end(ctx context.Context, id domain.CredentialID, do func() error) error {
	f.mu.Lock()
	if fl, ok := f.ending[id]; ok {
		f.mu.Unlock()
		select {
		case <-fl.done:
			return fl.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fl := &flight{done: make(chan struct{})}
	f.ending[id] = fl
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.ending, id)
		f.mu.Unlock()
		close(fl.done)
	}()
	fl.err = errors.New("the revocation did not finish")
	fl.err = do()
	return fl.err
}
