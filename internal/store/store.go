package store

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// Store is the mount's records over the host's storage. Config, roles and
// targets come from a write-through cache; requests and persons never do.
type Store struct {
	s     logical.Storage
	locks locks

	mu      sync.RWMutex
	config  *domain.Config
	roles   map[string]*kept[domain.Role]
	targets map[string]*kept[domain.Target]
	parsed  parsed // what records of requests mean; see there
	recheck bool
	gen     uint64 // counts drops of the cache, so that a slow read never fills it with old news
}

// New makes a store over the host's storage for one mount.
func New(s logical.Storage) *Store {
	st := &Store{s: s}
	st.Drop()
	return st
}

// Recheck makes every write of a request fail whose text would be another one had
// nothing been taken over from the version before: somebody has changed in place
// what the store was given. For tests.
func (st *Store) Recheck() { st.recheck = true }

// Drop empties the cache: at start, at the end, and when the host says that
// somebody else wrote.
func (st *Store) Drop() {
	st.parsed.clear()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.config = nil
	st.roles = map[string]*kept[domain.Role]{}
	st.targets = map[string]*kept[domain.Target]{}
	st.gen++
}

// Cached tells whether a key's record may be in the cache.
func Cached(key string) bool {
	return key == keyConfig || strings.HasPrefix(key, prefixRole) || strings.HasPrefix(key, prefixTarget)
}

// kept is a record in the cache, with its revision, which takes longer to work out
// than all else that a read of a credential does with the record.
type kept[T interface{ Revision() string }] struct {
	v   *T
	rev func() string
}

// cached reads through one of the maps of the cache.
func cached[T interface{ Revision() string }](ctx context.Context, st *Store, pick func() map[string]*kept[T], name, key string) (*kept[T], error) {
	st.mu.RLock()
	k, ok := pick()[name]
	gen := st.gen
	st.mu.RUnlock()
	if ok {
		return k, nil
	}
	v, err := get[T](ctx, st.s, key)
	if err != nil || v == nil {
		return nil, err
	}
	k = &kept[T]{v: v, rev: sync.OnceValue((*v).Revision)}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gen == gen {
		pick()[name] = k
	}
	return k, nil
}

func (st *Store) forget(f func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.gen++
	f()
}

// Config reads the mount's settings; defaults where none were written.
func (st *Store) Config(ctx context.Context) (domain.Config, error) {
	st.mu.RLock()
	c, gen := st.config, st.gen
	st.mu.RUnlock()
	if c != nil {
		return *c, nil
	}
	c, err := get[domain.Config](ctx, st.s, keyConfig)
	if err != nil {
		return domain.Config{}, err
	}
	if c == nil {
		d := domain.DefaultConfig()
		c = &d
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gen == gen {
		st.config = c
	}
	return *c, nil
}

// UpdateConfig changes the settings under their lock.
func (st *Store) UpdateConfig(ctx context.Context, f func(domain.Config) (domain.Config, error)) (domain.Config, error) {
	defer st.locks.single.lock(keyConfig)()
	now, err := st.Config(ctx)
	if err != nil {
		return now, err
	}
	next, err := f(now)
	if err != nil {
		return now, err
	}
	defer st.forget(func() { st.config = nil })
	return next, put(ctx, st.s, keyConfig, next)
}

// Role reads a role; nil = none. The result is shared: callers do not change
// it.
func (st *Store) Role(ctx context.Context, name string) (*domain.Role, error) {
	k, err := st.role(ctx, name)
	if err != nil || k == nil {
		return nil, err
	}
	return k.v, nil
}

// MissRole asks the storage as Role does for a role that does not exist, whether
// there is one of that name or not.
func (st *Store) MissRole(ctx context.Context, name string) error {
	_, err := get[domain.Role](ctx, st.s, prefixRole+name+"~") // no name ends so
	return err
}

// RoleRevision is the revision of a role as it is now; "" = there is none.
func (st *Store) RoleRevision(ctx context.Context, name string) (string, error) {
	k, err := st.role(ctx, name)
	if err != nil || k == nil {
		return "", err
	}
	return k.rev(), nil
}

// RevisionOf is the revision of a role that was read, as it was read: whoever
// changed it meanwhile has changed another copy.
func (st *Store) RevisionOf(r *domain.Role) string {
	st.mu.RLock()
	k := st.roles[r.Name]
	st.mu.RUnlock()
	if k != nil && k.v == r {
		return k.rev()
	}
	return r.Revision()
}

func (st *Store) role(ctx context.Context, name string) (*kept[domain.Role], error) {
	return cached(ctx, st, func() map[string]*kept[domain.Role] { return st.roles }, name, prefixRole+name)
}

// Target reads a target without its secrets; nil = none. The result is
// shared.
func (st *Store) Target(ctx context.Context, name string) (*domain.Target, error) {
	k, err := st.target(ctx, name)
	if err != nil || k == nil {
		return nil, err
	}
	return k.v, nil
}

// TargetRevision is the revision of a target as it is now; "" = there is none.
func (st *Store) TargetRevision(ctx context.Context, name string) (string, error) {
	k, err := st.target(ctx, name)
	if err != nil || k == nil {
		return "", err
	}
	return k.rev(), nil
}

func (st *Store) target(ctx context.Context, name string) (*kept[domain.Target], error) {
	return cached(ctx, st, func() map[string]*kept[domain.Target] { return st.targets }, name, prefixTarget+name)
}

// Roles lists role names after a name, at most limit (0 = all).
func (st *Store) Roles(ctx context.Context, after string, limit int) ([]string, error) {
	return st.list(ctx, prefixRole, after, limit)
}

// Targets lists target names after a name, at most limit (0 = all).
func (st *Store) Targets(ctx context.Context, after string, limit int) ([]string, error) {
	return st.list(ctx, prefixTarget, after, limit)
}

// list pages a prefix. The host's storage of this SDK lists whole prefixes.
func (st *Store) list(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	keys, err := st.s.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", kind(prefix), err)
	}
	sort.Strings(keys)
	return Page(keys, after, limit), nil
}

