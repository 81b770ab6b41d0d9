package domain

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"
)

// EditKind is what an edit is about.
type EditKind string

// The kinds of edit.
const (
	EditRole   EditKind = "role"
	EditTarget EditKind = "target"
	EditConfig EditKind = "config"
)

// ProposalTTL is how long a proposed edit waits for its confirmation. A
// secret that it carries is on record no longer than that.
const ProposalTTL = 7 * 24 * time.Hour

// Change is one thing before and after an edit; nil = it is not there.
type Change[T any] struct {
	From *T `json:"from,omitempty"`
	To   *T `json:"to,omitempty"`
}

// Proposal is an edit that is not in force until another person confirms it.
// Exactly one of Role, Target and Config is set. It never holds the values of
// secrets.
type Proposal struct {
	ID      string          `json:"id"`
	Kind    EditKind        `json:"kind"`
	Name    string          `json:"name,omitempty"` // of the role or target
	Live    string          `json:"live,omitempty"` // what the edit does to live credentials
	By      Party           `json:"by"`
	At      time.Time       `json:"at"`
	Expires time.Time       `json:"expires"`
	Secrets []string        `json:"secrets,omitempty"` // names of the secret fields that it gives or clears
	Role    *Change[Role]   `json:"role,omitempty"`
	Target  *Change[Target] `json:"target,omitempty"`
	Config  *Change[Config] `json:"config,omitempty"`
}

// Digest binds a confirmation to exactly what was proposed, by whom and over
// what. The values of secrets are outside; a proposal with other ones is
// another proposal with another id.
func (p Proposal) Digest(mount string) string {
	return canonicalHash(struct {
		Mount    string   `json:"mount"`
		Proposal Proposal `json:"proposal"`
	}{mount, p})
}

// SameProposer tells whether two parties count as one author of edits. Tokens
// without an entity are one author.
func SameProposer(a, b Party) bool {
	return a.Entity == b.Entity || a.Person != "" && a.Person == b.Person
}

// Fit is how what is in force now relates to a proposal.
type Fit int

// The fits.
const (
	FitStale   Fit = iota // it changed since: the proposal means something else
	FitOpen               // it is as it was when the edit was proposed
	FitApplied            // it is already as the proposal would have it
)

// FitRole compares the proposal with the role in force; nil = none.
func (p Proposal) FitRole(cur *Role) Fit { return fit(p.Role, cur, Role.Revision) }

// FitTarget compares the proposal with the target in force; nil = none. One
// that brings a secret is stale too when the root credential was rotated since.
func (p Proposal) FitTarget(cur *Target) Fit {
	return fit(p.Target, cur, func(t Target) string {
		rev := t.EditRevision()
		if len(p.Secrets) > 0 {
			rev += t.RotatedAt.UTC().Format(time.RFC3339Nano)
		}
		return rev
	})
}

// FitConfig compares the proposal with the settings in force.
func (p Proposal) FitConfig(cur *Config) Fit {
	return fit(p.Config, cur, func(c Config) string { return canonicalHash(c) })
}

func fit[T any](c *Change[T], cur *T, revision func(T) string) Fit {
	at := func(x *T) string {
		if x == nil {
			return ""
		}
		return revision(*x)
	}
	switch {
	case c == nil:
		return FitStale
	case at(cur) == at(c.From):
		return FitOpen
	case at(cur) == at(c.To):
		return FitApplied
	}
	return FitStale
}

// EditRevision is the target's incarnation and the hash of everything that
// only a security edit changes. It covers more than Revision: which roles may
// use the target and how much may be alive there void no request, but are
// nothing that one person alone decides.
func (t Target) EditRevision() string {
	return t.Incarnation + ":" + canonicalHash(struct {
		Type         string         `json:"type"`
		Place        string         `json:"place"`
		Fields       map[string]any `json:"fields"`
		AllowedRoles []string       `json:"allowed_roles,omitempty"`
		MaxLive      int            `json:"max_live"`
	}{t.Type, t.Place, t.Fields, t.AllowedRoles, t.MaxLive})
}

// Merged applies a change to what is in force now, field by field: what the
// edit did not touch stays as it has become meanwhile.
func Merged[T any](c Change[T], cur T) T {
	if c.From == nil {
		return *c.To
	}
	from, to, out := reflect.ValueOf(*c.From), reflect.ValueOf(*c.To), reflect.ValueOf(&cur).Elem()
	for i := range out.NumField() {
		if !reflect.DeepEqual(from.Field(i).Interface(), to.Field(i).Interface()) {
			out.Field(i).Set(to.Field(i))
		}
	}
	return cur
}

// FieldChange is one field before and after, in its JSON form; "" = not set.
type FieldChange struct{ Field, From, To string }

// Changes lists every field that the edit changes, in order. What the engine
// learns by itself is left out, and so are secrets.
func (p Proposal) Changes() []FieldChange {
	var from, to map[string]string
	switch {
	case p.Role != nil:
		from, to = flat(p.Role.From), flat(p.Role.To)
	case p.Target != nil:
		from, to = flat(p.Target.From), flat(p.Target.To)
	case p.Config != nil:
		from, to = flat(p.Config.From), flat(p.Config.To)
	}
	all := maps.Clone(from)
	maps.Copy(all, to)
	var out []FieldChange
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if from[k] != to[k] {
			out = append(out, FieldChange{Field: k, From: from[k], To: to[k]})
		}
	}
	return out
}

// Deletes tells whether the edit removes what it is about.
func (p Proposal) Deletes() bool {
	return p.Role != nil && p.Role.To == nil || p.Target != nil && p.Target.To == nil
}

// Creates tells whether there was nothing before the edit.
func (p Proposal) Creates() bool {
	return p.Role != nil && p.Role.From == nil || p.Target != nil && p.Target.From == nil
}

// learnt are the members of records that nobody writes.
var learnt = map[string]bool{
	"name": true, "incarnation": true, "pins": true, "editors": true, "selves": true, "rotation_id": true, "rotated_at": true,
}

// flat is a record's members in their JSON form, those of its type's fields
// among the others as they are on the wire.
func flat[T any](x *T) map[string]string {
	out := map[string]string{}
	if x == nil {
		return out
	}
	var members map[string]json.RawMessage
	decoded(*x, &members)
	for k, raw := range members {
		switch {
		case learnt[k]:
		case k == "fields" || k == "free":
			var below map[string]json.RawMessage
			decoded(raw, &below)
			for name, v := range below {
				out[name] = string(v)
			}
		default:
			out[k] = string(raw)
		}
	}
	return out
}

// decoded reads a value's JSON form without escapes for web pages.
func decoded(v, into any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("canonical JSON: " + err.Error()) // only our own structs come here, as in canonicalHash
	}
	if err := json.Unmarshal(b.Bytes(), into); err != nil {
		panic("canonical JSON: " + err.Error())
	}
}
