package pim

import (
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// input is what was sent, checked and in Go types. Absent is not zero: Given
// and Cleared tell. Asking for a field that is not declared with that type is a
// mistake in the program and panics; the handler turns that into a 500.
type input struct {
	declared map[string]field
	sent     map[string]any  // never an empty value
	cleared  map[string]bool // sent as nothing: "", null, [] or {}
}

// call is one operation with all that it may look at.
type call struct {
	input
	// Request is the host's request without its data: what was sent is in the
	// input, checked.
	Request  *logical.Request
	captures map[string]string
	path     string // name of the path
}

// mistake is a panic over the program itself: its text has nothing that was
// sent and goes to the log.
type mistake string

// Format keeps what was sent out of logs and errors.
func (c *call) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, "call of "+c.path) // a fmt.State has no way to fail that anybody sees
}

// Capture is a segment of the path.
func (c *call) Capture(name string) string {
	v, ok := c.captures[name]
	if !ok {
		panic(mistake("no capture " + name))
	}
	return v
}

// get is the value of a declared field: as sent, its default, or zero.
func get[T any](in *input, name string, typ contract.FieldType, sensitive bool) T {
	f, ok := in.declared[name]
	if !ok || f.typ != typ || f.sensitive != sensitive {
		panic(mistake("field " + name + " is not declared with the type that it is read with"))
	}
	var zero T
	v, sent := in.sent[name]
	if !sent {
		v = f.def
		if v == nil || in.cleared[name] {
			return zero
		}
	}
	t, ok := v.(T)
	if !ok {
		panic(mistake("the default of field " + name + " has another type"))
	}
	return t
}

// Given tells whether the field was sent, be it to set or to clear it.
func (in *input) Given(name string) bool {
	_, ok := in.sent[name]
	return ok || in.cleared[name]
}

// Cleared tells whether the field was sent as nothing.
func (in *input) Cleared(name string) bool { return in.cleared[name] }

// String returns a string field.
func (in *input) String(name string) string {
	return get[string](in, name, contract.TypeString, false)
}

// Secret returns a field that is declared as sensitive.
func (in *input) Secret(name string) secret.String {
	return get[secret.String](in, name, contract.TypeString, true)
}

// Strings returns a list field; its items are not empty.
func (in *input) Strings(name string) []string {
	return get[[]string](in, name, contract.TypeStrings, false)
}

// Bool returns a boolean field.
func (in *input) Bool(name string) bool { return get[bool](in, name, contract.TypeBool, false) }

// Int returns an int field.
func (in *input) Int(name string) int { return get[int](in, name, contract.TypeInt, false) }

// Seconds returns a duration field; it is not negative.
func (in *input) Seconds(name string) domain.Seconds {
	return domain.Seconds(get[int](in, name, contract.TypeSeconds, false))
}

// Map returns a map field.
func (in *input) Map(name string) map[string]string {
	return get[map[string]string](in, name, contract.TypeMap, false)
}

// Time returns a time field, in UTC; zero when absent.
func (in *input) Time(name string) time.Time { return get[time.Time](in, name, typeTime, false) }

// Objects returns a field of named objects; each is an input of its members.
func (in *input) Objects(name string) map[string]*input {
	return get[map[string]*input](in, name, typeObjects, false)
}

// Values picks the fields of a descriptor that were sent: those with a value,
// and the names of those that are cleared. Secrets are not among them.
func (in *input) Values(fields []contract.Field) (set contract.Values, cleared []string) {
	set = contract.Values{}
	for _, f := range fields {
		if f.Secret {
			continue
		}
		if v, ok := in.sent[f.Name]; ok {
			set[f.Name] = v
		} else if in.cleared[f.Name] {
			cleared = append(cleared, f.Name)
		}
	}
	return set, cleared
}

// Secrets picks the secret fields of a descriptor that were sent, as Values
// does with the others.
func (in *input) Secrets(fields []contract.Field) (set map[string]secret.String, cleared []string) {
	set = map[string]secret.String{}
	for _, f := range fields {
		if !f.Secret {
			continue
		}
		if in.cleared[f.Name] {
			cleared = append(cleared, f.Name)
		} else if _, ok := in.sent[f.Name]; ok {
			set[f.Name] = in.Secret(f.Name)
		}
	}
	return set, cleared
}
