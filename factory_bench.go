//go:build bench

package pim

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// FactoryWith is Factory with other target types. Only make bench builds it: it
// measures the plugin at a target that costs nothing.
func FactoryWith(ds []contract.Descriptor) logical.Factory {
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		env, err := environment(conf.Logger)
		if err != nil {
			return nil, err
		}
		return newBackend(ctx, conf, env, ds, crashSteps(conf.Logger))
	}
}
