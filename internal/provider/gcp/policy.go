package gcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// policyVersion is the only version that shows conditions. Whoever reads or
// writes another loses other people's.
const policyVersion = 3

// Google's limits of one allow policy (IAM quotas page). Every appearance of a
// principal counts.
const (
	maxPrincipals  = 1500
	maxGroups      = 250
	maxConditioned = 20 // bindings of one role and principal with different conditions
)

var errPolicy = errors.New("the policy is not readable")

// policy is an allow policy of which everything that is not ours stays as it
// was read, byte for byte.
type policy struct {
	fields   object // all but the bindings
	bindings []binding
}

// binding is one entry of a policy. raw is what counts; the rest is read from
// it.
type binding struct {
	raw       json.RawMessage
	role      string
	members   []string
	condition *expr
}

// expr is an IAM condition.
type expr struct {
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Expression  string `json:"expression"`
}

// object is a JSON object in the order in which it was read.
type object []member

type member struct {
	name string
	raw  json.RawMessage
}

func parseObject(raw []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errPolicy
	}
	var out object
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errPolicy
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errPolicy
		}
		out = append(out, member{name, value})
	}
	if _, err := dec.Token(); err != nil {
		return nil, errPolicy
	}
	return out, nil
}

// encode writes the object without touching its values.
func (o object) encode() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, fmt.Errorf("encode policy: %w", err)
		}
		out.Write(name)
		out.WriteByte(':')
		out.Write(m.raw)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

func (o object) get(name string) json.RawMessage {
	for _, m := range o {
		if m.name == name {
			return m.raw
		}
	}
	return nil
}

// with returns a copy in which name has a value.
func (o object) with(name string, raw json.RawMessage) object {
	out := slices.Clone(o)
	for i := range out {
		if out[i].name == name {
			out[i].raw = raw
			return out
		}
	}
	return append(out, member{name, raw})
}

func parsePolicy(raw []byte) (*policy, error) {
	fields, err := parseObject(raw)
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if bindings := fields.get("bindings"); bindings != nil {
		if err := json.Unmarshal(bindings, &list); err != nil {
			return nil, errPolicy
		}
	}
	p := &policy{fields: slices.DeleteFunc(fields, func(m member) bool { return m.name == "bindings" })}
	for _, raw := range list {
		b, err := parseBinding(raw)
		if err != nil {
			return nil, err
		}
		p.bindings = append(p.bindings, b)
	}
	return p, nil
}

func parseBinding(raw json.RawMessage) (binding, error) {
	var in struct {
		Role      string   `json:"role"`
		Members   []string `json:"members"`
		Condition *expr    `json:"condition"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return binding{}, errPolicy
	}
	return binding{raw: raw, role: in.Role, members: in.Members, condition: in.Condition}, nil
}

func newBinding(role, principal string, condition expr) (binding, error) {
	raw, err := encodePlain(struct {
		Role      string   `json:"role"`
		Members   []string `json:"members"`
		Condition expr     `json:"condition"`
	}{role, []string{principal}, condition})
	if err != nil {
		return binding{}, fmt.Errorf("encode binding: %w", err)
	}
	return binding{raw: raw, role: role, members: []string{principal}, condition: &condition}, nil
}

// encodePlain is JSON without the escapes that only web pages need.
func encodePlain(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// encode writes the policy for setIamPolicy, in version 3, with the etag that
// was read.
func (p *policy) encode() ([]byte, error) {
	if etag := p.fields.get("etag"); len(etag) < 3 { // more than ""
		return nil, errPolicy // without an etag a write would overwrite blindly
	}
	raws := make([][]byte, len(p.bindings))
	for i, b := range p.bindings {
		raws[i] = b.raw
	}
	list := slices.Concat([]byte("["), bytes.Join(raws, []byte(",")), []byte("]"))
	return p.fields.with("version", json.RawMessage(strconv.Itoa(policyVersion))).with("bindings", list).encode()
}

// is tells whether the binding is the one with our title.
func (b binding) is(title string) bool { return b.condition != nil && b.condition.Title == title }

// has tells whether a principal is in the binding. Google compares e-mail
// addresses without case.
func (b binding) has(principal string) bool {
	return slices.ContainsFunc(b.members, func(m string) bool { return samePrincipal(m, principal) })
}

// samePrincipal also knows an account that was deleted while it was bound:
// deleted:serviceAccount:EMAIL?uid=NUMBER.
func samePrincipal(member, principal string) bool {
	if rest, ok := strings.CutPrefix(member, "deleted:"); ok {
		member, _, _ = strings.Cut(rest, "?")
	}
	return strings.EqualFold(member, principal)
}

// without removes one principal from a binding and tells whether somebody is
// left in it.
func (b binding) without(principal string) (binding, bool, error) {
	rest := slices.DeleteFunc(slices.Clone(b.members), func(m string) bool { return samePrincipal(m, principal) })
	if len(rest) == 0 {
		return b, false, nil
	}
	fields, err := parseObject(b.raw)
	if err != nil {
		return b, true, err
	}
	list, err := encodePlain(rest)
	if err != nil {
		return b, true, fmt.Errorf("encode members: %w", err)
	}
	raw, err := fields.with("members", list).encode()
	return binding{raw: raw, role: b.role, members: rest, condition: b.condition}, true, err
}

// counts are what Google limits of a policy.
type counts struct{ principals, groups int }

func (p *policy) counts() counts {
	var c counts
	for _, b := range p.bindings {
		c.principals += len(b.members)
		for _, m := range b.members {
			if strings.HasPrefix(m, memberGroup+":") || strings.HasPrefix(m, "domain:") {
				c.groups++
			}
		}
	}
	return c
}

// conditioned counts the bindings of a role and principal that have a
// condition.
func (p *policy) conditioned(role, principal string) int {
	n := 0
	for _, b := range p.bindings {
		if b.role == role && b.condition != nil && b.has(principal) {
			n++
		}
	}
	return n
}
