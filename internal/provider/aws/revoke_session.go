package aws

import (
	"context"
	"maps"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// lastEnd is when the last session that a credential could have has ended by
// itself: its own policy binds the session, but not one that it went on to.
func (d handleData) lastEnd() time.Time {
	if len(d.Chain) > 0 {
		return d.end().Add(maxChained)
	}
	return d.end()
}

// revokeSession ends a role session or a federation token.
func (p *Provider) revokeSession(ctx context.Context, h domain.Handle, d handleData) (contract.Ended, error) {
	now := p.env.Clock.Now()
	if d.Stage == stagePrune {
		return p.pruneSession(ctx, h, d)
	}
	if !now.Before(d.lastEnd()) {
		if d.Stage == stageRecheck {
			return later(h, d, stagePrune, hourAfter(d.longestDenial()))
		}
		return contract.Gone(), nil // ended by its own policy: nothing has to be denied or proven
	}
	if _, err := p.prove(ctx, "revoke", h.Place, 0); err != nil {
		return contract.Ended{}, err
	}
	if p.isVoid(h.Credential) || (d.Kind == kindFederation && !d.Unrevocable && d.ARN == "") {
		return contract.Gone(), nil // nothing was issued
	}
	if d.Unrevocable {
		return contract.Ended{Rest: h, Again: d.lastEnd()}, nil
	}
	wrote := d.Stage == ""
	if wrote {
		d.Since = now.Unix()
	}
	for at, until := range d.holders() {
		more, err := p.denyAt(ctx, order{at: at, key: d.conditionKey(), denials: []denial{denialOf(h, d, until)}})
		if err != nil {
			return contract.Ended{}, err
		}
		wrote = wrote || more
	}
	return p.denied(h, d, wrote)
}

func denialOf(h domain.Handle, d handleData, until time.Time) denial {
	return denial{Session: deniedName(h, d), Until: until, Since: time.Unix(d.Since, 0).UTC()}
}

// denyAt has sessions denied at one holder. A role or user that does not exist
// any more has no sessions that work.
func (p *Provider) denyAt(ctx context.Context, o order) (bool, error) {
	wrote, err := p.batch.do(ctx, o.at.String(), o)
	if isAbsent(err) {
		return false, nil
	}
	return wrote, err
}

// denied is the outcome once the deny stands: looked at once more soon, then
// taken out when the session has ended by itself.
func (p *Provider) denied(h domain.Handle, d handleData, wrote bool) (contract.Ended, error) {
	p.untrack(h.Credential)
	if wrote {
		return later(h, d, stageRecheck, p.env.Clock.Now().Add(p.pace.recheck))
	}
	return later(h, d, stagePrune, hourAfter(d.longestDenial()))
}

// longestDenial is until when the last deny is needed.
func (d handleData) longestDenial() time.Time {
	var last time.Time
	for _, until := range d.holders() {
		if until.After(last) {
			last = until
		}
	}
	return last
}

// pruneSession takes out what is no longer needed.
func (p *Provider) pruneSession(ctx context.Context, h domain.Handle, d handleData) (contract.Ended, error) {
	if _, err := p.prove(ctx, "clear revocations", h.Place, 0); err != nil {
		return contract.Ended{}, err
	}
	for at := range d.holders() {
		if _, err := p.denyAt(ctx, order{at: at, key: d.conditionKey()}); err != nil {
			return contract.Ended{}, err
		}
	}
	return contract.Gone(), nil
}

// reserve refuses to issue what could not be revoked: the policies that would
// carry the deny must be readable and have room for this session beside all
// that this instance has issued.
func (p *Provider) reserve(ctx context.Context, id domain.CredentialID, d handleData) error {
	if d.Unrevocable {
		return nil
	}
	for at := range d.holders() {
		free, err := p.denier.room(ctx, at, d.conditionKey())
		if isAbsent(err) {
			return contract.Refused("reserve revocation", "no_such_role", "the role does not exist at AWS, or not yet")
		}
		if err != nil {
			return err
		}
		if free <= p.tracked(at, id) {
			p.denier.forget(at)
			return contract.Refused("reserve revocation", "revocations_full",
				"no session is issued now, since its revocation could not be guaranteed: the revocation policies are full")
		}
	}
	return nil
}

// track counts a session as one that may still have to be denied.
func (p *Provider) track(id domain.CredentialID, d handleData) {
	if d.Unrevocable {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := range d.holders() {
		if p.live[at] == nil {
			p.live[at] = map[domain.CredentialID]time.Time{}
		}
		p.live[at][id] = d.lastEnd()
	}
}

func (p *Provider) untrack(id domain.CredentialID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range p.live {
		delete(of, id)
	}
}

// tracked counts the other sessions of this instance that have not ended.
func (p *Provider) tracked(at holder, except domain.CredentialID) int {
	now := p.env.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.live[at], func(_ domain.CredentialID, end time.Time) bool { return !end.After(now) })
	n := len(p.live[at])
	if _, ok := p.live[at][except]; ok {
		n--
	}
	return n
}
