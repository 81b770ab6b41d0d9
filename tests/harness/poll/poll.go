// Package poll waits for something to become true, with a bound. Tests never
// sleep for a fixed time instead.
package poll

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// interval between two looks: short enough not to be noticed, long enough to
// leave a small machine to the processes that are waited for.
const interval = 25 * time.Millisecond

// Until calls look until it returns nil. Its error says what is still missing;
// the last one fails the test when bound (a positive duration) is over.
func Until(t testing.TB, bound time.Duration, look func() error) {
	t.Helper()
	if err := Within(bound, look); err != nil {
		t.Fatal(err)
	}
}

// Within is Until for code without a test: it returns the last error of look,
// marked with the bound, when the bound is over.
func Within(bound time.Duration, look func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", bound, err)
		case <-tick.C:
		}
	}
}

// Throughout calls look until the bound is over and fails the test at its first
// error. It is for what must not happen.
func Throughout(t testing.TB, bound time.Duration, look func() error) {
	t.Helper()
	over := time.NewTimer(bound)
	defer over.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := look(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-over.C:
			return
		case <-tick.C:
		}
	}
}
