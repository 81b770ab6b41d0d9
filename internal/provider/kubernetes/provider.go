package kubernetes

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// placeNamespace exists in every cluster from its first minute to its last. Its
// UID is the cluster's name.
const placeNamespace = "kube-system"

// Provider is one open target. All it holds is a connection pool.
type Provider struct {
	env    contract.Env
	target contract.Target
	config targetConfig
	api    api
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
	a, err := w.dial(env, config)
	if err != nil {
		return nil, err
	}
	return &Provider{env: env, target: t, config: config, api: a}, nil
}

// Close implements contract.Provider.
func (p *Provider) Close() error {
	p.api.Close()
	return nil
}

// prove asks the cluster which one it is and refuses any other than wanted.
func (p *Provider) prove(ctx context.Context, op, wanted string) error {
	return remote.Prove(ctx, op, p, p.target.Place, wanted)
}

// Place implements contract.Provider.
func (p *Provider) Place(ctx context.Context) (string, error) {
	ns, err := p.api.Namespace(ctx, placeNamespace)
	if err != nil {
		return "", failure("read the cluster's identity", err)
	}
	if ns.UID == "" {
		return "", contract.Refused("read the cluster's identity", "no_place", "what answers at host is not a Kubernetes cluster")
	}
	return string(ns.UID), nil
}

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }

func isExisting(err error) bool { return apierrors.IsAlreadyExists(err) }

// errFinalizers keeps an object from being counted as gone.
var errFinalizers = errors.New("finalizers are pending")
