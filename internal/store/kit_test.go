package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

var errStorage = errors.New("the storage failed")

// disk is a storage in memory that counts, fails and waits on demand.
type disk struct {
	mu    sync.Mutex
	data  map[string][]byte
	reads int
	fail  bool
	// reading runs in a read after the value was taken and before it is handed
	// over: whatever it does, the reader gets the old value.
	reading func()
}

var _ logical.Storage = (*disk)(nil)

func newDisk() *disk { return &disk{data: map[string][]byte{}} }

func (d *disk) Get(_ context.Context, key string) (*logical.StorageEntry, error) {
	d.mu.Lock()
	raw, ok := d.data[key]
	raw = slices.Clone(raw)
	reading, failing := d.reading, d.fail
	d.reading = nil
	d.reads++
	d.mu.Unlock()
	if reading != nil {
		reading()
	}
	switch {
	case failing:
		return nil, errStorage
	case !ok:
		return nil, nil //nolint:nilnil // as the SDK has it
	}
	return &logical.StorageEntry{Key: key, Value: raw}, nil
}

func (d *disk) Put(_ context.Context, e *logical.StorageEntry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail {
		return errStorage
	}
	d.data[e.Key] = slices.Clone(e.Value)
	return nil
}

func (d *disk) Delete(_ context.Context, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail {
		return errStorage
	}
	delete(d.data, key)
	return nil
}

func (d *disk) List(_ context.Context, prefix string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail {
		return nil, errStorage
	}
	var out []string
	for k := range d.data {
		if rest, ok := strings.CutPrefix(k, prefix); ok {
			out = append(out, rest)
		}
	}
	return out, nil // in no order: the store sorts
}

func (d *disk) counted() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.reads
	d.reads = 0
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
