package store

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// List reads the list that a target publishes, in one read; nil = it has
// published none.
func (st *Store) List(ctx context.Context, target string) (*domain.RevocationList, error) {
	return get[domain.RevocationList](ctx, st.s, prefixList+target)
}

// UpdateList changes a target's list under its lock. f tells whether there is
// something to write.
func (st *Store) UpdateList(ctx context.Context, target string, f func(*domain.RevocationList) (write bool, err error)) error {
	key := prefixList + target
	defer st.locks.single.lock(key)()
	l, err := st.List(ctx, target)
	if err != nil {
		return err
	}
	if l == nil {
		l = &domain.RevocationList{}
	}
	write, err := f(l)
	if err != nil || !write {
		return err
	}
	return put(ctx, st.s, key, l)
}
