package access

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// These shorten the signatures of this package.
type (
	roleTx    = *store.RoleTx
	requestTx = *store.RequestTx
)

func (a *Access) withRole(name string, f func(roleTx) error) error { return a.store.WithRole(name, f) }

// providers keeps one open instance per target, until the target changes.
type providers struct {
	a   *Access
	env contract.Env

	mu   sync.Mutex
	open map[string]*opened
	gen  uint64
	// selves are the entities of our own logins, by target; nil = not read yet.
	selves map[string][]string
}

type opened struct {
	contract.Provider
	descriptor contract.Descriptor
	target     domain.Target
	revision   string // of the target

	mu    sync.Mutex
	check checked
}

func (o *opened) lastCheck(now time.Time) (checked, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.check, !o.check.at.IsZero() && now.Sub(o.check.at) < checkFor
}

func (o *opened) keepCheck(c checked) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.check = c
}

func newProviders(a *Access, env contract.Env) *providers {
	return &providers{a: a, env: env, open: map[string]*opened{}}
}

// of opens the target's instance, or returns the open one. No network call is
// made here.
func (p *providers) of(ctx context.Context, name string) (*opened, error) {
	p.mu.Lock()
	o, ok := p.open[name]
	gen := p.gen
	p.mu.Unlock()
	if ok {
		return o, nil
	}
	t, err := p.a.store.Target(ctx, name)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, fault.New(fault.Conflict, fault.CodeInvalid, "the role's target does not exist", nil)
	}
	secrets, err := p.a.store.Secrets(ctx, name)
	if err != nil {
		return nil, err
	}
	o, err = p.make(*t, store.Reveal(secrets.Current))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gen == gen {
		if other, ok := p.open[name]; ok {
			return other, nil
		}
		p.open[name] = o
	}
	return o, nil
}

// make opens an instance that is not kept.
func (p *providers) make(t domain.Target, secrets map[string]secret.String) (*opened, error) {
	d, err := p.a.descriptorOf(&t)
	if err != nil {
		return nil, err
	}
	inst, err := d.New(p.env, contract.Target{
		Name: t.Name, Fields: coerce(d.TargetFields, t.All()).WithDefaults(d.TargetFields), Secrets: secrets, Place: t.Place, Mount: p.a.mount,
	})
	if err != nil {
		return nil, providerFault(err)
	}
	return &opened{Provider: inst, descriptor: d, target: t, revision: t.Revision()}, nil
}

// forget closes the instance of one target. Calls in flight on it end by their
// own time.
func (p *providers) forget(name string) {
	p.mu.Lock()
	o := p.open[name]
	delete(p.open, name)
	p.selves = nil
	p.gen++
	p.mu.Unlock()
	if o != nil {
		p.close(o)
	}
}

// drop closes all instances.
func (p *providers) drop() {
	p.mu.Lock()
	all := p.open
	p.open = map[string]*opened{}
	p.selves = nil
	p.gen++
	p.mu.Unlock()
	for _, o := range all {
		p.close(o)
	}
}

func (p *providers) close(o *opened) {
	if err := o.Close(); err != nil {
		p.a.log.Warn("closing a target's connection failed", "target", o.target.Name)
	}
}

// own tells whether an entity is the engine's own login at any target of this
// mount. The list is read once from the records and kept in step by target
// writes.
func (p *providers) own(ctx context.Context, entity string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.selves == nil {
		names, err := p.a.store.Targets(ctx, "", 0)
		if err != nil {
			return false, err
		}
		selves := map[string][]string{}
		for _, name := range names {
			t, err := p.a.store.Target(ctx, name)
			if err != nil {
				return false, err
			}
			if t != nil {
				selves[name] = t.Selves
			}
		}
		p.selves = selves
	}
	for _, ids := range p.selves {
		if slices.Contains(ids, entity) {
			return true, nil
		}
	}
	return false, nil
}

// splitFree parts fields into security fields and the others, which are
// outside revisions. nil = none.
func splitFree(fields []contract.Field, all map[string]any) (security, free map[string]any) {
	for name, v := range all {
		into := &security
		if slices.ContainsFunc(fields, func(f contract.Field) bool { return f.Name == name && f.Free }) {
			into = &free
		}
		if *into == nil {
			*into = map[string]any{}
		}
		(*into)[name] = v
	}
	return security, free
}

// fieldsOf is a role's provider fields with everything implied and defaulted. They
// are worked out once for a role as it was read; nobody changes them.
func (m *roleFields) of(d contract.Descriptor, role *domain.Role) contract.Values {
	m.mu.Lock()
	known := m.byRole[role.Name]
	m.mu.Unlock()
	if known.role == role && known.typ == d.Type {
		return known.fields
	}
	known = knownFields{role: role, typ: d.Type, fields: fieldsOf(d, role.All())}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byRole == nil || len(m.byRole) >= maxRoleFields {
		m.byRole = map[string]knownFields{}
	}
	m.byRole[role.Name] = known
	return known.fields
}

// roleFields remembers the fields of roles that were used last.
type roleFields struct {
	mu     sync.Mutex
	byRole map[string]knownFields
}

type knownFields struct {
	role   *domain.Role // as it was read, which nobody changes
	typ    string
	fields contract.Values
}

// maxRoleFields bounds what is remembered.
const maxRoleFields = 1000

// fieldsOf is a role's provider fields with everything implied and defaulted.
func fieldsOf(d contract.Descriptor, raw map[string]any) contract.Values {
	v := coerce(d.RoleFields, raw)
	if d.Normalize != nil {
		v = d.Normalize(v)
	}
	return v.WithDefaults(d.RoleFields)
}

// coerce gives stored values the Go types that their fields declare: JSON has
// only one kind of number and list.
func coerce(fields []contract.Field, raw map[string]any) contract.Values {
	out := contract.Values{}
	for _, f := range fields {
		v, ok := raw[f.Name]
		if !ok || v == nil {
			continue
		}
		switch f.Type {
		case contract.TypeString:
			out[f.Name], _ = v.(string)
		case contract.TypeBool:
			out[f.Name], _ = v.(bool)
		case contract.TypeInt, contract.TypeSeconds:
			out[f.Name] = asInt(v)
		case contract.TypeStrings:
			out[f.Name] = asStrings(v)
		case contract.TypeMap:
			out[f.Name] = asMap(v)
		}
	}
	return out
}

func asInt(v any) int {
	switch n := v.(type) {
	case int:
		return n
	case float64:
		return int(n)
	}
	return 0
}

func asStrings(v any) []string {
	switch l := v.(type) {
	case []string:
		return l
	case []any:
		out := make([]string, 0, len(l))
		for _, x := range l {
			s, _ := x.(string)
			out = append(out, s)
		}
		return out
	}
	return nil
}

func asMap(v any) map[string]string {
	switch m := v.(type) {
	case map[string]string:
		return m
	case map[string]any:
		out := make(map[string]string, len(m))
		for k, x := range m {
			out[k], _ = x.(string)
		}
		return out
	}
	return nil
}
