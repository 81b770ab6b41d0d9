package access

import (
	"context"
	"errors"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// LeaseData is what a lease carries, strings only: all that a revocation needs
// when everything else is gone.
type LeaseData struct {
	Request    domain.RequestID
	Credential domain.CredentialID
	Nonce      string
	Handle     domain.Handle
}

// LeaseEnded ends what a lease gave. The host calls it at the lease's end, and
// again after an error. It works after the role is gone, on a new process,
// without an entity.
func (a *Access) LeaseEnded(ctx context.Context, d LeaseData) error {
	var s sight
	last, err := a.dropNonce(ctx, d, &s)
	switch {
	case errors.Is(err, domain.ErrNoCredential), errors.Is(err, store.ErrNewer):
		// No record to go by: the lease itself names what to end.
		return a.orphanEnd(ctx, d)
	case err != nil:
		return err
	case !last:
		return nil
	}
	err = a.finish(ctx, d.Request, d.Credential, "its lease ended", &s)
	if errors.Is(err, domain.ErrNoCredential) {
		return a.orphanEnd(ctx, d)
	}
	return err
}

// orphanEnd revokes by the lease's own handle, when the record is archived or
// unreadable.
func (a *Access) orphanEnd(ctx context.Context, d LeaseData) error {
	r, err := a.store.Request(ctx, d.Request)
	if err == nil && r != nil && r.Finished() {
		return nil // archived: the target confirmed it long ago
	}
	ctx, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	if err := a.publishStray(ctx, d.Handle); err != nil {
		return err
	}
	if used, err := a.usedByOthers(ctx, d.Handle); err != nil || used {
		return err
	}
	_, err = a.revokeHandle(ctx, d.Handle)
	return err
}

// dropNonce takes one lease off a credential and tells whether it was the
// last.
func (a *Access) dropNonce(ctx context.Context, d LeaseData, s *sight) (last bool, err error) {
	err = a.store.WithRequest(d.Request, func(tx *store.RequestTx) error {
		r, err := a.look(ctx, tx, d.Request, s)
		if err != nil {
			return err
		}
		if r == nil {
			return domain.ErrNoCredential
		}
		c, ok := r.Credential(d.Credential)
		if !ok {
			return domain.ErrNoCredential
		}
		now := a.now()
		left := make([]domain.Nonce, 0, len(c.Nonces))
		for _, n := range c.Nonces {
			if n.ID != d.Nonce && now.Before(n.Until) {
				left = append(left, n)
			}
		}
		if len(left) == 0 || c.State != domain.CredActive {
			last = true
			return nil
		}
		next, err := r.Edit(c.ID, func(c *domain.Credential) { c.Nonces = left })
		if err != nil {
			return err
		}
		return a.saveSeen(ctx, tx, next, "nonce dropped", s)
	})
	return last, err
}
