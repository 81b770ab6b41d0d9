package pim

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// Bounds of what is sent, so that no single field can fill a record.
const (
	maxText    = 64 << 10 // bytes of a string: certificates fit
	maxForm    = 1 << 20  // bytes of a list, a map or objects that are sent as one text
	maxKey     = 512      // bytes of a map's key
	maxItems   = 1000     // of a list or a map
	maxSeconds = 100 * 365 * 24 * 3600
	// Larger ones would not come back from storage as they went in.
	maxInt = 1 << 53
)

// parse turns one value into the Go type of the field. wrong is our text for a
// wrong one, or "". Text, number and JSON forms are taken alike: the command
// line and query parameters send nothing but text.
func (f field) parse(raw any, prefix string, problems *fault.Problems) (v any, wrong string) {
	// Looked at before it is taken apart: a list of nothing is small as a text, and
	// large in memory.
	if s, ok := raw.(string); ok && len(s) > maxForm {
		return nil, fmt.Sprintf("longer than %d bytes", f.longest())
	}
	switch f.typ {
	case contract.TypeString:
		return f.parseString(raw)
	case contract.TypeStrings:
		return f.parseStrings(raw)
	case contract.TypeBool:
		return parseBool(raw)
	case contract.TypeInt:
		n, wrong := parseInt(raw)
		return n, f.bounded(n, wrong)
	case contract.TypeSeconds:
		n, wrong := parseSeconds(raw)
		return n, f.bounded(n, wrong)
	case contract.TypeMap:
		return f.parseMap(raw)
	case typeTime:
		return parseTime(raw)
	case typeObjects:
		return f.parseObjects(raw, prefix, problems)
	case typeList:
		return f.parseList(raw, prefix, problems)
	case typeMaps:
		return parseMaps(raw)
	}
	return nil, "has no type; this is a fault of the plugin"
}

// longest is how many bytes a value may have that is sent as one text.
func (f field) longest() int {
	if f.typ == contract.TypeStrings || f.typ == contract.TypeMap || f.typ == typeObjects {
		return maxForm
	}
	return maxText
}

func (f field) bounded(n int, wrong string) string {
	switch {
	case wrong != "" || f.least == 0 && f.most == 0:
		return wrong
	case f.most == 0 && n < f.least:
		return fmt.Sprintf("must be at least %d", f.least)
	case f.most != 0 && (n < f.least || n > f.most):
		return fmt.Sprintf("must be between %d and %d", f.least, f.most)
	}
	return ""
}

func (f field) parseString(raw any) (any, string) {
	s, ok := raw.(string)
	if !ok {
		return nil, "must be a string"
	}
	if wrong := f.wrongText(s); wrong != "" {
		return nil, wrong
	}
	if f.sensitive {
		return secret.New(s), ""
	}
	return s, ""
}

// wrongText says what is wrong with one text of the field.
func (f field) wrongText(s string) string {
	switch {
	case len(s) > maxText:
		return fmt.Sprintf("longer than %d bytes", maxText)
	case !utf8.ValidString(s):
		return "not valid UTF-8"
	case f.allowed != nil && !slices.Contains(f.allowed, s):
		return "must be one of " + strings.Join(f.allowed, ", ")
	case f.check != nil:
		return f.check(s)
	}
	return ""
}

func (f field) parseStrings(raw any) (any, string) {
	items, wrong := listOf(raw)
	if wrong != "" {
		return nil, wrong
	}
	if len(items) > maxItems {
		return nil, fmt.Sprintf("has more than %d items", maxItems)
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		s, ok := item.(string)
		if !ok {
			return nil, "must be a list of strings"
		}
		if s = strings.TrimSpace(s); s == "" {
			return nil, "must not have empty items"
		}
		if wrong := f.wrongText(s); wrong != "" {
			return nil, "has an item that is wrong: " + wrong
		}
		out = append(out, s)
	}
	return out, ""
}

