package access_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

var (
	errDead  = errors.New("this process is dead")
	errWrite = errors.New("the write failed")
	errRead  = errors.New("the read failed")
)

// disk is what survives every process: keys and values.
type disk struct {
	mu   sync.Mutex
	data map[string][]byte
}

func newDisk() *disk { return &disk{data: map[string][]byte{}} }

// keys lists every key below a prefix.
func (d *disk) keys(prefix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for k := range d.data {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func (d *disk) value(key string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.data[key])
}

// drop loses a value.
func (d *disk) drop(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.data, key)
}

// copied is a snapshot, as a restore would bring it back.
func (d *disk) copied() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &disk{data: maps.Clone(d.data)}
}

// fault says how writes go wrong in one process.
type cut struct {
	at      int  // number of the write, from 1; 0 = none goes wrong
	written bool // that write is on the disk although something went wrong
	crash   bool // the process is dead from then on; else only that write fails
}

// session is one process's way to the disk. It counts, and it can die.
type session struct {
	d *disk

	mu      sync.Mutex
	dead    bool
	blind   bool   // requests cannot be read
	hidden  string // what kind of key cannot be read besides; "" = none
	cut     cut
	writes  int
	counted counts
	log     []string // one line for each write, without ids
	naming  func()   // runs before a name is noted that was learnt on the way
	revoked []domain.Handle

	after     map[string]func() // run once, after a key was read
	bulk      *inBulk
	remainder int // seconds; what is listed is cleared away only so long after its end
}

// counts are the calls that a use case cost.
type counts struct{ reads, writes, lists int }

var _ logical.Storage = (*session)(nil)

func (s *session) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.dead
}

func (s *session) revoking(h domain.Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = append(s.revoked, h)
}

func (s *session) revokedHandles() []domain.Handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.revoked)
}

func (s *session) setBlind(blind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blind = blind
}

func (s *session) hide(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden = kind
}

func (s *session) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

// plan makes the n-th write from now on go wrong.
func (s *session) plan(c cut) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut, s.writes, s.log = c, 0, nil
}

// reached tells whether the planned fault has happened.
func (s *session) reached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut.at > 0 && s.writes >= s.cut.at
}

func (s *session) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func (s *session) spent() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counted
	s.counted = counts{}
	return c
}

// afterGet runs do once when a key has been read the next time.
func (s *session) afterGet(key string, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = map[string]func(){key: do}
}

func (s *session) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	e, err := s.get(ctx, key)
	s.mu.Lock()
	do := s.after[key]
	delete(s.after, key)
	s.mu.Unlock()
	if do != nil {
		do()
	}
	return e, err
}

func (s *session) get(_ context.Context, key string) (*logical.StorageEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil, errDead
	}
	s.counted.reads++
	if s.blind && kindOf(key) == "req" || s.hidden == kindOf(key) {
		return nil, errRead
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	raw, ok := s.d.data[key]
	if !ok {
		return nil, nil //nolint:nilnil // as the SDK has it
	}
	return &logical.StorageEntry{Key: key, Value: slices.Clone(raw)}, nil
}

func (s *session) List(_ context.Context, prefix string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil, errDead
	}
	s.counted.lists++
	seen := map[string]bool{}
	for _, k := range s.d.keys(prefix) {
		rest := strings.TrimPrefix(k, prefix)
		if i := strings.Index(rest, "/"); i >= 0 {
			rest = rest[:i+1]
		}
		seen[rest] = true
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

func (s *session) Put(_ context.Context, e *logical.StorageEntry) error {
	return s.write("put "+kindOf(e.Key), func() { s.d.data[e.Key] = slices.Clone(e.Value) })
}

func (s *session) Delete(_ context.Context, key string) error {
	return s.write("delete "+kindOf(key), func() { delete(s.d.data, key) })
}

func kindOf(key string) string {
	kind, _, _ := strings.Cut(key, "/")
	return kind
}

// write is the one place where something goes wrong.
func (s *session) write(what string, effect func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errDead
	}
	s.writes++
	s.counted.writes++
	s.log = append(s.log, what)
	wrong := s.cut.at > 0 && s.writes == s.cut.at
	if !wrong || s.cut.written {
		s.d.mu.Lock()
		effect()
		s.d.mu.Unlock()
	}
	switch {
	case !wrong:
		return nil
	case s.cut.crash:
		s.dead = true
		return errDead
	}
	return errWrite
}
