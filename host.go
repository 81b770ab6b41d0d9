package pim

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// For how long an answer of the host about itself counts. Each is a call to
// another process, some 5 % of what reading a credential costs.
const (
	// hereFor: a node that answers goes on doing so. Both hosts end the plugin's
	// process when a node stops, and whatever went on for that second could write
	// nothing, which comes before everything that gives access. One that does not
	// answer, or could not ask, asks every time.
	hereFor = time.Second
	// longestFor: a mount whose longest lease was tuned down may plan a longer
	// one for so long. The host cuts every lease it registers to what is allowed
	// then, and the end of the lease is the end of the access.
	longestFor = 5 * time.Second
)

// host is what is asked of the host besides identity and storage.
type host struct {
	view  logical.SystemView
	clock clock.Clock

	here    atomic.Pointer[time.Time] // when this node was last known to answer
	longest atomic.Pointer[longest]
}

// longest is the mount's longest lease as it was at a time.
type longest struct {
	lease time.Duration
	at    time.Time
}

func newHost(view logical.SystemView, c clock.Clock) *host { return &host{view: view, clock: c} }

// within tells whether less than d has passed since at, on a clock that may have
// been set back.
func (h *host) within(d time.Duration, at time.Time) bool {
	since := h.clock.Now().Sub(at)
	return since >= 0 && since < d
}

// MaxLeaseTTL implements access.Host. A call that failed says 0, which is not kept.
func (h *host) MaxLeaseTTL() time.Duration {
	if l := h.longest.Load(); l != nil && h.within(longestFor, l.at) {
		return l.lease
	}
	at := h.clock.Now()
	l := &longest{h.view.MaxLeaseTTL(), at}
	if l.lease > 0 {
		h.longest.Store(l)
	}
	return l.lease
}

// Writable implements access.Host. The SDK answers "writable" when the call
// fails, so the reaper additionally insists on a successful write.
func (h *host) Writable() bool {
	state := h.view.ReplicationState()
	return !state.HasState(consts.ReplicationPerformanceStandby|consts.ReplicationDRSecondary) && h.primary(state)
}

// Answers tells whether this node may answer operations. The host passes the
// others on.
func (h *host) Answers() bool {
	if at := h.here.Load(); at != nil && h.within(hereFor, *at) {
		return true
	}
	at := h.clock.Now()
	state := h.view.ReplicationState()
	if state.HasState(consts.ReplicationPerformanceStandby) || !h.primary(state) {
		return false
	}
	if state != consts.ReplicationUnknown { // that is what a call that failed says
		h.here.Store(&at)
	}
	return true
}

// primary tells whether the mount is written in this cluster.
func (h *host) primary(state consts.ReplicationState) bool {
	return !state.HasState(consts.ReplicationPerformanceSecondary) || h.view.LocalMount()
}

// Tainted implements access.Host.
func (h *host) Tainted() bool { return h.view.Tainted() }

// directory reads the host's identity store live.
type directory struct{ view logical.SystemView }

// Entity implements access.Directory. The host reports an unknown entity as
// none, or as an error of its own. Groups are asked for beside it.
func (d directory) Entity(_ context.Context, id string, groups bool) (*domain.Entity, error) {
	var in chan membership
	if groups {
		in = d.membership(id)
	}
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
	m := <-in
	if m.err != nil && !e.Disabled { // who is disabled may do nothing, whatever their groups
		return nil, m.err
	}
	for _, g := range m.groups {
		out.Groups = append(out.Groups, domain.Group{ID: g.ID, Name: g.Name})
	}
	return out, nil
}

// membership is what the host said about somebody's groups.
type membership struct {
	groups []*logical.Group
	err    error
}

// membership asks while the caller goes on.
func (d directory) membership(id string) chan membership {
	to := make(chan membership, 1)
	go func() {
		got := membership{err: errGroups}
		defer func() {
			_ = recover() // the process is shared with other mounts
			to <- got
		}()
		got.groups, got.err = d.view.GroupsForEntity(id)
	}()
	return to
}

var errGroups = errors.New("asking for groups broke")

// unknownEntity recognises the host's words for an entity that does not exist:
// the type of the error does not survive the plugin's process boundary.
func unknownEntity(err error) bool {
	return errors.Is(err, logical.ErrNotFound) || strings.Contains(err.Error(), "entity not found")
}
