package aws

import (
	"context"
	"errors"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

var _ contract.BulkRevoker = (*Provider)(nil)

// bulkWorkers is how many credentials of other kinds are ended at a time.
const bulkWorkers = 4

// RevokeBulk implements contract.BulkRevoker. All sessions of one role are
// denied by one write: by name while there is room, by the time of their issue
// beyond that. The answer has every credential whose end did not fail.
func (p *Provider) RevokeBulk(ctx context.Context, hs []domain.Handle) (map[domain.CredentialID]contract.Ended, error) {
	b := &bulk{p: p, out: map[domain.CredentialID]contract.Ended{}}
	var single []domain.Handle
	byHolder := map[holder]order{}
	var sessions []session1
	for _, h := range hs {
		d, err := p.read(h)
		if err != nil {
			b.note(h.Credential, contract.Ended{}, err)
			continue
		}
		if !p.deniable(h, d) {
			single = append(single, h)
			continue
		}
		d.Since = p.env.Clock.Now().Unix()
		sessions = append(sessions, session1{h, d})
		for at, until := range d.holders() {
			o := byHolder[at]
			o.at, o.key, o.bulk = at, d.conditionKey(), true
			o.denials = append(o.denials, denialOf(h, d, until))
			byHolder[at] = o
		}
	}
	b.sessions(ctx, sessions, byHolder)
	b.singles(ctx, single)
	return b.out, b.err
}

// deniable tells whether a handle is of a session that a deny ends now.
func (p *Provider) deniable(h domain.Handle, d handleData) bool {
	return (d.Kind == kindRole || d.Kind == kindFederation) && d.Stage == "" && !d.Unrevocable && d.ARN != "" &&
		h.Place == p.target.Place && !p.isVoid(h.Credential) && p.env.Clock.Now().Before(d.lastEnd())
}

// session1 is a handle with its data.
type session1 struct {
	h domain.Handle
	d handleData
}

// bulk gathers outcomes.
type bulk struct {
	p   *Provider
	mu  sync.Mutex
	out map[domain.CredentialID]contract.Ended
	err error
}

func (b *bulk) note(id domain.CredentialID, e contract.Ended, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.err = errors.Join(b.err, err)
		return
	}
	b.out[id] = e
}

// sessions denies all sessions, one order per role or user.
func (b *bulk) sessions(ctx context.Context, list []session1, orders map[holder]order) {
	if len(list) == 0 {
		return
	}
	if _, err := b.p.prove(ctx, "revoke", b.p.target.Place, 0); err != nil {
		b.note("", contract.Ended{}, err)
		return
	}
	failures := map[holder]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for at, o := range orders {
		wg.Go(func() {
			if _, err := b.p.denyAt(ctx, o); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures[at] = err
			}
		})
	}
	wg.Wait()
	for _, s := range list {
		var err error
		for at := range s.d.holders() {
			err = errors.Join(err, failures[at])
		}
		if err != nil {
			b.note(s.h.Credential, contract.Ended{}, err)
			continue
		}
		ended, err := b.p.denied(s.h, s.d, true)
		b.note(s.h.Credential, ended, err)
	}
}

// singles ends everything else, a few at a time.
func (b *bulk) singles(ctx context.Context, list []domain.Handle) {
	work := make(chan domain.Handle)
	var wg sync.WaitGroup
	for range min(bulkWorkers, len(list)) {
		wg.Go(func() {
			for h := range work {
				ended, err := b.p.Revoke(ctx, h)
				b.note(h.Credential, ended, err)
			}
		})
	}
	for _, h := range list {
		work <- h
	}
	close(work)
	wg.Wait()
}
