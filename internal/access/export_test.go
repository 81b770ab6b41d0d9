package access

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Tick is one look of the reaper, for tests that drive it by hand instead of
// starting it.
func (a *Access) Tick(ctx context.Context) {
	if a.host.Writable() {
		a.reaper.look(ctx, true)
	}
}

// Pause is how long the reaper would wait now.
func (a *Access) Pause() time.Duration { return a.reaper.pause(a.reaper.every(context.Background())) }

// Idle returns when nothing runs in the background.
func (a *Access) Idle() { a.background.Wait() }

// Boot is the id of this process.
func (a *Access) Boot() string { return a.boot }

// IndexedIDs are the requests that memory knows of.
func (a *Access) IndexedIDs() []domain.RequestID {
	return a.index.ids(func(*row) bool { return true })
}

// Waiting counts the requests for whose change somebody waits.
func (a *Access) Waiting() int {
	a.index.mu.Lock()
	defer a.index.mu.Unlock()
	return len(a.index.waiting)
}

// Allowances counts the people whose pace of issue memory keeps.
func (a *Access) Allowances() int {
	a.rates.mu.Lock()
	defer a.rates.mu.Unlock()
	return len(a.rates.per)
}

// Usage is one person's use of one role.
func (a *Access) Usage(ctx context.Context, p domain.Person, role string) (domain.Usage, error) {
	return a.usage(ctx, p, role)
}

// WorkFor is how long a round of the reaper waits for the targets.
const WorkFor = workFor
