package kubernetes

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// lateWrites is how long after a credential's plan a call of its issue can
// still take effect, although nobody waits for it any more: the issue's own
// time and what each call asks the API server to take at most (the parameter
// timeout), with a reserve. What is absent before that may be on its way, and
// is looked for again: soon at first, for the last time then.
const (
	lateWrites = issueTimeout + remote.CallTimeout + 10*time.Second
)

// Revoke implements contract.Provider. Bindings go first: they bite at once.
// One that cannot be deleted keeps nothing else alive.
func (p *Provider) Revoke(ctx context.Context, h domain.Handle) (contract.Ended, error) {
	n, err := p.read("revoke", h)
	if err != nil {
		return contract.Ended{}, err
	}
	ctx = remote.Marked(ctx, h.Credential, "")
	if err := p.prove(ctx, "revoke", h.Place); err != nil {
		return contract.Ended{}, err
	}
	var missing atomic.Bool
	remove := func(ctx context.Context, k key) error {
		found, held, err := p.api.Delete(ctx, k)
		op := "delete " + string(k.kind)
		switch {
		case err != nil:
			return failure(op, err)
		case held:
			return &contract.Error{
				Op: op, Code: "finalizers", Cause: errFinalizers,
				Public: "the cluster keeps the object until somebody's finalizers have run",
			}
		case !found:
			missing.Store(true)
		}
		return nil
	}
	err = errors.Join(
		each(ctx, n.bindings(h.Credential), remove),
		each(ctx, n.accounts(h.Credential), remove),
		each(ctx, n.roles(h.Credential), remove),
	)
	if err != nil {
		return contract.Ended{}, err
	}
	if !missing.Load() {
		return contract.Gone(), nil
	}
	return remote.LookAgain(h, p.env.Clock.Now(), domain.TimeOf(string(h.Credential)).Add(lateWrites)), nil
}
