package access

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// reuse keeps the secrets of credentials that several reads may share, in
// memory of the writable node alone. A new process issues anew.
type reuse struct {
	mu   sync.Mutex
	held map[domain.RequestID]shared
}

type shared struct {
	credential domain.CredentialID
	issued     contract.Issued
	until      time.Time
}

func newReuse() *reuse { return &reuse{held: map[domain.RequestID]shared{}} }

func (u *reuse) keep(id domain.RequestID, s shared) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held[id] = s
}

func (u *reuse) get(id domain.RequestID, now time.Time) (shared, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s, ok := u.held[id]
	if ok && !now.Before(s.until) {
		delete(u.held, id)
		ok = false
	}
	return s, ok
}

func (u *reuse) has(id domain.RequestID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.held[id]
	return ok
}

// drop forgets a credential that ends.
func (u *reuse) drop(id domain.RequestID, cred domain.CredentialID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held[id].credential == cred {
		delete(u.held, id)
	}
}

// sweep forgets what no read may share any more.
func (u *reuse) sweep(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, s := range u.held {
		if !now.Before(s.until) {
			delete(u.held, id)
		}
	}
}

// rates bounds how fast one person has credentials issued.
type rates struct {
	mu  sync.Mutex
	per map[domain.Person]*pace
}

type pace struct {
	limit *rate.Limiter
	seen  time.Time
}

func newRates() *rates { return &rates{per: map[domain.Person]*pace{}} }

// allow takes one issue of a person's allowance of n a minute.
func (r *rates) allow(p domain.Person, n int, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.per[p]
	if !ok || c.limit.Burst() != n {
		c = &pace{limit: rate.NewLimiter(rate.Limit(float64(n)/60), n)}
		r.per[p] = c
	}
	c.seen = now
	return c.limit.AllowN(now, 1)
}

// sweep forgets people whose allowance is full again.
func (r *rates) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, c := range r.per {
		if now.Sub(c.seen) > 2*time.Minute {
			delete(r.per, p)
		}
	}
}
