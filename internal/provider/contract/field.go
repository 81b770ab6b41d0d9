package contract

import (
	"fmt"
	"maps"
	"sort"
	"time"
)

// FieldType is the type of a target's or role's field. Two providers may share
// a field name only with one type and meaning.
type FieldType int

// The field types.
const (
	TypeString  FieldType = iota + 1 // string
	TypeStrings                      // []string
	TypeBool                         // bool
	TypeInt                          // int
	TypeSeconds                      // int, whole seconds; written as a duration
	TypeMap                          // map[string]string
)

// String names the type as docs print it.
func (t FieldType) String() string {
	switch t {
	case TypeString:
		return "string"
	case TypeStrings:
		return "list of strings"
	case TypeBool:
		return "bool"
	case TypeInt:
		return "int"
	case TypeSeconds:
		return "duration"
	case TypeMap:
		return "map of strings"
	}
	return "unknown"
}

// Field declares one flat field of a target or a role. Paths, help, docs and
// forms are made from it.
type Field struct {
	Name        string
	Type        FieldType
	Description string
	Default     any      // value of an absent field, of the type's Go type; nil = zero value
	Allowed     []string // closed list for TypeString; nil = any
	Secret      bool     // write-only; kept apart from the rest, sealed by the host
	// Where marks a target field that decides where or to whom we speak.
	// Changing it asks for the secret again in the same write.
	Where bool
	// Free marks a field that is no security field: it is outside revisions.
	Free bool
}

// Values are the fields of a target or a role: name to a value of the Go type
// of its FieldType. Absent means unset.
type Values map[string]any

// String returns a string field, or "".
func (v Values) String(name string) string { s, _ := v[name].(string); return s }

// Strings returns a list field, or nil.
func (v Values) Strings(name string) []string { s, _ := v[name].([]string); return s }

// Bool returns a boolean field, or false.
func (v Values) Bool(name string) bool { b, _ := v[name].(bool); return b }

// Int returns an int field, or 0.
func (v Values) Int(name string) int { i, _ := v[name].(int); return i }

// Seconds returns a duration field, or 0.
func (v Values) Seconds(name string) time.Duration { return time.Duration(v.Int(name)) * time.Second }

// Map returns a map field, or nil.
func (v Values) Map(name string) map[string]string { m, _ := v[name].(map[string]string); return m }

// WithDefaults returns a copy in which every absent field with a default has
// it.
func (v Values) WithDefaults(fields []Field) Values {
	out := make(Values, len(v))
	maps.Copy(out, v)
	for _, f := range fields {
		if _, ok := out[f.Name]; !ok && f.Default != nil {
			out[f.Name] = f.Default
		}
	}
	return out
}

// Problem is one thing wrong with a field, in our own words and never with the
// value.
type Problem struct{ Field, Text string }

// Report is everything wrong with a spec at once, and what its author should
// know though it is not wrong.
type Report struct {
	Problems []Problem
	Warnings []string
}

// Addf notes a problem.
func (r *Report) Addf(field, format string, args ...any) {
	r.Problems = append(r.Problems, Problem{Field: field, Text: fmt.Sprintf(format, args...)})
}

// Warnf notes a warning.
func (r *Report) Warnf(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// OK tells whether there is no problem.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// SortedKeys returns the keys of a map in order, for output that is the same
// every time.
func SortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
