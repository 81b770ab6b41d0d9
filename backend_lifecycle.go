package pim

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// initialize starts the periodic work. It makes no network call and reads no
// storage itself: the host holds its state lock meanwhile.
//
//nolint:contextcheck // the work outlives this call, and ends with clean
func (b *backend) initialize(_ context.Context, _ *logical.InitializationRequest) error {
	if b.writable() {
		b.access.Start()
	}
	return nil
}

// invalidate drops what may be cached of a key that another node wrote.
func (b *backend) invalidate(_ context.Context, key string) { b.access.Invalidate(key) }

func (b *backend) clean(_ context.Context) { b.access.Stop() }

func (b *backend) writable() bool { return host{b.System()}.Writable() }

// host is what the use cases ask of the host besides identity and storage.
type host struct{ view logical.SystemView }

// MaxLeaseTTL implements access.Host.
func (h host) MaxLeaseTTL() time.Duration { return h.view.MaxLeaseTTL() }

// Writable implements access.Host. The SDK answers "writable" when the call
// fails, so the reaper additionally insists on a successful write.
func (h host) Writable() bool {
	state := h.view.ReplicationState()
	return !state.HasState(consts.ReplicationPerformanceStandby|consts.ReplicationDRSecondary) &&
		(h.view.LocalMount() || !state.HasState(consts.ReplicationPerformanceSecondary))
}

// Tainted implements access.Host.
func (h host) Tainted() bool { return h.view.Tainted() }

// directory reads the host's identity store live.
type directory struct{ view logical.SystemView }

// Entity implements access.Directory. The host reports an unknown entity as
// none, or as an error of its own.
func (d directory) Entity(_ context.Context, id string, groups bool) (*domain.Entity, error) {
	e, err := d.view.EntityInfo(id)
	switch {
	case err != nil && !unknownEntity(err):
		return nil, err
	case err != nil, e == nil:
		return nil, nil //nolint:nilnil,nilerr // unknown is an ordinary answer
	}
	out := &domain.Entity{ID: e.ID, Name: e.Name, Disabled: e.Disabled, Metadata: e.Metadata}
	for _, a := range e.Aliases {
		out.Aliases = append(out.Aliases, domain.Alias{MountAccessor: a.MountAccessor, MountType: a.MountType, Name: a.Name})
	}
	if !groups {
		return out, nil
	}
	gs, err := d.view.GroupsForEntity(id)
	if err != nil {
		return nil, err
	}
	for _, g := range gs {
		out.Groups = append(out.Groups, domain.Group{ID: g.ID, Name: g.Name})
	}
	return out, nil
}

// unknownEntity recognises the host's words for an entity that does not exist:
// the type of the error does not survive the plugin's process boundary.
func unknownEntity(err error) bool {
	return errors.Is(err, logical.ErrNotFound) || strings.Contains(err.Error(), "entity not found")
}
