package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// bounded runs f and fails when it does not come back.
func bounded(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		t.Fatalf("deadlock: %s", what)
	}
}

// One key is held by one at a time or by readers together, two keys never wait
// for each other, and locks that nobody holds cost nothing.
func TestKeyedLocks(t *testing.T) {
	t.Run("one at a time", func(t *testing.T) {
		var k keyed
		var in, most atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 200 {
					unlock := k.lock("a")
					if n := in.Add(1); n > most.Load() {
						most.Store(n)
					}
					in.Add(-1)
					unlock()
				}
			})
		}
		bounded(t, "one key", wg.Wait)
		if most.Load() != 1 {
			t.Errorf("%d held one key together", most.Load())
		}
		if len(k.held) != 0 {
			t.Errorf("%d locks are kept for ever", len(k.held))
		}
	})
	t.Run("readers together, and no writer among them", func(t *testing.T) {
		var k keyed
		first := k.rlock("a")
		bounded(t, "a second reader waits for the first", func() { k.rlock("a")() })
		entered := make(chan struct{})
		go func() { unlock := k.lock("a"); close(entered); unlock() }()
		select {
		case <-entered:
			t.Error("a writer entered among readers")
		default:
		}
		first()
		bounded(t, "the writer never enters", func() { <-entered })
	})
	t.Run("two keys never wait for each other", func(t *testing.T) {
		var k keyed
		unlock := k.lock("a")
		defer unlock()
		bounded(t, "another key", func() {
			for i := range 2000 { // stripes would collide
				k.lock(fmt.Sprint(i))()
			}
		})
	})
	t.Run("freed when what it guards breaks", func(t *testing.T) {
		st := New(newDisk())
		func() {
			defer func() { _ = recover() }()
			_ = st.WithRequest("x", func(*RequestTx) error { panic("broken") })
		}()
		bounded(t, "the lock of a call that broke", func() { must(t, st.WithRequest("x", func(*RequestTx) error { return nil })) })
	})
}

// The documented order (person, role, target, request, claim) never deadlocks,
// in whatever mixture of the ways through it.
func TestLockOrderUnderLoad(t *testing.T) {
	ctx := t.Context()
	st := New(newDisk())
	pick := func(prefix string) string { return fmt.Sprint(prefix, rand.N(2)) }
	request := func() domain.RequestID { return domain.RequestID(pick("r")) }
	claim := func() error {
		return st.WithClaim(pick("t"), "k", func(tx *ClaimTx) error {
			return tx.Put(ctx, domain.Claim{Key: "k", Holders: []domain.CredentialID{"c"}})
		})
	}
	ways := []func() error{
		func() error { // filing, archiving
			return st.WithPerson(domain.Person(pick("p")), func(*PersonTx) error {
				return st.WithRequest(request(), func(tx *RequestTx) error { return tx.Put(ctx, domain.Request{}) })
			})
		},
		func() error { // issuing
			return st.SharedRole(pick("role"), func() error {
				return st.SharedTarget(pick("t"), func() error {
					return st.WithRequest(request(), func(*RequestTx) error { return claim() })
				})
			})
		},
		func() error { // a role edit that revokes
			return st.WithRole(pick("role"), func(tx *RoleTx) error {
				return st.SharedTarget(pick("t"), func() error {
					if err := st.WithRequest(request(), func(*RequestTx) error { return nil }); err != nil {
						return err
					}
					return tx.Put(ctx, domain.Role{})
				})
			})
		},
		func() error { // a target edit that revokes
			return st.WithTarget(pick("t"), func(tx *TargetTx) error {
				if err := st.WithRequest(request(), func(*RequestTx) error { return nil }); err != nil {
					return err
				}
				return tx.Put(ctx, domain.Target{}, &Secrets{})
			})
		},
		claim,
	}
	var wg sync.WaitGroup
	var failed atomic.Int32
	for i := range 12 {
		wg.Go(func() {
			for range 300 {
				if ways[i%len(ways)]() != nil {
					failed.Add(1)
				}
			}
		})
	}
	bounded(t, "the lock order", wg.Wait)
	if failed.Load() > 0 {
		t.Errorf("%d steps failed", failed.Load())
	}
}

// Concurrent changes of one record are all there in the end.
func TestUpdatesAreNotLost(t *testing.T) {
	ctx := t.Context()
	st := New(newDisk())
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 20 {
				_, err := st.UpdateState(ctx, func(s *domain.State) { s.Epoch++ })
				if err == nil {
					_, err = st.UpdateConfig(ctx, func(c domain.Config) (domain.Config, error) { c.MaxOpen++; return c, nil })
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	bounded(t, "updates", wg.Wait)
	s, err := st.State(ctx)
	must(t, err)
	c, err := st.Config(ctx)
	must(t, err)
	if s.Epoch != 200 || c.MaxOpen != domain.DefaultConfig().MaxOpen+200 {
		t.Errorf("%d and %d updates are left", s.Epoch, c.MaxOpen-domain.DefaultConfig().MaxOpen)
	}
}
