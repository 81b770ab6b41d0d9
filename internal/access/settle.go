package access

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// settle re-reads request and holds under the lock. If the access ended
// meanwhile, the credential is undone and never answered.
func (a *Access) settle(ctx context.Context, j *job, issued contract.Issued) (*Answer, error) {
	ended := false
	err := a.store.WithRequest(j.req.ID, func(tx *store.RequestTx) error {
		cur, err := a.load(ctx, tx, j.req.ID, &j.req)
		if err != nil {
			return err
		}
		if cur == nil {
			return errMeanwhile()
		}
		now := a.now()
		c, _ := cur.Credential(j.cred.ID)
		held := a.free(ctx, scopeOf(*cur))
		var next domain.Request
		if cur.At(now) != domain.Active || c.State != domain.CredIssuing || held != nil {
			ended = true
			if c.State != domain.CredIssuing {
				return nil
			}
			next, err = cur.ApplyCredential(j.cred.ID, domain.CredFailed, "the access ended while it was issued", now)
		} else {
			next, err = settled(*cur, j, issued, now)
		}
		if err != nil {
			return err
		}
		if err := a.save(ctx, tx, next, "issue settled"); err != nil {
			return err
		}
		j.req = next
		return nil
	})
	switch {
	case err != nil:
		return nil, a.undo(ctx, j, err)
	case ended:
		return nil, a.undo(ctx, j, errMeanwhile())
	}
	if j.role.ReuseWindow > 0 {
		until := a.now().Add(j.role.ReuseWindow.Duration())
		a.reuse.keep(j.req.ID, shared{credential: j.cred.ID, issued: issued, until: earlier(until, j.cred.Expires)})
	}
	return a.answer(ctx, j.role, j.req, j.cred, j.nonce, issued, j.ttl, j.ask.Compose, false), nil
}

func settled(r domain.Request, j *job, issued contract.Issued, now time.Time) (domain.Request, error) {
	if !issued.NotAfter.IsZero() && issued.NotAfter.Before(j.cred.Expires) {
		j.cred.Expires = issued.NotAfter
	}
	// The target may have taken its time: the lease ends with the credential.
	j.ttl = min(j.ttl, j.cred.Expires.Sub(now)).Truncate(time.Second)
	if j.ttl < time.Second { // the host would make it a lease of 32 days, or of no length
		return r, j.errWindowEnding()
	}
	return r.ApplyCredential(j.cred.ID, domain.CredIssued, "", now, func(c *domain.Credential) {
		c.Handle, c.Expires = j.cred.Handle, j.cred.Expires
		c.Nonces = []domain.Nonce{{ID: j.nonce, Until: j.cred.Expires}}
	})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// maxShared bounds the leases on one shared credential, and with them what its
// record has to hold.
const maxShared = 100

var errCrowded = errors.New("the shared credential has as many leases as it may have")

// share answers with a credential that another read already got, under a lease
// of its own.
func (a *Access) share(ctx context.Context, role *domain.Role, r domain.Request, s shared, ask CredsAsk) (*Answer, error) {
	nonce, err := a.newID()
	if err != nil {
		return nil, err
	}
	var cred domain.Credential
	err = a.store.WithRequest(r.ID, func(tx *store.RequestTx) error {
		cur, err := a.load(ctx, tx, r.ID, &r)
		if err != nil {
			return err
		}
		if cur == nil || cur.At(a.now()) != domain.Active {
			return errMeanwhile()
		}
		c, ok := cur.Credential(s.credential)
		if !ok || c.State != domain.CredActive {
			return errMeanwhile()
		}
		if len(c.Nonces) >= maxShared {
			return errCrowded
		}
		next, err := cur.Edit(c.ID, func(c *domain.Credential) {
			c.Nonces = append(append([]domain.Nonce(nil), c.Nonces...), domain.Nonce{ID: nonce, Until: c.Expires})
		})
		if err != nil {
			return err
		}
		r, cred = next, c
		return a.grow(ctx, tx, next, "shared")
	})
	if err != nil {
		return nil, err
	}
	ttl := cred.Expires.Sub(a.now()).Truncate(time.Second)
	if ttl < time.Second {
		return nil, errMeanwhile()
	}
	return a.answer(ctx, role, r, cred, nonce, s.issued, ttl, ask.Compose, true), nil
}

// answer puts the credential and our own fields together.
func (a *Access) answer(ctx context.Context, role *domain.Role, r domain.Request, c domain.Credential, nonce string, issued contract.Issued, ttl time.Duration, compose, sharedRead bool) *Answer {
	data := map[string]any{}
	for k, v := range issued.Data.Reveal() {
		if k != "data" && k != "metadata" { // clients take these two for something else
			data[k] = v
		}
	}
	if compose || role.Composite {
		for k, v := range issued.Composite {
			data[k] = v.Reveal()
		}
	}
	data["pim_request_id"] = string(r.ID)
	data["pim_credential_id"] = string(c.ID)
	data["pim_expires_at"] = stamp(c.Expires)
	data["pim_window_ends_at"] = stamp(r.WindowEnd)
	data["pim_history_head"] = r.History.Head
	data["pim_shared"] = sharedRead
	data["pim_break_glass"] = r.BreaksGlass()
	if r.Observed != "" {
		data["pim_observed"] = r.Observed
	}
	maps.Copy(data, revocationFields(a.revocationOf(ctx, role, r.Target)))
	return &Answer{
		Data: data, TTL: ttl, WrapTTL: role.WrapTTL.Duration(),
		Lease: LeaseData{Request: r.ID, Credential: c.ID, Nonce: nonce, Handle: c.Handle},
	}
}
