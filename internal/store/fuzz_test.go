package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// shapes are what records hold.
func shapes() []func() any {
	return []func() any{
		func() any { return new(domain.Request) }, func() any { return new(domain.Role) }, func() any { return new(domain.Target) },
		func() any { return new(domain.Config) }, func() any { return new(domain.PersonRecord) }, func() any { return new(domain.Claim) },
		func() any { return new(domain.Hold) }, func() any { return new(domain.Job) }, func() any { return new(domain.State) },
		func() any { return new(domain.RevocationList) },
	}
}

// What is read from storage and written again is the same from then on, in whatever
// shape it was; and no other version passes for this one.
func FuzzDecodeRecord(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "v1", "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for i := range shapes() {
			f.Add(raw, uint8(i))
		}
	}
	for _, text := range []string{``, `{}`, `{"v":1}`, `{"v":2,"body":{}}`, `{"v":-1,"body":{}}`, `{"v":1,"body":null}`, `{"V":1,"BODY":{"ID":"x"}}`, `{"v":1,"body":{"times":{"requested":"9999-12-31T23:59:59Z"}}}`, `{"v":1,"body":{"ttl":1e400}}`} {
		f.Add([]byte(text), uint8(0))
	}
	f.Fuzz(func(t *testing.T, raw []byte, kind uint8) {
		shape := shapes()[int(kind)%len(shapes())]
		read := shape()
		err := decode(raw, read)
		var e envelope
		if known := json.Unmarshal(raw, &e) == nil; known && e.V > recordVersion != errors.Is(err, ErrNewer) {
			t.Fatalf("version %d: %v", e.V, err)
		} else if err == nil && e.V != recordVersion {
			t.Fatalf("version %d is read", e.V)
		}
		if err != nil {
			return
		}
		first, err := encode(read)
		if err != nil {
			return // a time that has no RFC 3339 form, or a handle that is no JSON
		}
		again := shape()
		if err := decode(first, again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, first)
		}
		second, err := encode(again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("not stable (%v):\n%s\n%s", err, first, second)
		}
		if request, ok := read.(*domain.Request); ok {
			back, _ := again.(*domain.Request)
			if request.State != back.State || request.Rev != back.Rev || len(request.Credentials) != len(back.Credentials) || !reflect.DeepEqual(request.Params, back.Params) && len(request.Params) > 0 {
				t.Fatalf("another request was read:\n%s", first)
			}
		}
	})
}

// Whoever follows the cursor sees every key once, in order, and comes to an end.
func FuzzPages(f *testing.F) {
	f.Add("a b c", "", 1)
	f.Add("a b c", "b", 2)
	f.Add("", "x", 0)
	f.Add("b a b", "aa", -1)
	f.Add("\x00 \xff é", "\xfe", 3)
	f.Fuzz(func(t *testing.T, text, after string, limit int) {
		keys := strings.Fields(text)
		sort.Strings(keys)
		keys = slices.Compact(keys)
		var want []string
		for _, k := range keys {
			if k > after || after == "" {
				want = append(want, k)
			}
		}
		page := Page(keys, after, limit)
		if limit > 0 && len(page) > limit || !slices.Equal(page, want[:len(page)]) || limit <= 0 && len(page) != len(want) {
			t.Fatalf("%q after %q, at most %d: %q", keys, after, limit, page)
		}
		if limit <= 0 {
			return
		}
		var seen []string
		for cursor := after; ; {
			page := Page(keys, cursor, limit)
			if len(page) == 0 {
				break
			}
			seen = append(seen, page...)
			if len(seen) > len(keys) {
				t.Fatalf("%q comes round again", seen)
			}
			cursor = page[len(page)-1]
		}
		if !slices.Equal(seen, want) {
			t.Fatalf("page by page %q, want %q", seen, want)
		}
	})
}

// Keys of different things differ, whatever people and objects are called.
func FuzzKeys(f *testing.F) {
	f.Add("alice", "bob", "prod", "dev")
	f.Add("a/b", "a", "b", "")
	f.Add("..", "../req/x", "", "/")
	f.Fuzz(func(t *testing.T, one, two, target, shared string) {
		a, b := keyPerson(domain.Person(one)), keyPerson(domain.Person(two))
		if (a == b) != (one == two) {
			t.Fatalf("%q and %q have the keys %s and %s", one, two, a, b)
		}
		if strings.Count(a, "/") != 1 || !strings.HasPrefix(a, prefixPerson) || len(a) != len(prefixPerson)+64 {
			t.Fatalf("the key of %q is %s", one, a)
		}
		if !domain.ValidName(target) {
			return
		}
		c := keyClaim(target, shared)
		if c == keyClaim(target, shared+"x") || strings.Count(c, "/") != 2 || !strings.HasPrefix(c, prefixClaim+target+"/") || kind(c) != "claim" {
			t.Fatalf("the key of %q at %s is %s", shared, target, c)
		}
	})
}
