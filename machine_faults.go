//go:build faults

package pim

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

// movedClock is the machine's clock, moved by what the file holds that
// PIM_CLOCK_FILE names, such as "1h" or "-10m".
type movedClock struct {
	clock.System
	file string
}

func machineClock() clock.Clock { return movedClock{file: os.Getenv("PIM_CLOCK_FILE")} }

// Now implements clock.Clock.
func (c movedClock) Now() time.Time {
	now := c.System.Now()
	if raw, err := os.ReadFile(c.file); err == nil {
		if by, err := time.ParseDuration(strings.TrimSpace(string(raw))); err == nil {
			now = now.Add(by)
		}
	}
	return now
}

// faultyStorage fails writes below a prefix while the file that PIM_STORAGE_FILE
// names says so: "<percent> <prefix>". Every other failure comes after the write
// was made, as when a host does not know whether it was.
type faultyStorage struct {
	logical.Storage
	file string
}

func machineStorage(s logical.Storage) logical.Storage {
	if file := os.Getenv("PIM_STORAGE_FILE"); file != "" && s != nil {
		return faultyStorage{s, file}
	}
	return s
}

var errDisk = errors.New("the storage failed on demand")

// Put implements logical.Storage.
func (s faultyStorage) Put(ctx context.Context, e *logical.StorageEntry) error {
	return s.fail(e.Key, func() error { return s.Storage.Put(ctx, e) })
}

// Delete implements logical.Storage.
func (s faultyStorage) Delete(ctx context.Context, key string) error {
	return s.fail(key, func() error { return s.Storage.Delete(ctx, key) })
}

func (s faultyStorage) fail(key string, do func() error) error {
	raw, err := os.ReadFile(s.file)
	if err != nil {
		return do()
	}
	rate, prefix, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
	percent, err := strconv.Atoi(rate)
	if err != nil || !strings.HasPrefix(key, prefix) || rand.N(100) >= percent { //nolint:gosec // chance decides on faults alone
		return do()
	}
	if rand.N(2) == 0 { //nolint:gosec // chance decides on faults alone
		return errDisk
	}
	return errors.Join(do(), errDisk)
}
