package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// counters are the calls back to the host since the last look at them.
type counters struct {
	gets, puts, deletes, lists, putBytes atomic.Int64
	views                                atomic.Int64 // of whatever kind
	people                               atomic.Int64 // of these, about identities
}

func (c *counters) take() map[string]any {
	return map[string]any{
		"gets": c.gets.Swap(0), "puts": c.puts.Swap(0), "deletes": c.deletes.Swap(0), "lists": c.lists.Swap(0),
		"put_bytes": c.putBytes.Swap(0), "views": c.views.Swap(0), "people": c.people.Swap(0), "pid": os.Getpid(),
	}
}

type countedStorage struct {
	logical.Storage
	c *counters
}

func (s *countedStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	s.c.gets.Add(1)
	return s.Storage.Get(ctx, key)
}

func (s *countedStorage) Put(ctx context.Context, e *logical.StorageEntry) error {
	s.c.puts.Add(1)
	s.c.putBytes.Add(int64(len(e.Value)))
	return s.Storage.Put(ctx, e)
}

func (s *countedStorage) Delete(ctx context.Context, key string) error {
	s.c.deletes.Add(1)
	return s.Storage.Delete(ctx, key)
}

func (s *countedStorage) List(ctx context.Context, prefix string) ([]string, error) {
	s.c.lists.Add(1)
	return s.Storage.List(ctx, prefix)
}

// countedView counts the calls that pim and the SDK make.
type countedView struct {
	logical.SystemView
	c *counters
}

func (v *countedView) EntityInfo(id string) (*logical.Entity, error) {
	v.c.views.Add(1)
	v.c.people.Add(1)
	return v.SystemView.EntityInfo(id)
}

func (v *countedView) GroupsForEntity(id string) ([]*logical.Group, error) {
	v.c.views.Add(1)
	v.c.people.Add(1)
	return v.SystemView.GroupsForEntity(id)
}

func (v *countedView) MaxLeaseTTL() time.Duration {
	v.c.views.Add(1)
	return v.SystemView.MaxLeaseTTL()
}

func (v *countedView) DefaultLeaseTTL() time.Duration {
	v.c.views.Add(1)
	return v.SystemView.DefaultLeaseTTL()
}

func (v *countedView) ReplicationState() consts.ReplicationState {
	v.c.views.Add(1)
	return v.SystemView.ReplicationState()
}

func (v *countedView) LocalMount() bool {
	v.c.views.Add(1)
	return v.SystemView.LocalMount()
}

func (v *countedView) Tainted() bool {
	v.c.views.Add(1)
	return v.SystemView.Tainted()
}

// bench answers below bench/ and passes everything else on.
type bench struct {
	logical.Backend
	c       *counters
	storage logical.Storage
	profile *os.File
}

func (b *bench) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	what, found := strings.CutPrefix(req.Path, "bench/")
	if !found {
		return b.Backend.HandleRequest(ctx, req)
	}
	switch what {
	case "counters":
		return &logical.Response{Data: b.c.take()}, nil
	case "seed":
		data, err := seed(ctx, b.storage, req.Data)
		if err != nil {
			return nil, err
		}
		return &logical.Response{Data: data}, nil
	case "profile":
		return nil, b.toggleProfile()
	}
	return nil, logical.ErrUnsupportedPath
}

// toggleProfile starts writing a CPU profile, or ends it.
func (b *bench) toggleProfile() error {
	if b.profile != nil {
		pprof.StopCPUProfile()
		err := b.profile.Close()
		b.profile = nil
		return err
	}
	dir := os.Getenv("PIM_BENCH_PROFILES")
	if dir == "" {
		return errors.New("PIM_BENCH_PROFILES names no directory")
	}
	f, err := os.CreateTemp(filepath.Clean(dir), "cpu-*.pprof")
	if err != nil {
		return err
	}
	b.profile = f
	return pprof.StartCPUProfile(f)
}
