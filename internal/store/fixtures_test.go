package store

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// The ids in the fixtures.
const (
	fixedRequest    = domain.RequestID("01kjpwd6m0y3sxz2a9v8q7w5te")
	fixedCredential = domain.CredentialID("01kjpwd6m0a1b2c3d4e5f6g7h8")
)

// kinds are all kinds of records, how each is read, and the type it has.
var kinds = map[string]struct {
	key  string
	read func(ctx context.Context, st *Store) (any, error)
}{
	"config":        {keyConfig, func(ctx context.Context, st *Store) (any, error) { return st.Config(ctx) }},
	"state":         {keyState, func(ctx context.Context, st *Store) (any, error) { return st.State(ctx) }},
	"role":          {prefixRole + "a", func(ctx context.Context, st *Store) (any, error) { return st.Role(ctx, "a") }},
	"target":        {prefixTarget + "a", func(ctx context.Context, st *Store) (any, error) { return st.Target(ctx, "a") }},
	"target-secret": {prefixTargetSecret + "a", func(ctx context.Context, st *Store) (any, error) { return st.Secrets(ctx, "a") }},
	"req":           {keyRequest(fixedRequest), func(ctx context.Context, st *Store) (any, error) { return st.OpenRequest(ctx, fixedRequest) }},
	"arch":          {keyArchive(fixedRequest), func(ctx context.Context, st *Store) (any, error) { return st.Request(ctx, fixedRequest) }},
	"ent":           {keyPerson("p"), func(ctx context.Context, st *Store) (any, error) { return st.Person(ctx, "p") }},
	"hold":          {prefixHold + "a", func(ctx context.Context, st *Store) (any, error) { return first(st.Holds(ctx)) }},
	"job":           {prefixJob + "a", func(ctx context.Context, st *Store) (any, error) { return st.Job(ctx, "a") }},
	"orphans":       {keyOrphans, func(ctx context.Context, st *Store) (any, error) { return st.Orphans(ctx) }},
	"proposal":      {keyProposal(domain.EditRole, "a"), func(ctx context.Context, st *Store) (any, error) { return st.Proposal(ctx, domain.EditRole, "a") }},
	"krl":           {prefixList + "a", func(ctx context.Context, st *Store) (any, error) { return st.List(ctx, "a") }},
	"ev":            {prefixEvent + "a", func(ctx context.Context, st *Store) (any, error) { return st.Event(ctx, "a") }},
	"consumer":      {prefixConsumer + "a", func(ctx context.Context, st *Store) (any, error) { return first(st.Consumers(ctx)) }},
	"glass":         {prefixLedger + "a", func(ctx context.Context, st *Store) (any, error) { return first(st.Ledgers(ctx)) }},
	"campaign":      {prefixCampaign + "a", func(ctx context.Context, st *Store) (any, error) { return st.Campaign(ctx, "a") }},
	"claim": {keyClaim("t", "k"), func(ctx context.Context, st *Store) (any, error) {
		var c domain.Claim
		err := st.WithClaim("t", "k", func(tx *ClaimTx) (err error) { c, err = tx.Get(ctx); return err })
		return c, err
	}},
}

// later are fields, with all that is below them, that came after the fixtures:
// records from before have none of them, and mean the same without.
var later = map[string][]string{
	"campaign": {".ClosedBy"},
	"job":      {".Live", ".More", ".PartOf"},
}

func first[T any](all []T, err error) (any, error) {
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

// What version 1 wrote is read for ever, and nothing of it is lost. The files
// are never written anew: a record that changes its shape gets a new version, an
// upgrade, and fixtures of its own.
func TestVersion1IsReadForEver(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", "v1", name+".json"))
			must(t, err)
			d := newDisk()
			d.data[kind.key] = raw
			got, err := kind.read(t.Context(), New(d))
			must(t, err)
			again, err := json.Marshal(got)
			must(t, err)
			var before struct {
				V    int `json:"v"`
				Body any `json:"body"`
			}
			var after any
			must(t, json.Unmarshal(raw, &before))
			must(t, json.Unmarshal(again, &after))
			if before.V != 1 {
				t.Fatalf("the fixture is of version %d", before.V)
			}
			for _, path := range lost("", before.Body, after) {
				t.Errorf("%s is lost", path)
			}
			for _, path := range empty("", reflect.ValueOf(got)) {
				if slices.ContainsFunc(later[name], func(field string) bool { return strings.HasPrefix(path+".", field+".") }) {
					continue
				}
				t.Errorf("%s is in no fixture: later fields are allowed to be absent, but say so in this test", path)
			}
		})
	}
	files, err := os.ReadDir(filepath.Join("testdata", "v1"))
	must(t, err)
	if len(files) != len(kinds) {
		t.Errorf("%d fixtures for %d kinds of records", len(files), len(kinds))
	}
}

