package store

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Orphans reads what the last sweeps found.
func (st *Store) Orphans(ctx context.Context) (domain.Orphans, error) {
	o, err := get[domain.Orphans](ctx, st.s, keyOrphans)
	if err != nil || o == nil {
		return domain.Orphans{}, err
	}
	return *o, nil
}

// UpdateOrphans changes what the last sweeps found, under its lock.
func (st *Store) UpdateOrphans(ctx context.Context, f func(*domain.Orphans)) (domain.Orphans, error) {
	defer st.locks.single.lock(keyOrphans)()
	o, err := st.Orphans(ctx)
	if err != nil {
		return o, err
	}
	if o.Sweeps == nil {
		o.Sweeps = map[string]domain.TargetSweep{}
	}
	f(&o)
	return o, put(ctx, st.s, keyOrphans, o)
}
