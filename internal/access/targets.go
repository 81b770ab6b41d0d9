package access

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// TargetEdit is a merge write of a target.
type TargetEdit struct {
	Type         *string
	Description  *string
	AllowedRoles *[]string
	MaxLive      *int
	Set          contract.Values
	Clear        []string
	Secrets      map[string]secret.String
}

// TargetView is a target with everything computed about it, without secrets.
type TargetView struct {
	Target     domain.Target
	Fields     contract.Values
	SecretsSet []string // names of secret fields that have a value
	Live       int
	Warnings   []string
	Effect     Effect
}

// TargetNames lists target names.
func (a *Access) TargetNames(ctx context.Context, after string, limit int) ([]string, error) {
	return a.store.Targets(ctx, after, limit)
}

// ReadTarget reads a target; nil = none.
func (a *Access) ReadTarget(ctx context.Context, name string) (*TargetView, error) {
	t, err := a.store.Target(ctx, name)
	if err != nil || t == nil {
		return nil, err
	}
	s, err := a.store.Secrets(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.targetView(*t, s)
}

func (a *Access) targetView(t domain.Target, s store.Secrets) (*TargetView, error) {
	d, err := a.descriptorOf(&t)
	if err != nil {
		return nil, err
	}
	return &TargetView{
		Target: t, Fields: coerce(d.TargetFields, t.Fields).WithDefaults(nonSecret(d.TargetFields)),
		SecretsSet: contract.SortedKeys(s.Current), Live: a.index.liveAt(t.Name),
	}, nil
}

func nonSecret(fields []contract.Field) []contract.Field {
	return slices.DeleteFunc(slices.Clone(fields), func(f contract.Field) bool { return f.Secret })
}

// draftTarget is a target as an edit would leave it.
type draftTarget struct {
	old     *domain.Target
	next    domain.Target
	d       contract.Descriptor
	secrets store.Secrets
	moved   bool // where or to whom we speak changes
	touched bool // fields or secrets change
	report  contract.Report
}

// WriteTarget changes the named fields of a target and validates the whole
// result. The place is read from the target itself before anything is stored.
func (a *Access) WriteTarget(ctx context.Context, c Caller, name string, e TargetEdit, o EditOptions) (*TargetView, error) {
	if !domain.ValidName(name) {
		return nil, errName("target")
	}
	if err := a.indexed(ctx); err != nil {
		return nil, err
	}
	dr, err := a.draftTarget(ctx, name, e)
	if err != nil {
		return nil, err
	}
	if dr.touched {
		if err := a.readPlace(ctx, dr); err != nil {
			return nil, err
		}
	}
	eff, err := a.targetEffect(dr, o)
	if err != nil {
		return nil, err
	}
	if !o.DryRun {
		if err := a.putTarget(ctx, name, dr); err != nil {
			return nil, err
		}
		a.providers.forget(name)
		if len(eff.SecurityChanged) > 0 {
			a.voidAndRevoke(ctx, a.namedCaller(ctx, c), a.index.ofTarget(name), eff.Revoked)
		}
	}
	v, err := a.targetView(dr.next, dr.secrets)
	if err == nil {
		v.Effect, v.Warnings = eff, dr.report.Warnings
	}
	return v, err
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
	if e.Description != nil {
		dr.next.Description = *e.Description
	}
	if e.AllowedRoles != nil {
		dr.next.AllowedRoles = *e.AllowedRoles
	}
	if e.MaxLive != nil {
		dr.next.MaxLive = *e.MaxLive
	}
	fields := map[string]any{}
	for k, v := range coerce(d.TargetFields, dr.next.Fields) {
		fields[k] = v
	}
	before := contract.Values(fields).WithDefaults(nil)
	for _, k := range e.Clear {
		delete(fields, k)
	}
	for k, v := range e.Set {
		fields[k] = v
	}
	dr.next.Fields = fields
	dr.touched = dr.old == nil || !reflect.DeepEqual(map[string]any(before), fields) || len(e.Secrets) > 0
	for _, f := range d.TargetFields {
		if f.Where && !reflect.DeepEqual(before[f.Name], fields[f.Name]) {
			dr.moved = dr.old != nil
		}
	}
	current := map[string]string{}
	if !dr.moved {
		for k, v := range dr.secrets.Current {
			current[k] = v
		}
	}
	for k, v := range e.Secrets {
		current[k] = v.Reveal()
		if v.Empty() {
			delete(current, k)
		}
	}
	dr.secrets.Current = current
	return nil
}

func (a *Access) types() string {
	out := ""
	for i, t := range contract.SortedKeys(a.descriptors) {
		if i > 0 {
			out += ", "
		}
		out += t
	}
	return out
}

func (a *Access) checkTarget(dr *draftTarget, e TargetEdit) error {
	var p fault.Problems
	for _, k := range contract.SortedKeys(e.Set) {
		if !slices.ContainsFunc(dr.d.TargetFields, func(f contract.Field) bool { return f.Name == k && !f.Secret }) {
			p.Addf(k, "is no field of a target of type %s", dr.d.Type)
		}
	}
	for _, k := range contract.SortedKeys(e.Secrets) {
		if !slices.ContainsFunc(dr.d.TargetFields, func(f contract.Field) bool { return f.Name == k && f.Secret }) {
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
	if dr.d.CheckTarget != nil {
		dr.report = dr.d.CheckTarget(a.providers.env, a.contractTarget(dr))
		for _, x := range dr.report.Problems {
			if dr.moved && len(e.Secrets) == 0 && isSecret(dr.d, x.Field) {
				p.Add(x.Field, "must be given again: this write changes where or to whom we speak")
				continue
			}
			p.Add(x.Field, x.Text)
		}
	}
	return p.Err()
}

func isSecret(d contract.Descriptor, field string) bool {
	return slices.ContainsFunc(d.TargetFields, func(f contract.Field) bool { return f.Name == field && f.Secret })
}

func (a *Access) contractTarget(dr *draftTarget) contract.Target {
	return contract.Target{
		Name: dr.next.Name, Fields: contract.Values(dr.next.Fields).WithDefaults(dr.d.TargetFields),
		Secrets: store.Reveal(dr.secrets.Current),
	}
}

// readPlace asks the target which place it is. It cannot change while
// credentials live there.
func (a *Access) readPlace(ctx context.Context, dr *draftTarget) error {
	ctx, cancel := context.WithTimeout(ctx, undoBudget)
	defer cancel()
	inst, err := dr.d.New(a.providers.env, a.contractTarget(dr))
	if err != nil {
		return providerFault(err)
	}
	place, err := inst.Place(ctx)
	if self, ok := inst.(contract.SelfIdentifier); ok && err == nil {
		dr.next.Selves = self.SelfEntities()
	}
	if cerr := inst.Close(); cerr != nil {
		a.log.Warn("closing a target's connection failed", "target", dr.next.Name)
	}
	if err != nil {
		return providerFault(err)
	}
	if dr.old != nil && dr.old.Place != place && a.index.restAt(dr.next.Name) > 0 {
		return fault.New(fault.Conflict, fault.CodePlace,
			"the target would be another place, and credentials are still alive at the old one", nil).
			With("live_credentials", a.index.restAt(dr.next.Name))
	}
	dr.next.Place = place
	return nil
}

func (a *Access) targetEffect(dr *draftTarget, o EditOptions) (Effect, error) {
	if dr.old == nil {
		return Effect{Created: true}, nil
	}
	if dr.old.Revision() == dr.next.Revision() {
		return Effect{}, nil
	}
	var eff Effect
	if dr.old.Place != dr.next.Place {
		eff.SecurityChanged = append(eff.SecurityChanged, "place")
	}
	old := coerce(dr.d.TargetFields, dr.old.Fields)
	for _, f := range dr.d.TargetFields {
		if !reflect.DeepEqual(old[f.Name], dr.next.Fields[f.Name]) {
			eff.SecurityChanged = append(eff.SecurityChanged, f.Name)
		}
	}
	return a.countEffect(eff, a.index.ofTarget(dr.next.Name), o)
}

// putTarget stores the draft unless somebody else wrote meanwhile.
func (a *Access) putTarget(ctx context.Context, name string, dr *draftTarget) error {
	return a.store.WithTarget(name, func(tx *store.TargetTx) error {
		cur, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		if (cur == nil) != (dr.old == nil) || cur != nil && cur.Revision() != dr.old.Revision() {
			return fault.New(fault.Conflict, fault.CodeBusy, "busy: somebody else wrote this target at the same moment; try again", nil).
				With("poll_after_seconds", 1)
		}
		var s *store.Secrets
		if dr.touched {
			s = &dr.secrets
		}
		return tx.Put(ctx, dr.next, s)
	})
}

// DeleteTarget removes a target that no role names and where nothing of ours
// is left. Deleting an unknown one changes nothing.
func (a *Access) DeleteTarget(ctx context.Context, name string, dry bool) error {
	if err := a.indexed(ctx); err != nil {
		return err
	}
	names, err := a.store.Roles(ctx, "", 0)
	if err != nil {
		return err
	}
	users := []string{}
	for _, n := range names {
		role, err := a.store.Role(ctx, n)
		if err != nil {
			return err
		}
		if role != nil && role.Target == name {
			users = append(users, n)
		}
	}
	return a.store.WithTarget(name, func(tx *store.TargetTx) error {
		t, err := tx.Get(ctx)
		if err != nil || t == nil {
			return err
		}
		if rest := a.index.restAt(name); rest > 0 {
			return fault.Newf(fault.Conflict, fault.CodeLive,
				"%d credential(s) of this target are not gone yet: revoke them first", rest).With("live_credentials", rest)
		}
		if len(users) > 0 {
			return fault.Newf(fault.Conflict, fault.CodeInUse, "%d role(s) name this target, %s among them: delete them first", len(users), users[0])
		}
		if dry {
			return nil
		}
		a.providers.forget(name)
		return tx.Delete(ctx)
	})
}

// checkFor is how long an answer of targets/:name/check is good for.
const checkFor = 60 * time.Second

type checked struct {
	at     time.Time
	report contract.CheckReport
	place  string
}

// CheckTarget says who we are at a target and what is missing there. It calls
// the target at most once a minute. nil = no such target.
func (a *Access) CheckTarget(ctx context.Context, name string) (*contract.CheckReport, string, error) {
	t, err := a.store.Target(ctx, name)
	if err != nil || t == nil {
		return nil, "", err
	}
	p, err := a.providers.of(ctx, name)
	if err != nil {
		return nil, "", err
	}
	if c, ok := p.lastCheck(a.now()); ok {
		return &c.report, c.place, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	place, err := p.Place(ctx)
	if err != nil {
		return nil, "", providerFault(err)
	}
	c := checked{at: a.now(), place: place}
	if checker, ok := p.Provider.(contract.Checker); ok {
		specs, err := a.specsOf(ctx, name, p.descriptor)
		if err != nil {
			return nil, "", err
		}
		if c.report, err = checker.Check(ctx, specs); err != nil {
			return nil, "", providerFault(err)
		}
	} else {
		c.report.Unknown = []string{"this type of target cannot check its permissions"}
	}
	if place != t.Place {
		c.report.Warnings = append(c.report.Warnings, "the target is another place than the one it is pinned to: nothing is issued or revoked there")
	}
	p.keepCheck(c)
	return &c.report, place, nil
}

// specsOf are the roles that use a target.
func (a *Access) specsOf(ctx context.Context, target string, d contract.Descriptor) ([]contract.Spec, error) {
	names, err := a.store.Roles(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	var out []contract.Spec
	for _, n := range names {
		role, err := a.store.Role(ctx, n)
		if err != nil {
			return nil, err
		}
		if role != nil && role.Target == target {
			out = append(out, contract.Spec{Role: n, Fields: fieldsOf(d, role.Fields), Params: contract.SortedKeys(role.Params)})
		}
	}
	return out, nil
}
