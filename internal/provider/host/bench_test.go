package host_test

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
)

// bench is a fake host with one provider on it.
type bench struct {
	*testing.T
	f      *fakeHost
	target contract.Target
	p      contract.Provider
}

// leaseRole is a role that works on the fake host.
func leaseRole() contract.Values { return contract.Values{"path": "database/creds/app"} }

func tokenRole() contract.Values { return contract.Values{"token_policies": []string{"prod-read"}} }

func newBench(t *testing.T, target func(*fakeHost) contract.Target) *bench {
	t.Helper()
	f := newFakeHost(t, "cluster-one")
	b := &bench{T: t, f: f, target: target(f)}
	place, err := b.open(b.target).Place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.target.Place = place
	b.p = b.open(b.target)
	return b
}

func (b *bench) open(target contract.Target) contract.Provider {
	b.Helper()
	p, err := host.Descriptor().New(contract.Env{Clock: b.f.clk}, target)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	})
	return p
}

func (b *bench) input(role contract.Values) contract.Input {
	b.Helper()
	id, err := domain.NewID(b.f.clk.Now(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	return contract.Input{
		Credential: domain.CredentialID(id), Fields: role, NotAfter: b.f.clk.Now().Add(10 * time.Minute),
	}
}

// issue issues a fresh credential and returns the last handle on record.
func (b *bench) issue(ctx context.Context, role contract.Values) (contract.Issued, domain.Handle, error) {
	b.Helper()
	in := b.input(role)
	last, err := b.p.Plan(ctx, in)
	if err != nil {
		b.Fatal(err)
	}
	out, err := b.p.Issue(ctx, in, last, func(h domain.Handle) error {
		last = h
		return nil
	})
	return out, last, err
}

// left counts the tokens and leases of credentials.
func (b *bench) left() int {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	n := len(b.f.leases)
	for _, t := range b.f.tokens {
		if !t.login {
			n++
		}
	}
	return n
}

// codeOf is the code of a provider's error, or "" for another error.
func codeOf(err error) string {
	var e *contract.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}
