package access

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// draftTarget is a target as an edit would leave it.
type draftTarget struct {
	old     *domain.Target
	next    domain.Target
	d       contract.Descriptor
	secrets store.Secrets
	moved   bool              // where or to whom we speak changes
	touched bool              // fields or secrets change
	given   bool              // the write carries a secret
	rekeyed bool              // the stored secrets change
	secret  map[string]string // what the write says of secrets; "" clears one
	report  contract.Report
}

func (a *Access) draftTarget(ctx context.Context, name string, e TargetEdit) (*draftTarget, error) {
	old, err := a.store.Target(ctx, name)
	if err != nil {
		return nil, err
	}
	dr := &draftTarget{old: old}
	if old != nil {
		dr.next = *old
		if dr.secrets, err = a.store.Secrets(ctx, name); err != nil {
			return nil, err
		}
	} else {
		id, err := a.newID()
		if err != nil {
			return nil, err
		}
		dr.next = domain.Target{Name: name, Incarnation: id}
	}
	if err := a.mergeTarget(dr, e); err != nil {
		return nil, err
	}
	return dr, a.checkTarget(dr, e)
}

// mergeTarget applies an edit. A write that changes where or to whom we speak
// drops the stored secret: it must come again with that write.
func (a *Access) mergeTarget(dr *draftTarget, e TargetEdit) error {
	if e.Type != nil {
		if dr.old != nil && dr.old.Type != *e.Type {
			return fault.New(fault.Invalid, fault.CodeInvalid, "invalid input: type: cannot change; delete the target and write a new one", nil)
		}
		dr.next.Type = *e.Type
	}
	d, ok := a.descriptors[dr.next.Type]
	if !ok {
		return fault.New(fault.Invalid, fault.CodeInvalid, "invalid input: type: must be one of "+a.types(), nil)
	}
	dr.d = d
	overwrite(&dr.next.Description, e.Description)
	overwrite(&dr.next.AllowedRoles, e.AllowedRoles)
	overwrite(&dr.next.MaxLive, e.MaxLive)
	before := coerce(d.TargetFields, dr.next.All())
	fields := map[string]any{}
	maps.Copy(fields, before)
	for _, k := range e.Clear {
		delete(fields, k)
	}
	maps.Copy(fields, e.Set)
	dr.next.Fields, dr.next.Free = splitFree(d.TargetFields, fields)
	dr.touched = dr.old == nil || !reflect.DeepEqual(map[string]any(before), fields) || len(e.Secrets) > 0
	dr.moved = dr.old != nil && slices.ContainsFunc(d.TargetFields, func(f contract.Field) bool {
		return f.Where && !reflect.DeepEqual(before[f.Name], fields[f.Name])
	})
	dr.mergeSecrets(e)
	return nil
}

func overwrite[T any](old, given *T) {
	if given != nil {
		*old = *given
	}
}

func (dr *draftTarget) mergeSecrets(e TargetEdit) {
	for _, v := range e.Secrets {
		dr.given = dr.given || !v.Empty()
	}
	before, current := dr.secrets.Current, map[string]string{}
	if !dr.moved {
		maps.Copy(current, dr.secrets.Current)
	}
	for k, v := range e.Secrets {
		current[k] = v.Reveal()
		if v.Empty() {
			delete(current, k)
		}
	}
	dr.secrets.Current = current
	dr.secret, dr.rekeyed = store.Conceal(e.Secrets), !maps.Equal(before, current)
}

func (a *Access) types() string {
	return strings.Join(contract.SortedKeys(a.descriptors), ", ")
}

func (a *Access) checkTarget(dr *draftTarget, e TargetEdit) error {
	var p fault.Problems
	for _, k := range append(contract.SortedKeys(e.Set), contract.SortedKeys(e.Secrets)...) {
		if !slices.ContainsFunc(dr.d.TargetFields, func(f contract.Field) bool { return f.Name == k }) {
			p.Addf(k, "is no field of a target of type %s", dr.d.Type)
		}
	}
	if why := domain.CheckText(dr.next.Description, domain.MaxJustification); why != "" {
		p.Add("description", why)
	}
	if dr.next.MaxLive < 0 || dr.next.MaxLive > 1_000_000 {
		p.Add("max_live", "must be from 0 to 1000000")
	}
	for _, pattern := range dr.next.AllowedRoles {
		if !domain.ValidNamePattern(pattern) {
			p.Add("allowed_roles", "are names of roles, in which * stands for any characters")
			break
		}
	}
	a.checkTargetFields(&p, dr, e)
	return p.Err()
}

func (a *Access) checkTargetFields(p *fault.Problems, dr *draftTarget, e TargetEdit) {
	if dr.d.CheckTarget == nil {
		return
	}
	dr.report = dr.d.CheckTarget(a.providers.env, a.contractTarget(dr))
	for _, x := range dr.report.Problems {
		if dr.moved && len(e.Secrets) == 0 && isSecret(dr.d, x.Field) {
			p.Add(x.Field, "must be given again: this write changes where or to whom we speak")
			continue
		}
		p.Add(x.Field, x.Text)
	}
}

func isSecret(d contract.Descriptor, field string) bool {
	return slices.ContainsFunc(d.TargetFields, func(f contract.Field) bool { return f.Name == field && f.Secret })
}

func (a *Access) contractTarget(dr *draftTarget) contract.Target {
	return contract.Target{
		Name: dr.next.Name, Fields: contract.Values(dr.next.All()).WithDefaults(dr.d.TargetFields),
		Secrets: store.Reveal(dr.secrets.Current), Mount: a.mount,
	}
}
