package pim

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// maxNested bounds a list of objects: a policy stays readable.
const maxNested = 100

// parseList takes a list of objects whose members are declared, or a text that
// is such a list as JSON. What is wrong with members is noted under their own
// names, with the place in the list counted from 1.
func (f field) parseList(raw any, prefix string, problems *fault.Problems) (any, string) {
	const text = "must be a list of objects, as JSON"
	items, ok := objectsOf(raw)
	switch {
	case !ok:
		return nil, text
	case len(items) > maxNested:
		return nil, fmt.Sprintf("has more than %d items", maxNested)
	}
	out := make([]*input, 0, len(items))
	for i, item := range items {
		members, ok := objectOf(item)
		if !ok {
			return nil, text
		}
		shown := fmt.Sprintf("%s%s.%d.", prefix, f.name, i+1)
		f.strangers(members, shown, problems)
		in := read(f.members, members, true, shown, problems)
		out = append(out, &in)
	}
	return out, ""
}

func objectsOf(raw any) ([]any, bool) {
	switch v := raw.(type) {
	case []any:
		return v, true
	case map[string]any:
		return []any{v}, true
	case string:
		s := strings.TrimSpace(v)
		if strings.HasPrefix(s, "{") {
			s = "[" + s + "]"
		}
		var items []any
		dec := json.NewDecoder(strings.NewReader(s))
		dec.UseNumber()
		if !strings.HasPrefix(s, "[") || dec.Decode(&items) != nil || dec.More() {
			return nil, false
		}
		return items, true
	}
	return nil, false
}

// List returns a field that is a list of objects; each is an input of its
// members.
func (in *input) List(name string) []*input { return get[[]*input](in, name, typeList, false) }

// parseMaps takes a list of objects of strings, or a text that is one as JSON.
func parseMaps(raw any) (any, string) {
	items, ok := objectsOf(raw)
	switch {
	case !ok:
		return nil, "must be a list of objects of strings, as JSON"
	case len(items) > maxNested:
		return nil, fmt.Sprintf("has more than %d items", maxNested)
	}
	out := make([]map[string]string, 0, len(items))
	for _, item := range items {
		v, wrong := parseMap(item)
		m, ok := v.(map[string]string)
		if wrong != "" || !ok {
			return nil, "has an item that is wrong: " + wrong
		}
		out = append(out, m)
	}
	return out, ""
}

// Maps returns a field that is a list of maps of strings.
func (in *input) Maps(name string) []map[string]string {
	return get[[]map[string]string](in, name, typeMaps, false)
}
