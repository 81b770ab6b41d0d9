// Package pim is the secrets engine: paths, their schema, and thin handlers.
// What they do is in internal/access.
package pim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/all"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Version is the running version, semver with a leading v, set by the build.
//
//nolint:gochecknoglobals // set by -ldflags -X
var Version = "v0.1.0-dev"

// Variables of the plugin's registration. They cannot be changed through the
// API, so whoever edits targets cannot borrow the node's files or identity.
const (
	EnvFileRoot     = "PIM_FILE_ROOT"     // root of file fields; unset = refused
	EnvAllowAmbient = "PIM_ALLOW_AMBIENT" // target types that may use the environment's identity, by comma
	EnvAllowLocal   = "PIM_ALLOW_LOCAL"   // true = endpoints on loopback and link-local addresses
)

// backend is one mount.
type backend struct {
	*framework.Backend
	handler     *handler
	host        *host
	access      *access.Access
	descriptors []contract.Descriptor
	secret      *framework.Secret
}

// Factory makes a mount. It neither writes nor calls out: the host may run it
// on nodes that must do neither.
func Factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	env, err := environment(conf.Logger)
	if err != nil {
		return nil, err
	}
	own := *conf
	own.StorageView = machineStorage(conf.StorageView)
	return newBackend(ctx, &own, env, all.Descriptors(), crashSteps(conf.Logger))
}

// environment reads what the plugin's registration allows.
func environment(log hclog.Logger) (contract.Env, error) {
	env := contract.Env{Clock: machineClock(), Log: log, AllowLocal: os.Getenv(EnvAllowLocal) == "true"}
	if root := os.Getenv(EnvFileRoot); root != "" {
		if !filepath.IsAbs(root) {
			return env, fmt.Errorf("%s must be an absolute path", EnvFileRoot)
		}
		env.FileRoot = filepath.Clean(root)
	}
	if types := os.Getenv(EnvAllowAmbient); types != "" {
		env.AllowAmbient = strings.Split(types, ",")
	}
	return env, nil
}

func newBackend(ctx context.Context, conf *logical.BackendConfig, env contract.Env, ds []contract.Descriptor, step func(string)) (*backend, error) {
	if conf == nil || conf.StorageView == nil || conf.System == nil {
		return nil, errors.New("the host's configuration is incomplete")
	}
	b := &backend{descriptors: ds, host: newHost(conf.System, env.Clock)}
	b.secret = b.credentialSecret()
	b.Backend = &framework.Backend{
		BackendType:    logical.TypeLogical,
		Help:           strings.TrimSpace(helpText),
		RunningVersion: Version,
		PathsSpecial:   &logical.Paths{SealWrapStorage: store.SealWrapped(), Unauthenticated: publicPaths()},
		Secrets:        []*framework.Secret{b.secret},
		InitializeFunc: b.initialize,
		Invalidate:     b.invalidate,
		PeriodicFunc:   b.periodic,
		Clean:          b.clean,
	}
	if err := b.Setup(ctx, conf); err != nil {
		return nil, err
	}
	var err error
	b.access, err = access.New(access.Options{
		Store: store.New(conf.StorageView), Directory: directory{conf.System}, Host: b.host,
		Descriptors: ds, Env: env, Log: b.Logger(), Mount: conf.BackendUUID, Step: step,
	})
	if err != nil {
		return nil, err
	}
	paths, err := b.paths()
	if err != nil {
		return nil, err
	}
	b.handler, err = newHandler(b.Backend, b.host.Answers, paths)
	return b, err
}

// paths is the whole API, literal paths before those with captures in their
// place.
func (b *backend) paths() ([]path, error) {
	targetFields, err := providerFields(b.descriptors, func(d contract.Descriptor) []contract.Field { return d.TargetFields })
	if err != nil {
		return nil, err
	}
	roleFields, err := providerFields(b.descriptors, func(d contract.Descriptor) []contract.Field { return d.RoleFields })
	if err != nil {
		return nil, err
	}
	return slices.Concat(
		b.configPaths(),
		b.confirmPaths(),
		b.targetPaths(targetFields),
		b.rolePaths(roleFields),
		b.simulatePaths(roleFields),
		b.eligiblePaths(),
		b.requestPaths(),
		b.approvalPaths(),
		b.credsPaths(),
		b.grantPaths(),
		b.revokePaths(),
		b.holdPaths(),
		b.auditPaths(),
		b.breakGlassPaths(),
		b.reviewPaths(),
		b.campaignPaths(),
		b.eventPaths(),
		b.reportPaths(),
		b.tidyPaths(),
		b.orphanPaths(),
		b.krlPaths(),
	), nil
}

// HandleRequest replaces the framework's, which repeats values in its errors
// and lets unknown fields pass.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	return b.handler.HandleRequest(ctx, req)
}

const helpText = `
Privileged access, eligible instead of standing.

  vault list  pim/eligible                        what you may request
  vault write pim/request/<role> justification=…  ask for it
  vault list  pim/approvals                       what waits for your decision
  vault write pim/approvals/<id> decision=approve digest=…
  vault read  pim/creds/<role>                    the credential, under a lease
  vault delete pim/requests/<id>                  withdraw it, or give it back

When the lease or the access window ends, or somebody revokes it, the access
ends at the target itself. Every role shows how surely: pim_revocation.
`
