package pim

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *backend) credsPaths() []path {
	ops := []op{
		{verb: logical.ReadOperation, name: "generate", summary: "Get a credential.", ok: credsWire(), more: true, statuses: []int{http.StatusForbidden}, do: b.creds},
		{verb: logical.UpdateOperation, name: "generate-with-parameters", summary: "Get a credential.", ok: credsWire(), more: true, statuses: []int{http.StatusForbidden}, do: b.creds},
	}
	return []path{{
		pattern: "creds/" + segment("role"), name: "credentials", help: "A credential under your grant.",
		description: "Yields a credential under a lease that is not renewable, or says what is missing. Reading and writing do the same.",
		captures:    []field{nameCapture("role", "Name of the role.")},
		fields: append(askFields(),
			field{name: "request_id", typ: contract.TypeString, query: true, desc: "The grant to use, where there are several.", check: checkID},
			field{name: "compose", typ: contract.TypeBool, query: true, desc: "Add single-line composites such as a kubeconfig."},
		),
		ops: ops,
	}}
}

// credsWire are our own fields; beside them come the target's, named as the
// official engines name them.
func credsWire() []field {
	return append([]field{
		always(str("pim_request_id", "The request.")),
		always(str("pim_credential_id", "The credential; the target carries it too.")),
		always(str("pim_expires_at", "When the credential ends.")),
		always(str("pim_window_ends_at", "When the access window ends.")),
		always(str("pim_history_head", "Head of the history's hash chain.")),
		always(boolean("pim_shared", "Another read has the same credential.")),
		always(boolean("pim_break_glass", "The access was given at once, without any approval.")),
	}, revocationWire()...)
}

func (b *backend) creds(ctx context.Context, c *call) (*answer, error) {
	a, err := b.access.Creds(ctx, caller(c), c.Capture("role"), access.CredsAsk{
		Ask: askOf(c), RequestID: c.String("request_id"), Compose: c.Bool("compose"),
	})
	if err != nil {
		return nil, err
	}
	l, err := b.leaseOf(a)
	if err != nil {
		return nil, err
	}
	return &answer{data: a.Data, lease: l, wrap: a.WrapTTL}, nil
}
