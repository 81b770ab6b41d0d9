package store

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

type step = func(json.RawMessage) (json.RawMessage, error)

// A record of an older version goes through every step up to the present one,
// in memory; one of a newer version, or of none, is refused.
func TestUpgradeOnRead(t *testing.T) {
	type present struct {
		Name string `json:"name"`
		Tags []string
	}
	rename := func(raw json.RawMessage) (json.RawMessage, error) { // 1 had "title"
		var old struct{ Title string }
		if err := json.Unmarshal(raw, &old); err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"name": old.Title, "tag": "from-1"})
	}
	list := func(raw json.RawMessage) (json.RawMessage, error) { // 2 had one tag
		var old struct{ Name, Tag string }
		if err := json.Unmarshal(raw, &old); err != nil {
			return nil, err
		}
		return json.Marshal(present{Name: old.Name, Tags: []string{old.Tag}})
	}
	fails := func(json.RawMessage) (json.RawMessage, error) { return nil, errStorage }
	rows := []struct {
		name  string
		raw   string
		steps map[int]step
		want  string // name and tags
		err   error  // nil with no want: any error
	}{
		{"the present version", `{"v":3,"body":{"name":"x","Tags":["y"]}}`, nil, "x y", nil},
		{"one version old", `{"v":2,"body":{"name":"x","tag":"y"}}`, map[int]step{2: list}, "x y", nil},
		{"two versions old", `{"v":1,"body":{"title":"x"}}`, map[int]step{1: rename, 2: list}, "x from-1", nil},
		{"a step is missing", `{"v":1,"body":{"title":"x"}}`, map[int]step{2: list}, "", nil},
		{"a step fails", `{"v":2,"body":{}}`, map[int]step{2: fails}, "", errStorage},
		{"newer", `{"v":4,"body":{"name":"x"}}`, nil, "", ErrNewer},
		{"much newer, and nothing that we know", `{"v":99,"body":"?"}`, nil, "", ErrNewer},
		{"no version", `{"body":{"name":"x"}}`, nil, "", nil},
		{"a negative version", `{"v":-1,"body":{"name":"x"}}`, nil, "", nil},
		{"no JSON", `name=x`, nil, "", nil},
		{"cut off", `{"v":3,"body":{"name":`, nil, "", nil},
		{"another shape", `{"v":3,"body":["x"]}`, nil, "", nil},
		{"nothing", ``, nil, "", nil},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var got present
			err := decodeAs([]byte(row.raw), &got, 3, row.steps)
			switch {
			case row.want != "":
				must(t, err)
				if s := got.Name + " " + strings.Join(got.Tags, " "); s != row.want {
					t.Errorf("read %q, want %q", s, row.want)
				}
			case err == nil:
				t.Errorf("read %+v", got)
			case row.err != nil && !errors.Is(err, row.err):
				t.Errorf("error %v, want %v", err, row.err)
			case row.err == nil && errors.Is(err, ErrNewer):
				t.Errorf("taken for newer: %v", err)
			}
		})
	}
}

// Every kind of record is refused when a newer version wrote it, and nothing of
// it gets into the error.
func TestNewerRecordsAreRefused(t *testing.T) {
	const key, secret = domain.RequestID("01arz3ndektsv4rrffq69g5fav"), "hunter2"
	ctx := t.Context()
	rows := []struct {
		name string
		key  string
		read func(*Store) error
	}{
		{"settings", keyConfig, func(s *Store) error { _, err := s.Config(ctx); return err }},
		{"role", prefixRole + "a", func(s *Store) error { _, err := s.Role(ctx, "a"); return err }},
		{"target", prefixTarget + "a", func(s *Store) error { _, err := s.Target(ctx, "a"); return err }},
		{"secrets", prefixTargetSecret + "a", func(s *Store) error { _, err := s.Secrets(ctx, "a"); return err }},
		{"open request", keyRequest(key), func(s *Store) error { _, err := s.Request(ctx, key); return err }},
		{"archived request", keyArchive(key), func(s *Store) error { _, err := s.Request(ctx, key); return err }},
		{"person", keyPerson("p"), func(s *Store) error { _, err := s.Person(ctx, "p"); return err }},
		{"claim", keyClaim("t", "k"), func(s *Store) error {
			return s.WithClaim("t", "k", func(tx *ClaimTx) error { _, err := tx.Get(ctx); return err })
		}},
		{"hold", prefixHold + "a", func(s *Store) error { _, err := s.Holds(ctx); return err }},
		{"job", prefixJob + "a", func(s *Store) error { _, err := s.Job(ctx, "a"); return err }},
		{"list", prefixList + "a", func(s *Store) error { _, err := s.List(ctx, "a"); return err }},
		{"state", keyState, func(s *Store) error { _, err := s.State(ctx); return err }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			d := newDisk()
			d.data[row.key] = []byte(`{"v":2,"body":{"x":"` + secret + `"}}`)
			if err := row.read(New(d)); !errors.Is(err, ErrNewer) {
				t.Errorf("newer: %v", err)
			}
			d.data[row.key] = []byte(`{"v":1,"body":"` + secret + `"}`)
			if err := row.read(New(d)); err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("broken: %v", err)
			}
			d.fail = true
			if err := row.read(New(d)); !errors.Is(err, errStorage) || strings.Contains(err.Error(), string(key)) {
				t.Errorf("failing: %v", err)
			}
			if err := row.read(New(newDisk())); err != nil {
				t.Errorf("absent: %v", err)
			}
		})
	}
}

// A write refused for a newer record leaves that record as it is.
func TestNewerRecordsAreNotOverwritten(t *testing.T) {
	ctx := t.Context()
	d := newDisk()
	newer := []byte(`{"v":2,"body":{}}`)
	d.data[keyState], d.data[keyConfig] = newer, newer
	st := New(d)
	if _, err := st.UpdateState(ctx, func(s *domain.State) { s.Epoch++ }); !errors.Is(err, ErrNewer) {
		t.Errorf("state: %v", err)
	}
	same := func(c domain.Config) (domain.Config, error) { return c, nil }
	if _, err := st.UpdateConfig(ctx, same); !errors.Is(err, ErrNewer) {
		t.Errorf("settings: %v", err)
	}
	if string(d.data[keyState]) != string(newer) || string(d.data[keyConfig]) != string(newer) {
		t.Error("overwritten")
	}
}
