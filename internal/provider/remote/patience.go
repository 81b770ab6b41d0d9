package remote

import (
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// FirstLook is when what was absent is looked for again at first.
const FirstLook = 2 * time.Second

// LookAgain is the outcome "nothing is there" of a revocation. It is final from
// last on: until then a call of the credential's issue can still take effect,
// although nobody waits for it any more. Before that it is looked for again:
// soon at first, for the last time then.
func LookAgain(h domain.Handle, now, last time.Time) contract.Ended {
	if !now.Before(last) {
		return contract.Gone()
	}
	age := now.Sub(domain.TimeOf(string(h.Credential)))
	again := now.Add(max(age, FirstLook))
	if again.After(last) {
		again = last
	}
	return contract.Ended{AccessGone: true, Rest: h, Again: again}
}

// Unready keeps the secrets of credentials that the target does not take yet,
// so that asking again does not make another one. They live in memory alone; a
// new process starts over. The zero value keeps none. It is safe for concurrent
// use.
type Unready[S any] struct {
	mu  sync.Mutex
	all map[domain.CredentialID]S
}

// Get is a credential's secret; ok is false where there is none.
func (u *Unready[S]) Get(id domain.CredentialID) (s S, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s, ok = u.all[id]
	return s, ok
}

// Put keeps a credential's secret.
func (u *Unready[S]) Put(id domain.CredentialID, s S) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = map[domain.CredentialID]S{}
	}
	u.all[id] = s
}

// Drop forgets a credential's secret.
func (u *Unready[S]) Drop(id domain.CredentialID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.all, id)
}

// Clear forgets all of them.
func (u *Unready[S]) Clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.all)
}
