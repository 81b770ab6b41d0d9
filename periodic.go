package pim

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"
)

// periodic is the host's tick, about once a minute, on OpenBao on standbys
// too. It only nudges the reaper; except on a mount that is being disabled,
// where everything is ended inline because the storage is about to go.
//
//nolint:contextcheck // the reaper outlives this call
func (b *backend) periodic(ctx context.Context, _ *logical.Request) error {
	if !b.host.Writable() {
		return nil
	}
	if b.System().Tainted() {
		return b.access.EndAll(ctx)
	}
	b.access.Start()
	b.access.Nudge()
	return nil
}
