package condition

import (
	"errors"
	"maps"
	"slices"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// errUnset says that a fact is not there. Expressions ask has() first.
var errUnset = errors.New("the fact is not set")

// field is one fact: its type, how to read it, and whether it may be missing.
type field struct {
	kind *types.Type
	get  func(*Input) any
	set  func(*Input) bool // nil = always
	most uint64            // assumed size of a text, in bytes, or of a list or map, in items
	item uint64            // assumed size of an item, in bytes
}

// Assumed sizes. They are what the cost of an expression is estimated with when
// a role is written; facts beyond them are still judged as long as the cost at
// run time allows.
const (
	sizeID     = 64
	sizeName   = 128
	sizeText   = 2048
	sizeValue  = 512
	manyGroups = 256 // ids and names
	manyPairs  = 64
	manyLogins = 16
	manyHours  = 24
)

func textMap() *types.Type { return types.NewMapType(types.StringType, types.StringType) }

func texts() *types.Type { return types.NewListType(types.StringType) }

// objectName is the type of a variable's object. The blank keeps it out of
// reach of expressions.
func objectName(variable string) string { return "facts of " + variable }

// objects are the variables that have fields.
func objects() map[string]map[string]field {
	return map[string]map[string]field{
		"request": requestFields(), "requester": requesterFields(), "token": tokenFields(),
		"role": roleFields(), "history": historyFields(),
	}
}

func text(most uint64, get func(*Input) string) field {
	return field{kind: types.StringType, most: most, get: func(in *Input) any { return get(in) }}
}

func moment(get func(*Input) time.Time) field {
	return field{
		kind: types.TimestampType,
		get:  func(in *Input) any { return get(in) },
		set:  func(in *Input) bool { return !get(in).IsZero() },
	}
}

func count(get func(*Input) int) field {
	return field{kind: types.IntType, get: func(in *Input) any { return int64(get(in)) }}
}

func pairs(get func(*Input) map[string]string) field {
	return field{kind: textMap(), most: manyPairs, item: sizeValue, get: func(in *Input) any { return get(in) }}
}

func requestFields() map[string]field {
	return map[string]field{
		"id":            text(sizeID, func(in *Input) string { return in.Request.ID }),
		"kind":          text(sizeID, func(in *Input) string { return in.Request.Kind }),
		"role":          text(sizeID, func(in *Input) string { return in.Request.Role }),
		"target":        text(sizeID, func(in *Input) string { return in.Request.Target }),
		"justification": text(sizeText, func(in *Input) string { return in.Request.Justification }),
		"ticket":        text(256, func(in *Input) string { return in.Request.Ticket }),
		"ttl":           {kind: types.DurationType, get: func(in *Input) any { return in.Request.TTL }},
		"start":         moment(func(in *Input) time.Time { return in.Request.Start }),
		"requested_at":  moment(requestedAt),
		"age":           {kind: types.DurationType, get: func(in *Input) any { return in.Now.Sub(requestedAt(in)) }},
	}
}

// requestedAt is now for a request that is being filed.
func requestedAt(in *Input) time.Time {
	if in.Request.RequestedAt.IsZero() {
		return in.Now
	}
	return in.Request.RequestedAt
}

func requesterFields() map[string]field {
	return map[string]field{
		"id":       text(sizeID, func(in *Input) string { return in.Requester.ID }),
		"person":   text(sizeValue, func(in *Input) string { return in.Requester.Person }),
		"machine":  {kind: types.BoolType, get: func(in *Input) any { return in.Requester.Machine }},
		"groups":   {kind: texts(), most: manyGroups, item: sizeName, get: func(in *Input) any { return in.Requester.Groups }},
		"metadata": pairs(func(in *Input) map[string]string { return in.Requester.Metadata }),
		"aliases": {
			kind: types.NewMapType(types.StringType, texts()), most: manyLogins, item: manyLogins,
			get: func(in *Input) any { return in.Requester.Aliases },
		},
	}
}

func tokenFields() map[string]field {
	return map[string]field{
		"meta":  pairs(func(in *Input) map[string]string { return in.Token.Meta }),
		"age":   {kind: types.DurationType, get: func(in *Input) any { return in.Now.Sub(in.Token.Created) }},
		"path":  text(sizeValue, func(in *Input) string { return in.Token.Path }),
		"mount": text(sizeName, func(in *Input) string { return in.Token.Mount }),
		"type":  text(sizeID, func(in *Input) string { return in.Token.Type }),
	}
}

func roleFields() map[string]field {
	return map[string]field{
		"name":   text(sizeID, func(in *Input) string { return in.Role.Name }),
		"owner":  text(sizeText, func(in *Input) string { return in.Role.Owner }),
		"target": text(sizeID, func(in *Input) string { return in.Role.Target }),
		"labels": pairs(func(in *Input) map[string]string { return in.Role.Labels }),
	}
}

func historyFields() map[string]field {
	return map[string]field{
		"last_used": moment(func(in *Input) time.Time { return in.History.LastUsed }),
		"count":     count(func(in *Input) int { return in.History.Count }),
		"denials":   count(func(in *Input) int { return in.History.Denials }),
		"hours": {kind: types.NewListType(types.IntType), most: manyHours, get: func(in *Input) any {
			return in.History.Hours
		}},
	}
}

// provider tells CEL about the objects, and about its own types.
type provider struct {
	*types.Registry
	objects map[string]map[string]field // by objectName
}

// FindStructType implements types.Provider.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := p.objects[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Registry.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if fields, ok := p.objects[name]; ok {
		return slices.Sorted(maps.Keys(fields)), true
	}
	return p.Registry.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider.
func (p *provider) FindStructFieldType(name, of string) (*types.FieldType, bool) {
	fields, ok := p.objects[name]
	if !ok {
		return p.Registry.FindStructFieldType(name, of)
	}
	f, ok := fields[of]
	if !ok {
		return nil, false
	}
	return &types.FieldType{Type: f.kind, IsSet: f.isSet, GetFrom: f.from}, true
}

// NewValue implements types.Provider. Nothing is made by expressions.
func (p *provider) NewValue(string, map[string]ref.Val) ref.Val {
	return types.NewErr("objects cannot be made")
}

func (f field) isSet(target any) bool {
	in, ok := target.(*Input)
	return ok && (f.set == nil || f.set(in))
}

func (f field) from(target any) (any, error) {
	in, ok := target.(*Input)
	if !ok || (f.set != nil && !f.set(in)) {
		return nil, errUnset
	}
	return f.get(in), nil
}
