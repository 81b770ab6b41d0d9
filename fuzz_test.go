package pim

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// written is a value as reading shows it, which is a form that can be written.
func written(v any) any {
	switch v := v.(type) {
	case secret.String:
		return v.Reveal()
	case time.Time:
		return v.Format(time.RFC3339)
	case []string:
		return anys(v)
	case map[string]string:
		out := map[string]any{}
		for k, s := range v {
			out[k] = s
		}
		return out
	}
	return v
}

// withinBounds tells whether a value of the field fits into a record.
func withinBounds(f field, v any) bool {
	switch v := v.(type) {
	case string:
		return len(v) <= maxText && utf8.ValidString(v)
	case secret.String:
		return len(v.Reveal()) <= maxText
	case int:
		return v <= maxInt && v >= -maxInt && (f.typ != contract.TypeSeconds || v >= 0 && v <= maxSeconds)
	case []string:
		return len(v) <= maxItems && !slices.ContainsFunc(v, func(s string) bool { return s == "" || strings.TrimSpace(s) != s || len(s) > maxText })
	case map[string]string:
		return len(v) <= maxItems
	case map[string]*input:
		return len(v) <= maxItems
	case time.Time:
		return v.Location() == time.UTC && v.Nanosecond() == 0
	}
	return true
}

// Whatever is sent for a field is taken, and then is the same when it is written as
// it is read; or it is refused in words that hold nothing of it.
func FuzzStrictInput(f *testing.F) {
	var seen []*call
	fields := garden(&seen).fields
	for i := range fields {
		for j, value := range []string{`"text"`, `1e99`, `-0`, `"9223372036854775807h"`, `"999999d"`, `"1h30m"`, `{"b":{"plant":{"x":[1,null]}}}`, `{"b":{"plant":"thyme","count":"3"}}`, `"{\"a\":\"b\"}x"`, `"{\"a\":\"b\"}"`, `["a",["b"]]`, `"a, b ,c"`, `"[\"a\"]"`, `["a=1","a=2"]`, `"a=b=c"`, `true`, `null`, `""`, `[]`, `{}`, `"2026-03-02T09:00:00+25:00"`, `"2026-03-02T09:00:00.5+02:00"`, `"\ufffd\u0000"`, `9007199254740993`, `1.5`, `"9999-12-31T23:59:59-14:00"`, `"0000-01-01T00:00:00+14:00"`} {
			if (i+j)%3 == 0 { // a short run has to get beyond them
				f.Add(uint8(i), value)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		sown := fields[int(which)%len(fields)]
		for _, raw := range []any{text, jsonOf(text)} {
			var problems fault.Problems
			in := read([]field{sown}, map[string]any{sown.name: raw}, true, "", &problems)
			if err := problems.Err(); err != nil {
				said := strings.NewReplacer(wrongSeconds, "", wrongMap, "").Replace(err.Error())
				if s, ok := raw.(string); ok && len(s) > 12 && strings.Contains(said, s) {
					t.Fatalf("%s: the refusal of %q repeats it: %v", sown.name, s, err)
				}
				if len(said) > 4096 && sown.typ != typeObjects {
					t.Fatalf("%s: a refusal of %d bytes", sown.name, len(said))
				}
				continue
			}
			v, sent := in.sent[sown.name]
			if sent == in.cleared[sown.name] {
				t.Fatalf("%s: %q is both sent and cleared, or neither", sown.name, text)
			}
			if !sent || sown.typ == typeObjects {
				continue
			}
			if !withinBounds(sown, v) {
				t.Fatalf("%s takes %q as %#v", sown.name, text, v)
			}
			again := read([]field{sown}, map[string]any{sown.name: overJSON(t, written(v))}, true, "", &problems)
			if err := problems.Err(); err != nil || !reflect.DeepEqual(again.sent[sown.name], v) {
				t.Fatalf("%s: %q is read as %#v, and that, written, as %#v (%v)", sown.name, text, v, again.sent[sown.name], err)
			}
		}
	})
}

// jsonOf is what a host makes of a JSON text; a text that is none stays a text.
func jsonOf(text string) any {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return text
	}
	return v
}

func overJSON(t *testing.T, v any) any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return jsonOf(string(raw))
}

// Names that are unknown may be secrets: only harmless ones are repeated, and an
// answer does not grow with what was sent.
func FuzzUnknownFields(f *testing.F) {
	f.Add("nosuch password hunter2 X-Y", 1)
	f.Add("a", 1000)
	f.Add("é __ 0", 3)
	f.Fuzz(func(t *testing.T, text string, times int) {
		var seen []*call
		p := garden(&seen)
		r := &route{path: p, declared: map[string]field{}}
		data := map[string]any{}
		for i, name := range strings.Fields(text) {
			for n := range min(max(times, 1), 50) {
				data[strings.Repeat(name, 1+n%3)+strings.Repeat("x", n)] = i
			}
		}
		var problems fault.Problems
		r.unexpected(data, nil, &problems)
		err := problems.Err()
		if (err == nil) != (len(data) == 0) {
			t.Fatalf("%d fields: %v", len(data), err)
		}
		if err == nil {
			return
		}
		for name := range data {
			if len(name) > 3 && !plainName.MatchString(name) && strings.Contains(err.Error(), name) && !strings.Contains("input unknown fields, whose names are not repeated here", name) {
				t.Fatalf("%q is repeated: %v", name, err)
			}
		}
		if len(err.Error()) > (maxNamed+2)*100 {
			t.Fatalf("%d fields are answered with %d bytes", len(data), len(err.Error()))
		}
	})
}
