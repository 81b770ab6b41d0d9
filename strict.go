package pim

import (
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// The framework's own validation repeats values in its errors, stops at the
// first bad field and lets unknown ones pass. So everything that is sent is
// checked here, and the framework sees none of it.

// plainName is what an unknown field must look like to be named in an answer.
// Anything else might be a secret that was sent in the place of a name.
var plainName = regexp.MustCompile(`^[a-z_]{1,40}$`)

// check reads what was sent to an operation, or says everything that is wrong
// with it.
func (r *route) check(o op, req *logical.Request) (*call, error) {
	var problems fault.Problems
	c := &call{Request: withoutData(req), captures: r.captures(req.Path), path: r.name}
	for _, f := range r.path.captures {
		if text := f.check; text != nil {
			if problem := text(c.captures[f.name]); problem != "" {
				problems.Add(f.name, problem)
			}
		}
	}
	taken := make([]field, 0, len(r.fields))
	for _, f := range r.fields {
		if o.takesField(f) {
			taken = append(taken, f)
		}
	}
	data := maps.Clone(req.Data)
	r.tolerate(o, data)
	r.unexpected(data, taken, &problems)
	c.input = read(taken, data, o.writes(), "", &problems)
	c.declared = r.declared // a handler of two operations may ask for a field that one of them does not take
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// withoutData is the request for handlers: nothing that was sent can get from
// it into a log or past the checks.
func withoutData(req *logical.Request) *logical.Request {
	out := *req
	out.Data = nil
	return &out
}

// tolerate drops what hosts pass on though it is theirs.
func (r *route) tolerate(o op, data map[string]any) {
	if o.writes() {
		return
	}
	for _, name := range []string{"list", "help"} {
		if _, ours := r.declared[name]; ours {
			continue
		}
		if s, ok := data[name].(string); ok {
			if _, err := strconv.ParseBool(s); err == nil {
				delete(data, name)
			}
		}
	}
}

// unexpected notes what is sent and not taken.
func (r *route) unexpected(data map[string]any, taken []field, problems *fault.Problems) {
	unknown, named := 0, 0
	for _, name := range slices.Sorted(maps.Keys(data)) {
		_, declared := r.declared[name]
		isCapture := slices.ContainsFunc(r.path.captures, func(f field) bool { return f.name == name })
		switch {
		case slices.ContainsFunc(taken, func(f field) bool { return f.name == name }):
		case isCapture:
			problems.Add(name, "is part of the path and must not be sent beside it")
		case declared:
			problems.Add(name, "is not a field of this operation")
		case named < maxNamed && plainName.MatchString(name):
			problems.Add(name, "unknown field")
			named++
		default:
			unknown++
		}
	}
	noteUnnamed("input", unknown, problems)
}

// maxNamed is how many unknown fields are named in one answer, which is no longer
// for whoever sends a hundred thousand of them.
const maxNamed = 20

func noteUnnamed(where string, n int, problems *fault.Problems) {
	switch {
	case n == 1:
		problems.Add(where, "1 unknown field, whose name is not repeated here")
	case n > 1:
		problems.Addf(where, "%d unknown fields, whose names are not repeated here", n)
	}
}

// read turns what was sent into Go types. prefix names the object that the
// fields are members of.
func read(fields []field, data map[string]any, writes bool, prefix string, problems *fault.Problems) input {
	in := input{declared: map[string]field{}, sent: map[string]any{}, cleared: map[string]bool{}}
	for _, f := range fields {
		in.declared[f.name] = f
		raw, sent := data[f.name]
		if !sent {
			if f.required && writes {
				problems.Add(prefix+f.name, "is required")
			}
			continue
		}
		if f.empty(raw) {
			in.cleared[f.name] = true
			if f.required && writes {
				problems.Add(prefix+f.name, "must not be empty")
			}
			continue
		}
		v, wrong := f.parse(raw, prefix, problems)
		if wrong != "" {
			problems.Add(prefix+f.name, wrong)
			continue
		}
		in.sent[f.name] = v
	}
	return in
}

// empty tells whether a value clears the field.
func (f field) empty(raw any) bool {
	switch v := raw.(type) {
	case nil:
		return true
	case string:
		structured := f.typ == contract.TypeStrings || f.typ == contract.TypeMap || f.typ == typeObjects || f.typ == typeList || f.typ == typeMaps
		return v == "" || structured && (v == "[]" || v == "{}")
	case []any:
		return len(v) == 0
	case []string:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	case map[string]string:
		return len(v) == 0
	}
	return false
}
