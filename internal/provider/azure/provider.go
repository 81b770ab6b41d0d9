package azure

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Provider is one open target. It holds a connection pool, its own login, and
// the secrets of credentials that are not usable yet.
type Provider struct {
	env        contract.Env
	target     contract.Target
	config     targetConfig
	pace       pace
	way        *http.Client
	credential azcore.TokenCredential
	graph      *graphClient
	manager    *graphClient // Azure Resource Manager, for what armauthorization has no call for
	arm        *armClient
	fresh      *freshSecrets
	joined     *joinedKeys
	extending  chan struct{} // holds who changes the end of a timed assignment
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
	config, report := readTarget(env, t)
	if !report.OK() {
		return nil, refused("connect", "bad_target", "the target's fields are not valid: %s", badFields(report))
	}
	credential, err := newCredential(w, env, config)
	if err != nil {
		return nil, refused("connect", "bad_target", "the target's login cannot be used")
	}
	way := newHTTP(w.transport(env, false))
	options := clientOptions(way, w.pace, env.Clock)
	arm, err := newARM(config, credential, options)
	if err != nil {
		return nil, refused("connect", "bad_target", "the target's fields cannot be used")
	}
	return &Provider{
		env: env, target: t, config: config, pace: w.pace, way: way, credential: credential, arm: arm, fresh: newFreshSecrets(),
		joined: newJoinedKeys(), extending: make(chan struct{}, 1),
		graph:   newGraph(credential, options, config.graphScope(), config.endpoints[svcGraph]+graphVersion),
		manager: newGraph(credential, options, config.armScope(), config.endpoints[svcARM]),
	}, nil
}

// Close implements contract.Provider.
func (p *Provider) Close() error {
	p.fresh.clear()
	p.way.CloseIdleConnections()
	return nil
}

// Place implements contract.Provider: the tenant, as the token says it that
// every call is made with, and the subscription if the target is bound to one.
func (p *Provider) Place(ctx context.Context) (string, error) {
	const op = "read tenant"
	me, err := p.self(ctx, p.config.armScope())
	if err != nil {
		return "", err
	}
	if me.Tenant != p.config.tenant {
		return "", refused(op, "no_place", "what answers is not the tenant that the target names")
	}
	if p.config.subscription == "" {
		return me.Tenant, nil
	}
	var found struct {
		ID     string `json:"subscriptionId"`
		Tenant string `json:"tenantId"`
	}
	_, err = p.manager.do(ctx, graphCall{
		method: http.MethodGet, path: "/subscriptions/" + p.config.subscription,
		query: map[string][]string{"api-version": {"2022-12-01"}}, out: &found,
	})
	if err != nil {
		return "", failure("read subscription", err)
	}
	if !strings.EqualFold(found.ID, p.config.subscription) || !strings.EqualFold(found.Tenant, me.Tenant) {
		return "", refused(op, "no_place", "the subscription is not one of the tenant's")
	}
	return me.Tenant + "/" + p.config.subscription, nil
}

// prove asks which place it is and refuses any other than wanted.
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
	j, err := p.job(in, h, checkpoint)
	if err != nil {
		return contract.Issued{}, err
	}
	if err := p.prove(ctx, "issue", h.Place); err != nil {
		return contract.Issued{}, err
	}
	if err := p.refuseSelf(ctx, "issue", j.role, in.Principal); err != nil {
		return contract.Issued{}, err
	}
	switch j.role.kind {
	case kindAssignment:
		if j.names.Timed {
			return p.issueTimed(ctx, j)
		}
		return p.issueAssignment(ctx, j)
	case kindMember:
		return p.issueMember(ctx, j)
	case kindPassword:
		return p.issuePassword(ctx, j)
	}
	return p.issuePrincipal(ctx, j)
}

// Revoke implements contract.Provider.
func (p *Provider) Revoke(ctx context.Context, h domain.Handle) (contract.Ended, error) {
	n, err := p.read("revoke", h)
	if err != nil {
		return contract.Ended{}, err
	}
	if err := p.prove(ctx, "revoke", h.Place); err != nil {
		return contract.Ended{}, err
	}
	p.fresh.drop(h.Credential)
	switch n.Kind {
	case kindAssignment:
		if n.Timed {
			return p.revokeTimed(ctx, h, n)
		}
		return p.revokeAssignment(ctx, h, n)
	case kindMember:
		return p.revokeMember(ctx, h, n)
	case kindPassword:
		return p.revokePassword(ctx, h, n)
	}
	return p.revokePrincipal(ctx, h, n)
}

const (
	// visible is how long Entra may show a new object in one place and not in
	// another.
	visible = 2 * time.Minute
	// reserve is for clocks and for what was on its way.
	reserve   = 10 * time.Second
	firstLook = 2 * time.Second
	// pollAfter is the pause between looks at what is not usable yet.
	pollAfter = 5 * time.Second
)

// late is until when a call of a credential's issue can still take effect,
// although nobody waits for it any more. What is absent before that may be on
// its way.
func late(id domain.CredentialID) time.Time {
	return domain.TimeOf(string(id)).Add(slowTimeout + callTimeout + reserve + visible)
}

// lookAgain is the outcome "nothing is there": final once nothing can be on its
// way any more, else it is looked for again: soon at first, for the last time
// then.
func (p *Provider) lookAgain(h domain.Handle) contract.Ended {
	now, end := p.env.Clock.Now(), late(h.Credential)
	if !now.Before(end) {
		return contract.Gone()
	}
	begun := domain.TimeOf(string(h.Credential))
	age := now.Sub(begun)
	again := begun.Add(max(2*age, age+firstLook))
	if again.After(end) {
		again = end
	}
	return contract.Ended{AccessGone: true, Rest: h, Again: again}
}
