package access_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// mortal makes a descriptor's instances die with their process: a dead one
// changes nothing at the target any more.
func mortal(d contract.Descriptor, s *session) contract.Descriptor {
	open := d.New
	d.New = func(env contract.Env, t contract.Target) (contract.Provider, error) {
		p, err := open(env, t)
		if err != nil {
			return nil, err
		}
		f, ok := p.(*fake.Provider)
		if !ok {
			return p, nil
		}
		if s.bulk != nil {
			return bulkProvider{mortalProvider{Provider: f, s: s}}, nil
		}
		return mortalProvider{Provider: f, s: s}, nil
	}
	return d
}

type mortalProvider struct {
	*fake.Provider
	s *session
}

func (p mortalProvider) Issue(
	ctx context.Context, in contract.Input, h domain.Handle, checkpoint func(domain.Handle) error,
) (contract.Issued, error) {
	if !p.s.alive() {
		return contract.Issued{}, errDead
	}
	return p.Provider.Issue(ctx, in, h, func(h domain.Handle) error {
		if p.s.naming != nil {
			p.s.naming()
		}
		if err := checkpoint(h); err != nil {
			return err
		}
		if !p.s.alive() {
			return errDead
		}
		return nil
	})
}

func (p mortalProvider) Revoke(ctx context.Context, h domain.Handle) (contract.Ended, error) {
	if !p.s.alive() {
		return contract.Ended{}, errDead
	}
	p.s.revoking(h)
	return p.Provider.Revoke(ctx, h)
}

func (p mortalProvider) List(ctx context.Context, yield func(contract.Found) error) error {
	if !p.s.alive() {
		return errDead
	}
	return p.Provider.List(ctx, func(f contract.Found) error {
		if p.s.remainder > 0 { // the target says of what it lists that it leaves something for later
			var data map[string]any
			if err := json.Unmarshal(f.Handle.Data, &data); err != nil {
				return err
			}
			data["remainder"] = p.s.remainder
			var err error
			if f.Handle.Data, err = json.Marshal(data); err != nil {
				return err
			}
		}
		return yield(f)
	})
}

func (p mortalProvider) StageRoot(ctx context.Context, id string) (map[string]secret.String, error) {
	if !p.s.alive() {
		return nil, errDead
	}
	return p.Provider.StageRoot(ctx, id)
}

func (p mortalProvider) CommitRoot(ctx context.Context, id string, old map[string]secret.String) error {
	if !p.s.alive() {
		return errDead
	}
	return p.Provider.CommitRoot(ctx, id, old)
}

func (p mortalProvider) AbandonRoot(ctx context.Context, id string, staged map[string]secret.String) error {
	if !p.s.alive() {
		return errDead
	}
	return p.Provider.AbandonRoot(ctx, id, staged)
}

// inBulk is a target that can end many at once.
type inBulk struct {
	fails error // if it cannot now
	spare int   // so many of each call it does not end

	mu    sync.Mutex
	calls []bulkCall
}

type bulkCall struct{ handles, alone int } // alone is how many were ended one by one before it

func (b *inBulk) called() []bulkCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

type bulkProvider struct{ mortalProvider }

var _ contract.BulkRevoker = bulkProvider{}

func (p bulkProvider) RevokeBulk(ctx context.Context, hs []domain.Handle) (map[domain.CredentialID]contract.Ended, error) {
	b := p.s.bulk
	b.mu.Lock()
	b.calls = append(b.calls, bulkCall{handles: len(hs), alone: len(p.s.revokedHandles())})
	b.mu.Unlock()
	if b.fails != nil {
		return nil, b.fails
	}
	out := map[domain.CredentialID]contract.Ended{}
	for _, h := range hs[min(b.spare, len(hs)):] {
		ended, err := p.Provider.Revoke(ctx, h)
		if err != nil {
			return out, err
		}
		out[h.Credential] = ended
	}
	return out, nil
}
