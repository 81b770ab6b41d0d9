package gcp

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Provider is one open target. It holds a connection pool, its own login, and
// the private keys of credentials that are not usable yet.
type Provider struct {
	env    contract.Env
	target contract.Target
	config targetConfig
	pace   pace
	api    *client
	desk   *desk
	fresh  *freshKeys
}

var (
	_ contract.Provider          = (*Provider)(nil)
	_ contract.Lister            = (*Provider)(nil)
	_ contract.Checker           = (*Provider)(nil)
	_ contract.RootRotator       = (*Provider)(nil)
	_ contract.PrincipalResolver = (*Provider)(nil)
	_ contract.SelfGuard         = (*Provider)(nil)
)

// open makes an instance. It does no I/O.
func open(w surroundings, env contract.Env, t contract.Target) (*Provider, error) {
	config, report := readTarget(w, env, t)
	if !report.OK() {
		return nil, refused("connect", "bad_target", "the target's fields are not valid: %s", badFields(report))
	}
	api := &client{
		env: env, config: config, pace: w.pace, tokens: &tokenSource{},
		http: newHTTP(w.transport(env, false)), metadata: newHTTP(w.transport(env, true)),
	}
	return &Provider{
		env: env, target: t, config: config, pace: w.pace, api: api,
		desk: newDesk(api, env.Clock, w.pace), fresh: newFreshKeys(w.generate),
	}, nil
}

// Close implements contract.Provider.
func (p *Provider) Close() error {
	p.fresh.clear()
	p.api.tokens.clear()
	p.api.close()
	return nil
}

// Place implements contract.Provider: the number of the project, which is
// never given to another one.
func (p *Provider) Place(ctx context.Context) (string, error) {
	const op = "read project"
	found, err := p.api.project(ctx, p.config.project)
	if err != nil {
		return "", failure(op, err)
	}
	if !numberForm.MatchString(found.number()) || found.ID != p.config.project {
		return "", refused(op, "no_place", "what answers is not the project that the target names")
	}
	return found.number(), nil
}

// prove asks Google which project it is and refuses any other than wanted.
func (p *Provider) prove(ctx context.Context, op, wanted string) error {
	if p.target.Place != wanted {
		return contract.PlaceError(op)
	}
	place, err := p.Place(ctx)
	if err != nil {
		return err
	}
	if place != wanted {
		return contract.PlaceError(op)
	}
	return nil
}

// Issue implements contract.Provider.
func (p *Provider) Issue(
	ctx context.Context, in contract.Input, h domain.Handle, checkpoint func(domain.Handle) error,
) (contract.Issued, error) {
	have, err := p.read("issue", h)
	if err != nil {
		return contract.Issued{}, err
	}
	ctx = marked(ctx, in.Credential, in.Request)
	if err := p.prove(ctx, "issue", h.Place); err != nil {
		return contract.Issued{}, err
	}
	j, err := p.job(in, h, have, checkpoint)
	if err != nil {
		return contract.Issued{}, err
	}
	if err := p.refuseSelf(ctx, "issue", j.role); err != nil {
		return contract.Issued{}, err
	}
	switch {
	case j.role.kind == kindBinding:
		return p.issueBinding(ctx, j)
	case j.role.own():
		return p.issueOwn(ctx, j)
	case j.role.kind == kindKey:
		return p.issueExistingKey(ctx, j)
	}
	return p.issueExistingToken(ctx, j)
}

// Revoke implements contract.Provider.
func (p *Provider) Revoke(ctx context.Context, h domain.Handle) (contract.Ended, error) {
	n, err := p.read("revoke", h)
	if err != nil {
		return contract.Ended{}, err
	}
	ctx = marked(ctx, h.Credential, "")
	if err := p.prove(ctx, "revoke", h.Place); err != nil {
		return contract.Ended{}, err
	}
	p.fresh.drop(h.Credential)
	switch {
	case n.Kind == kindBinding:
		return p.revokeBinding(ctx, h, n)
	case n.Own:
		return p.revokeOwn(ctx, h, n)
	case n.Kind == kindKey:
		return p.revokeExistingKey(ctx, h, n)
	}
	return p.revokeExistingToken(h, n), nil
}

const (
	// visible is how long Google may show a new account in one place and not
	// in another.
	visible = 2 * time.Minute
	// reserve is for clocks and for what was on its way.
	reserve   = 10 * time.Second
	firstLook = 2 * time.Second
)

// late is until when a call of a credential's issue can still take effect,
// although nobody waits for it any more. What is absent before that may be on
// its way.
func late(id domain.CredentialID, slow bool) time.Time {
	d := issueTimeout + callTimeout + reserve
	if slow {
		d = slowTimeout + callTimeout + reserve + visible
	}
	return domain.TimeOf(string(id)).Add(d)
}

// lookAgain is the outcome "nothing is there": final once nothing can be on its
// way any more, else it is looked for again: soon at first, for the last time
// then.
func (p *Provider) lookAgain(h domain.Handle, slow bool) contract.Ended {
	now, last := p.env.Clock.Now(), late(h.Credential, slow)
	if !now.Before(last) {
		return contract.Gone()
	}
	begun := domain.TimeOf(string(h.Credential))
	age := now.Sub(begun)
	again := begun.Add(max(2*age, age+firstLook))
	if again.After(last) {
		again = last
	}
	return contract.Ended{AccessGone: true, Rest: h, Again: again}
}
