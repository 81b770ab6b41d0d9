// Package secret holds values that must never reach a log, an error, a handle
// or a record by accident. It imports the standard library alone.
package secret

import "log/slog"

const redacted = "[redacted]"

// String is a secret text. Every formatter prints a placeholder in its place;
// Reveal is the one way to the value.
type String struct{ value string }

// New wraps a secret text.
func New(value string) String { return String{value: value} }

// Reveal returns the text itself. Only code that hands the secret to its owner
// or to the target calls it.
func (s String) Reveal() string { return s.value }

// Empty tells whether there is no secret at all.
func (s String) Empty() bool { return s.value == "" }

// String implements fmt.Stringer with the placeholder.
func (s String) String() string { return redacted }

// GoString implements fmt.GoStringer with the placeholder.
func (s String) GoString() string { return redacted }

// MarshalText keeps the value out of JSON and other encodings.
func (s String) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue keeps the value out of structured logs.
func (s String) LogValue() slog.Value { return slog.StringValue(redacted) }

// Map is an answer of a target that contains secrets, as name and value. Like
// String it never prints itself.
type Map struct{ values map[string]any }

// NewMap wraps an answer. The map is not copied.
func NewMap(values map[string]any) Map { return Map{values: values} }

// Reveal returns the answer itself.
func (m Map) Reveal() map[string]any { return m.values }

// String implements fmt.Stringer with the placeholder.
func (m Map) String() string { return redacted }

// GoString implements fmt.GoStringer with the placeholder.
func (m Map) GoString() string { return redacted }

// MarshalText keeps the values out of JSON and other encodings.
func (m Map) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue keeps the values out of structured logs.
func (m Map) LogValue() slog.Value { return slog.StringValue(redacted) }
