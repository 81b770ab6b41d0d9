package pim

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"
)

// initialize starts the periodic work. It makes no network call and reads no
// storage itself: the host holds its state lock meanwhile.
//
//nolint:contextcheck // the work outlives this call, and ends with clean
func (b *backend) initialize(_ context.Context, _ *logical.InitializationRequest) error {
	if b.host.Writable() {
		b.access.Start()
	}
	return nil
}

// invalidate drops what may be cached of a key that another node wrote.
func (b *backend) invalidate(_ context.Context, key string) { b.access.Invalidate(key) }

func (b *backend) clean(_ context.Context) { b.access.Stop() }
