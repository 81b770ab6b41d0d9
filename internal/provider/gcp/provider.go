package gcp

import (
	"context"
	"crypto/rsa"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// Provider is one open target. It holds a connection pool, its own login, and
// the private keys of credentials that are not usable yet.
type Provider struct {
	env    contract.Env
	target contract.Target
	config targetConfig
	pace   remote.Pace
	api    *client
	desk   *desk
	// fresh are private keys that Google does not take yet.
	fresh    *remote.Unready[rootKey]
	generate func() (*rsa.PrivateKey, error)
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
		return nil, contract.BadTarget(report)
	}
	api := &client{
		env: env, config: config, pace: w.pace, tokens: &tokenSource{},
		http: remote.NewClient(w.transport(env, false)), metadata: remote.NewClient(w.transport(env, true)),
	}
	return &Provider{
		env: env, target: t, config: config, pace: w.pace, api: api,
		desk: newDesk(api, env.Clock, w.pace), fresh: &remote.Unready[rootKey]{}, generate: w.generate,
	}, nil
}

// Close implements contract.Provider.
func (p *Provider) Close() error {
	p.fresh.Clear()
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
		return "", contract.Refused(op, "no_place", "what answers is not the project that the target names")
	}
	return found.number(), nil
}

// prove asks Google which project it is and refuses any other than wanted.
func (p *Provider) prove(ctx context.Context, op, wanted string) error {
	return remote.Prove(ctx, op, p, p.target.Place, wanted)
}

// Issue implements contract.Provider.
func (p *Provider) Issue(
	ctx context.Context, in contract.Input, h domain.Handle, checkpoint func(domain.Handle) error,
) (contract.Issued, error) {
	have, err := p.read("issue", h)
	if err != nil {
		return contract.Issued{}, err
	}
	ctx = remote.Marked(ctx, in.Credential, in.Request)
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
	ctx = remote.Marked(ctx, h.Credential, "")
	if err := p.prove(ctx, "revoke", h.Place); err != nil {
		return contract.Ended{}, err
	}
	p.fresh.Drop(h.Credential)
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
	reserve = 10 * time.Second
)

// late is until when a call of a credential's issue can still take effect,
// although nobody waits for it any more. What is absent before that may be on
// its way.
func late(id domain.CredentialID, slow bool) time.Time {
	d := issueTimeout + remote.CallTimeout + reserve
	if slow {
		d = slowTimeout + remote.CallTimeout + reserve + visible
	}
	return domain.TimeOf(string(id)).Add(d)
}

// lookAgain is the outcome "nothing is there".
func (p *Provider) lookAgain(h domain.Handle, slow bool) contract.Ended {
	return remote.LookAgain(h, p.env.Clock.Now(), late(h.Credential, slow))
}