// listOf takes a list, a comma-separated text, or a text that is a JSON list.
func listOf(raw any) (items []any, wrong string) {
	switch v := raw.(type) {
	case []any:
		return v, ""
	case []string:
		return anys(v), ""
	case string:
		if !strings.HasPrefix(strings.TrimSpace(v), "[") {
			return anys(strings.Split(v, ",")), ""
		}
		if json.Unmarshal([]byte(v), &items) == nil && len(items) > 0 {
			return items, ""
		}
	}
	return nil, "must be a list of strings"
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func parseBool(raw any) (any, string) {
	switch v := raw.(type) {
	case bool:
		return v, ""
	case string:
		if b, err := strconv.ParseBool(v); err == nil {
			return b, ""
		}
	}
	return nil, "must be true or false"
}

func parseInt(raw any) (n int, wrong string) {
	const text = "must be a whole number"
	var wide int64
	switch v := raw.(type) {
	case int:
		wide = int64(v)
	case int64:
		wide = v
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > maxInt {
			return 0, text
		}
		wide = int64(v)
	case json.Number:
		return parseInt(v.String())
	case string:
		var err error
		if wide, err = strconv.ParseInt(v, 10, 64); err != nil {
			return 0, text
		}
	default:
		return 0, text
	}
	if wide > maxInt || wide < -maxInt {
		return 0, text + " of less than 17 digits"
	}
	return int(wide), ""
}

const wrongSeconds = "must be a duration: seconds, or for example 90s, 1h30m, 7d"

var wholeDays = regexp.MustCompile(`^([0-9]{1,6})d$`)

// parseSeconds takes a whole number of seconds, or a duration like 90s, 1h30m
// or 7d.
func parseSeconds(raw any) (n int, wrong string) {
	s, ok := raw.(string)
	if !ok {
		s = "" // neither days nor a duration: a number, or wrong
	}
	if days := wholeDays.FindStringSubmatch(s); days != nil {
		n, err := strconv.Atoi(days[1])
		if err != nil {
			return 0, wrongSeconds
		}
		return checkSeconds(n * 24 * 3600)
	}
	if d, err := time.ParseDuration(s); err == nil {
		if d%time.Second != 0 {
			return 0, "must be whole seconds"
		}
		return checkSeconds(int(d / time.Second))
	}
	if n, wrong = parseInt(raw); wrong != "" {
		return 0, wrongSeconds
	}
	return checkSeconds(n)
}

func checkSeconds(n int) (int, string) {
	switch {
	case n < 0:
		return 0, "must not be negative"
	case n > maxSeconds:
		return 0, "must be less than 100 years"
	}
	return n, ""
}

func parseTime(raw any) (any, string) {
	if s, ok := raw.(string); ok {
		// In whole seconds, as it is shown and as digests have it; and a year that can
		// be written in UTC too.
		if t, err := time.Parse(time.RFC3339, s); err == nil && t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 {
			return t.UTC().Truncate(time.Second), ""
		}
	}
	return nil, "must be a time like 2026-03-02T09:00:00Z"
}

const wrongMap = "must be a map of strings: key=value, or an object of strings"

// parseMap takes an object of strings, key=value pairs, or a text that is a
// JSON object.
func parseMap(raw any) (any, string) {
	out := map[string]string{}
	if object, ok := objectOf(raw); ok {
		if len(object) > maxItems {
			return nil, fmt.Sprintf("has more than %d keys", maxItems)
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			value, ok := object[key].(string)
			if !ok {
				return nil, wrongMap
			}
			if wrong := putPair(out, key, value); wrong != "" {
				return nil, wrong
			}
		}
		return out, ""
	}
	pairs, ok := pairsOf(raw)
	if !ok {
		return nil, wrongMap
	}
	for _, pair := range pairs {
		s, isText := pair.(string)
		key, value, ok := strings.Cut(s, "=")
		if !isText || !ok {
			return nil, wrongMap
		}
		if wrong := putPair(out, key, value); wrong != "" {
			return nil, wrong
		}
	}
	return out, ""
}

// parseMap takes a map, and checks it as the field asks.
func (f field) parseMap(raw any) (any, string) {
	v, wrong := parseMap(raw)
	if m, ok := v.(map[string]string); ok && f.checkMap != nil {
		wrong = f.checkMap(m)
	}
	return v, wrong
}

// putPair adds a pair to a map that was sent, or says what is wrong with it.
func putPair(out map[string]string, key, value string) string {
	switch _, twice := out[key]; {
	case strings.TrimSpace(key) == "":
		return "must not have an empty key"
	case twice:
		return "has a key twice"
	case !utf8.ValidString(key) || !utf8.ValidString(value):
		return "not valid UTF-8"
	case len(key) > maxKey || len(value) > maxText:
		return fmt.Sprintf("has a key or a value that is longer than %d or %d bytes", maxKey, maxText)
	case len(out) == maxItems:
		return fmt.Sprintf("has more than %d keys", maxItems)
	}
	out[key] = value
	return ""
}

func pairsOf(raw any) ([]any, bool) {
	switch v := raw.(type) {
	case string:
		// A broken JSON object is no pair.
		return []any{v}, !strings.HasPrefix(strings.TrimSpace(v), "{")
	case []any:
		return v, true
	case []string:
		return anys(v), true
	}
	return nil, false
}

func objectOf(raw any) (map[string]any, bool) {
	switch v := raw.(type) {
	case map[string]any:
		return v, true
	case map[string]string:
		out := make(map[string]any, len(v))
		for k, s := range v {
			out[k] = s
		}
		return out, true
	case string:
		var out map[string]any
		if !strings.HasPrefix(strings.TrimSpace(v), "{") {
			return nil, false
		}
		dec := json.NewDecoder(strings.NewReader(v))
		dec.UseNumber()
		if dec.Decode(&out) != nil || dec.More() {
			return nil, false
		}
		return out, true
	}
	return nil, false
}

// parseObjects takes an object of objects whose members are declared. What is
// wrong with members is noted under their own names.
func (f field) parseObjects(raw any, prefix string, problems *fault.Problems) (any, string) {
	const text = "must be an object of objects"
	objects, ok := objectOf(raw)
	if !ok {
		return nil, text
	}
	if len(objects) > maxItems {
		return nil, fmt.Sprintf("has more than %d keys", maxItems)
	}
	out := make(map[string]*input, len(objects))
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		members, ok := objectOf(objects[name])
		if objects[name] != nil && !ok {
			return nil, text
		}
		if f.check != nil {
			if wrong := f.check(name); wrong != "" {
				return nil, "has a name that is wrong: " + wrong
			}
		}
		shown := prefix + f.name + "." + shownName(name) + "."
		f.strangers(members, shown, problems)
		in := read(f.members, members, true, shown, problems)
		out[name] = &in
	}
	return out, ""
}

func shownName(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return "*"
}

// strangers notes members that are not declared.
func (f field) strangers(members map[string]any, prefix string, problems *fault.Problems) {
	unnamed, named := 0, 0
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch {
		case slices.ContainsFunc(f.members, func(m field) bool { return m.name == name }):
		case named < maxNamed && plainName.MatchString(name):
			problems.Add(prefix+name, "unknown field")
			named++
		default:
			unnamed++
		}
	}
	noteUnnamed(strings.TrimSuffix(prefix, "."), unnamed, problems)
}
