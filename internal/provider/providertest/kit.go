package providertest

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Fataler is what tests, benchmarks and property tests have in common.
type Fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// NewID is a fresh id that was made at that time.
func NewID(t Fataler, at time.Time) string {
	t.Helper()
	id, err := domain.NewID(at, rand.Reader)
	if err != nil {
		t.Fatalf("id: %v", err)
	}
	return id
}

// Quiet is a log that keeps nothing.
type Quiet struct{}

// Debug implements contract.Logger.
func (Quiet) Debug(string, ...any) {}

// Warn implements contract.Logger.
func (Quiet) Warn(string, ...any) {}

// Error implements contract.Logger.
func (Quiet) Error(string, ...any) {}

// IssueUsable issues until the credential is usable, on a clock that it moves,
// and returns the last handle that was noted.
func IssueUsable(
	t testing.TB, p contract.Provider, in contract.Input, h domain.Handle, clk *clock.Manual,
) (contract.Issued, domain.Handle, error) {
	t.Helper()
	last := h
	save := func(h domain.Handle) error { last = h; return nil }
	for range 3 * maxRounds {
		issued, err := p.Issue(t.Context(), in, last, save)
		if err != nil || issued.PollAfter == 0 {
			return issued, last, err
		}
		clk.Advance(issued.PollAfter)
	}
	t.Fatal("the credential never became usable")
	return contract.Issued{}, last, nil
}

// MustEnd revokes until nothing is left to clear, on a clock that it moves. A
// credential that cannot be ended early may end by itself.
func MustEnd(t testing.TB, p contract.Provider, h domain.Handle, clk *clock.Manual) {
	t.Helper()
	for range maxRounds {
		ended, err := p.Revoke(t.Context(), h)
		if err != nil {
			t.Fatalf("revoke: %v", err)
		}
		if ended.Done() {
			return
		}
		h = ended.Rest
		clk.Advance(max(ended.Again.Sub(clk.Now()), time.Second))
	}
	t.Fatal("a remainder is still left")
}
