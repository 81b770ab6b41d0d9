package azure

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// Provider is one open target. It holds a connection pool, its own login, and
// the secrets of credentials that are not usable yet.
type Provider struct {
	env        contract.Env
	target     contract.Target
	config     targetConfig
	pace       remote.Pace
	way        *http.Client
	credential azcore.TokenCredential
	graph      *graphClient
	manager    *graphClient // Azure Resource Manager, for what armauthorization has no call for
	arm        *armClient
	fresh      remote.Unready[freshSecret]
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
		return nil, contract.BadTarget(report)
	}
	credential, err := newCredential(w, env, config)
	if err != nil {
		return nil, contract.Refused("connect", "bad_target", "the target's login cannot be used")
	}
	way := remote.NewClient(w.transport(env, false))
	options := clientOptions(way, w.pace, env.Clock)
	arm, err := newARM(config, credential, options)
	if err != nil {
		return nil, contract.Refused("connect", "bad_target", "the target's fields cannot be used")
	}
	return &Provider{
		env: env, target: t, config: config, pace: w.pace, way: way, credential: credential, arm: arm,
		joined: newJoinedKeys(), extending: make(chan struct{}, 1),
		graph:   newGraph(credential, options, config.graphScope(), config.endpoints[svcGraph]+graphVersion),
		manager: newGraph(credential, options, config.armScope(), config.endpoints[svcARM]),
	}, nil
}

// Close implements contract.Provider.
func (p *Provider) Close() error {
	p.fresh.Clear()
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
		return "", contract.Refused(op, "no_place", "what answers is not the tenant that the target names")
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
		return "", contract.Refused(op, "no_place", "the subscription is not one of the tenant's")
	}
	return me.Tenant + "/" + p.config.subscription, nil
}

// prove asks which place it is and refuses any other than wanted.
func (p *Provider) prove(ctx context.Context, op, wanted string) error {
	return remote.Prove(ctx, op, p, p.target.Place, wanted)
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
	p.fresh.Drop(h.Credential)
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
	reserve = 10 * time.Second
	// pollAfter is the pause between looks at what is not usable yet.
	pollAfter = 5 * time.Second
)

// late is until when a call of a credential's issue can still take effect,
// although nobody waits for it any more. What is absent before that may be on
// its way.
func late(id domain.CredentialID) time.Time {
	return domain.TimeOf(string(id)).Add(slowTimeout + remote.CallTimeout + reserve + visible)
}

// lookAgain is the outcome "nothing is there".
func (p *Provider) lookAgain(h domain.Handle) contract.Ended {
	return remote.LookAgain(h, p.env.Clock.Now(), late(h.Credential))
}