// Page cuts a sorted list to what follows after, at most limit (0 = all).
func Page(keys []string, after string, limit int) []string {
	if after != "" {
		keys = keys[sort.Search(len(keys), func(i int) bool { return keys[i] > after }):]
	}
	if limit > 0 && len(keys) > limit {
		keys = keys[:limit]
	}
	return keys
}

// RoleTx may write one role: it exists only while that role is locked.
type RoleTx struct {
	st   *Store
	name string
}

// WithRole locks one role against other writers.
func (st *Store) WithRole(name string, f func(*RoleTx) error) error {
	defer st.locks.role.lock(name)()
	return f(&RoleTx{st: st, name: name})
}

// SharedRole keeps a role from being changed or deleted while f runs.
func (st *Store) SharedRole(name string, f func() error) error {
	defer st.locks.role.rlock(name)()
	return f()
}

// Get reads the role; nil = none.
func (tx *RoleTx) Get(ctx context.Context) (*domain.Role, error) {
	return get[domain.Role](ctx, tx.st.s, prefixRole+tx.name)
}

// Put writes the role.
func (tx *RoleTx) Put(ctx context.Context, r domain.Role) error {
	defer tx.st.forget(func() { delete(tx.st.roles, tx.name) })
	return put(ctx, tx.st.s, prefixRole+tx.name, r)
}

// Delete removes the role.
func (tx *RoleTx) Delete(ctx context.Context) error {
	defer tx.st.forget(func() { delete(tx.st.roles, tx.name) })
	return del(ctx, tx.st.s, prefixRole+tx.name)
}

// Secrets are a target's root credential, and while it is being replaced the
// one that is to follow.
type Secrets struct {
	Current map[string]string `json:"current,omitempty"`
	Staged  map[string]string `json:"staged,omitempty"`
	Old     map[string]string `json:"old,omitempty"` // replaced, but not yet retired at the target
	StageID string            `json:"stage_id,omitempty"`
}

// Reveal converts stored secrets for a provider.
func Reveal(in map[string]string) map[string]secret.String {
	out := make(map[string]secret.String, len(in))
	for k, v := range in {
		out[k] = secret.New(v)
	}
	return out
}

// Conceal converts a provider's secrets for storage.
func Conceal(in map[string]secret.String) map[string]string {
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[k] = v.Reveal()
	}
	return out
}

// Secrets reads a target's root credential.
func (st *Store) Secrets(ctx context.Context, target string) (Secrets, error) {
	s, err := get[Secrets](ctx, st.s, prefixTargetSecret+target)
	if err != nil || s == nil {
		return Secrets{}, err
	}
	return *s, nil
}

// TargetTx may write one target: it exists only while that target is locked.
type TargetTx struct {
	st   *Store
	name string
}

// WithTarget locks one target against writers and against everybody who plans
// a credential there.
func (st *Store) WithTarget(name string, f func(*TargetTx) error) error {
	defer st.locks.target.lock(name)()
	return f(&TargetTx{st: st, name: name})
}

// SharedTarget keeps a target from being changed or deleted while f runs.
func (st *Store) SharedTarget(name string, f func() error) error {
	defer st.locks.target.rlock(name)()
	return f()
}

// Get reads the target; nil = none.
func (tx *TargetTx) Get(ctx context.Context) (*domain.Target, error) {
	return get[domain.Target](ctx, tx.st.s, prefixTarget+tx.name)
}

// Put writes the target. Secrets are written first: a target without its
// secrets could not revoke, secrets without a target do nothing.
func (tx *TargetTx) Put(ctx context.Context, t domain.Target, s *Secrets) error {
	if s != nil {
		if err := tx.PutSecrets(ctx, *s); err != nil {
			return err
		}
	}
	defer tx.st.forget(func() { delete(tx.st.targets, tx.name) })
	return put(ctx, tx.st.s, prefixTarget+tx.name, t)
}

// PutSecrets writes the root credential alone.
func (tx *TargetTx) PutSecrets(ctx context.Context, s Secrets) error {
	return put(ctx, tx.st.s, prefixTargetSecret+tx.name, s)
}

// Delete removes the target, then its secrets and its list: what a crash leaves
// between them nothing names, and the next write of the name replaces it.
func (tx *TargetTx) Delete(ctx context.Context) error {
	defer tx.st.forget(func() { delete(tx.st.targets, tx.name) })
	if err := del(ctx, tx.st.s, prefixTarget+tx.name); err != nil {
		return err
	}
	if err := del(ctx, tx.st.s, prefixTargetSecret+tx.name); err != nil {
		return err
	}
	return del(ctx, tx.st.s, prefixList+tx.name)
}
