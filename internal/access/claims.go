package access

import (
	"context"
	"slices"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// join enters a credential into the set that uses a shared object, around the
// write that puts it on record. While the release of the last one is
// unconfirmed, nobody enters. The record comes first: cut off in between, it
// makes somebody end the credential, while a holder that is on no record would
// keep the object alive for ever.
func (a *Access) join(ctx context.Context, j *job, save func() error) error {
	h := j.cred.Handle
	if h.Shared == "" {
		return save()
	}
	return a.store.WithClaim(h.Target, h.Shared, func(tx *store.ClaimTx) error {
		c, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		if c.Releasing != "" {
			return fault.New(fault.Conflict, fault.CodeBusy,
				"busy: the same access is being withdrawn at the target right now; try again shortly", nil).
				With("poll_after_seconds", 5)
		}
		if err := save(); err != nil {
			return err
		}
		j.in.Joined = len(c.Holders) > 0
		c.Key = h.Shared
		c.Holders = append(c.Holders, h.Credential)
		return tx.Put(ctx, c)
	})
}

// release takes a credential out of the set and tells whether the target has
// to be called: only for the last one.
func (a *Access) release(ctx context.Context, c domain.Credential) (last bool, err error) {
	if c.Handle.Shared == "" {
		return true, nil
	}
	err = a.store.WithClaim(c.Handle.Target, c.Handle.Shared, func(tx *store.ClaimTx) error {
		cl, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		others := slices.DeleteFunc(slices.Clone(cl.Holders), func(id domain.CredentialID) bool { return id == c.ID })
		switch {
		case cl.Releasing == c.ID:
			last = true
			return nil
		case cl.Releasing != "":
			return nil // somebody else's release covers the object
		case len(others) > 0:
			cl.Holders = others
			return tx.Put(ctx, cl)
		}
		last = true
		cl.Key, cl.Holders, cl.Releasing = c.Handle.Shared, nil, c.ID
		return tx.Put(ctx, cl)
	})
	return last, err
}

// usedByOthers tells whether a shared object belongs to others by now, for a
// handle that no record is left of: it takes no part in the set, since nobody
// would take it out again.
func (a *Access) usedByOthers(ctx context.Context, h domain.Handle) (used bool, err error) {
	if h.Shared == "" {
		return false, nil
	}
	err = a.store.WithClaim(h.Target, h.Shared, func(tx *store.ClaimTx) error {
		c, err := tx.Get(ctx)
		others := slices.DeleteFunc(c.Holders, func(id domain.CredentialID) bool { return id == h.Credential })
		used = len(others) > 0 || c.Releasing != ""
		return err
	})
	return used, err
}

// released says that the target confirmed the release.
func (a *Access) released(ctx context.Context, c domain.Credential) error {
	return a.store.WithClaim(c.Handle.Target, c.Handle.Shared, func(tx *store.ClaimTx) error {
		cl, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		if cl.Releasing == c.ID {
			cl.Releasing = ""
		}
		return tx.Put(ctx, cl)
	})
}