// lost lists what is in before and not, or not the same, in after.
func lost(path string, before, after any) []string {
	var out []string
	switch b := before.(type) {
	case map[string]any:
		a, _ := after.(map[string]any)
		for k, v := range b {
			out = append(out, lost(path+"."+k, v, a[k])...)
		}
	case []any:
		a, _ := after.([]any)
		for i, v := range b {
			if i >= len(a) {
				out = append(out, path)
				break
			}
			out = append(out, lost(path+"[]", v, a[i])...)
		}
	default:
		if !reflect.DeepEqual(before, after) {
			out = append(out, path)
		}
	}
	return out
}

// empty lists the fields that have no value: the fixtures have one for each
// field of version 1.
func empty(path string, v reflect.Value) []string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return []string{path}
		}
		return empty(path, v.Elem())
	case reflect.Struct:
		var out []string
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && !after1[v.Type().Name()+"."+f.Name] {
				out = append(out, empty(path+"."+f.Name, v.Field(i))...)
			}
		}
		return out
	case reflect.Slice:
		if v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct {
			return empty(path+"[]", v.Index(0))
		}
	default:
	}
	if v.IsZero() {
		return []string{path}
	}
	return nil
}

// after1 are the fields that came after the fixtures were frozen and may be
// absent: "Type.Field".
var after1 = map[string]bool{
	"Config.EditSOD":   true,
	"Role.TokenTarget": true, "Role.MaxLoginAge": true, "Role.RequiredLogin": true,
	"Entry.By": true, "Entry.Who": true, // the engine's own entries have neither
	"PersonRecord.Usage": true,
	"Role.BreakGlass":    true, "Role.Editors": true, "Target.Editors": true, "Config.Events": true,
	"Role.Stages": true, "Role.DenyGroups": true, "Role.DenyEntities": true, "Role.EligibleUntil": true,
	"Role.AutoApproveWhen": true, "Role.DenyWhen": true, "Role.Require": true, "Role.AllowedWindows": true,
	"Role.FreezeWindows": true, "Role.Enforce": true, "Decision.Stage": true,
	"Role.MaxExtension": true, "Role.SeriesMax": true, "Role.SeriesWithin": true,
	"Request.Extensions": true, "Request.Series": true,
	"Request.Stage": true, "Request.ReviewOwed": true, "Request.Observed": true,
	"Request.Glass": true, "Request.Review": true, "Request.Fed": true,
}

// The hash chain of a history is part of the format.
func TestVersion1HistoriesAreIntact(t *testing.T) {
	for _, name := range []string{"req", "arch"} {
		raw, err := os.ReadFile(filepath.Join("testdata", "v1", name+".json"))
		must(t, err)
		var r domain.Request
		must(t, decode(raw, &r))
		if len(r.History.Entries) == 0 || r.History.Folded == 0 || !r.History.Intact() {
			t.Errorf("%s: %+v", name, r.History)
		}
		if _, ok := r.Credential(fixedCredential); !ok || r.ID != fixedRequest {
			t.Errorf("%s: request %s", name, r.ID)
		}
		var tampered domain.Request
		must(t, decode(bytes.Replace(raw, []byte("asked for"), []byte("asked 4"), 1), &tampered))
		if strings.Contains(string(raw), "asked for") && tampered.History.Intact() {
			t.Errorf("%s: tampering goes unseen", name)
		}
	}
}
