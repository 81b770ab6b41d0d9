package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// recordVersion is the version that this program writes. Records start with
// it; reads upgrade in memory.
const recordVersion = 1

// MaxRecord bounds one record in bytes.
const MaxRecord = 256 << 10

// MaxList bounds a published list, or an access review, in bytes: the hosts' Raft storage refuses a
// value of 1 MiB.
const MaxList = 1000 << 10

// ErrNewer means that a newer version of the program wrote a record. Only a
// revocation goes on without it.
var ErrNewer = errors.New("the record was written by a newer version of this plugin")

// ErrTooLarge means that a record would outgrow MaxRecord.
var ErrTooLarge = errors.New("the record is too large")

type envelope struct {
	V    int             `json:"v"`
	Body json.RawMessage `json:"body"`
}

// upgrades holds, for each old version, the step to the next one. A step is
// pure. Version 1 is the first, so there is none yet.
//
//nolint:gochecknoglobals // constant table
var upgrades = map[int]func(json.RawMessage) (json.RawMessage, error){}

// scratch holds buffers for rendering, so that only what is kept is allocated.
var scratch = sync.Pool{New: func() any { return new([]byte) }} //nolint:gochecknoglobals // a pool is shared by all that use it

func encode(v any) ([]byte, error) {
	if r, ok := v.(domain.Request); ok {
		out, err := render(r, nil)
		if err != nil {
			return nil, err
		}
		return out.Text, nil
	}
	var b bytes.Buffer
	b.Write(head)
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	raw := b.Bytes()
	raw[len(raw)-1] = '}' // in place of the encoder's line break
	return raw, nil
}

// render is encode of a request that was rendered before; nil = it was not.
func render(r domain.Request, last *domain.Rendering) (*domain.Rendering, error) {
	buf, ok := scratch.Get().(*[]byte)
	if !ok {
		return nil, errors.New("encode record: no room")
	}
	defer scratch.Put(buf)
	out, err := r.Render(append((*buf)[:0], head...), last)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	*buf = append(out.Text, '}')
	out.Text = bytes.Clone(*buf)
	return out, nil
}

// head is how an envelope of the version that this program writes begins. It is
// written and recognised as it is: a record is read and written several times
// for each credential, and parsing it twice each time costs more than all else
// that is done with it.
var head = []byte(`{"v":` + strconv.Itoa(recordVersion) + `,"body":`) //nolint:gochecknoglobals // constant

func decode(raw []byte, into any) error {
	if body, ok := bytes.CutPrefix(raw, head); ok && bytes.HasSuffix(body, []byte("}")) {
		if json.Unmarshal(body[:len(body)-1], into) == nil {
			return nil
		}
	}
	return decodeAs(raw, into, recordVersion, upgrades)
}

// decodeAs is decode of a program that writes version current and knows those
// steps.
func decodeAs(raw []byte, into any, current int, steps map[int]func(json.RawMessage) (json.RawMessage, error)) error {
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	if e.V > current {
		return ErrNewer
	}
	if e.V < 1 {
		return errors.New("decode record: it has no version")
	}
	for ; e.V < current; e.V++ {
		up, ok := steps[e.V]
		if !ok {
			return fmt.Errorf("decode record: no upgrade from version %d", e.V)
		}
		body, err := up(e.Body)
		if err != nil {
			return fmt.Errorf("upgrade record from version %d: %w", e.V, err)
		}
		e.Body = body
	}
	if err := json.Unmarshal(e.Body, into); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	return nil
}

// get reads one record; nil without an error means that there is none.
func get[T any](ctx context.Context, s logical.Storage, key string) (*T, error) {
	entry, err := s.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kind(key), err)
	}
	if entry == nil {
		return nil, nil //nolint:nilnil // absent is an ordinary answer of a store
	}
	out := new(T)
	if err := decode(entry.Value, out); err != nil {
		return nil, fmt.Errorf("%s: %w", kind(key), err)
	}
	return out, nil
}

func put(ctx context.Context, s logical.Storage, key string, v any) error {
	raw, err := encode(v)
	if err != nil {
		return err
	}
	return write(ctx, s, key, raw, bound(key))
}

// write writes a record that is rendered, of at most so many bytes.
func write(ctx context.Context, s logical.Storage, key string, raw []byte, most int) error {
	if len(raw) > most {
		return ErrTooLarge
	}
	if err := s.Put(ctx, &logical.StorageEntry{Key: key, Value: raw}); err != nil {
		return fmt.Errorf("write %s: %w", kind(key), err)
	}
	return nil
}

// bound is how many bytes a record of that key may have.
func bound(key string) int {
	switch kind(key) + "/" {
	case prefixJob:
		return math.MaxInt
	case prefixList, prefixCampaign:
		return MaxList
	}
	return MaxRecord
}

func del(ctx context.Context, s logical.Storage, key string) error {
	if err := s.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", kind(key), err)
	}
	return nil
}

// kind is the part of a key that may be logged.
func kind(key string) string {
	for i := range key {
		if key[i] == '/' {
			return key[:i]
		}
	}
	return key
}
