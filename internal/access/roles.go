package access

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Live says what a security edit does to live credentials.
type Live string

// The answers to live=.
const (
	LiveUnsaid Live = ""
	LiveKeep   Live = "keep"
	LiveRevoke Live = "revoke"
)

// EditOptions go with every edit of a role or target.
type EditOptions struct {
	Live   Live
	DryRun bool

	confirms *store.Proposal // another person's proposal, which this edit puts in force
	author   *editor         // who proposes it, where that is not who calls
	// narrows marks an edit that does nothing but remove principals: what else is
	// wrong with the role does not keep it from that.
	narrows bool
	// seconded marks one that another person than its author has agreed to.
	seconded bool
}

// excuses tells whether what is wrong with a role does not matter to the edit.
func (o EditOptions) excuses(next domain.Role, err error) bool {
	return o.narrows && next.HasEligible() && fault.From(err).Kind == fault.Invalid
}

// Effect says what an edit does, or would do.
type Effect struct {
	Created         bool
	SecurityChanged []string // names of changed security fields
	Voided          int      // open requests that become void
	Live            int      // live credentials concerned
	Revoked         bool
	Proposed        Proposed // with edit_sod: it waits for another person
}

// RoleView is a role with everything computed about it.
type RoleView struct {
	Role       domain.Role
	Fields     contract.Values
	Type       string
	Revocation domain.Revocation
	Warnings   []string
	Effect     Effect
}

// RoleEdit is a merge write: Core changes a copy of the core fields, Set and
// Clear name provider fields.
type RoleEdit struct {
	Core  func(*domain.Role)
	Set   contract.Values
	Clear []string
}

// ReadRole reads a role; nil = none.
func (a *Access) ReadRole(ctx context.Context, name string) (*RoleView, error) {
	role, err := a.store.Role(ctx, name)
	if err != nil || role == nil {
		return nil, err
	}
	return a.roleView(ctx, role)
}

func (a *Access) roleView(ctx context.Context, role *domain.Role) (*RoleView, error) {
	v := &RoleView{Role: *role, Revocation: a.revocationOf(ctx, role, role.Target)}
	t, err := a.store.Target(ctx, role.Target)
	if err != nil {
		return nil, err
	}
	if t != nil {
		v.Type = t.Type
		if d, ok := a.descriptors[t.Type]; ok {
			v.Fields = fieldsOf(d, role.All())
		}
	}
	v.Warnings = warnings(*role, v.Revocation)
	return v, nil
}

// RoleNames lists role names.
func (a *Access) RoleNames(ctx context.Context, after string, limit int) ([]string, error) {
	return a.store.Roles(ctx, after, limit)
}

// WriteRole changes the named fields of a role and validates the whole result.
func (a *Access) WriteRole(ctx context.Context, c Caller, name string, e RoleEdit, o EditOptions) (*RoleView, error) {
	if !domain.ValidName(name) {
		return nil, errName("role")
	}
	if err := a.indexed(ctx); err != nil {
		return nil, err
	}
	guarded, err := a.guardSelf(ctx, name, e)
	if err != nil {
		return nil, err
	}
	var out *RoleView
	by := a.editor(ctx, c)
	err = a.withRole(name, func(tx roleTx) error {
		old, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		if err := a.confirming(ctx, o, func(p domain.Proposal) domain.Fit { return p.FitRole(old) }); err != nil {
			return err
		}
		next, err := a.editedRole(ctx, name, old, e)
		if err != nil {
			return err
		}
		return a.store.SharedTarget(next.Target, func() error {
			report, err := a.checkRole(ctx, next)
			if err != nil && !o.excuses(*next, err) {
				return err
			}
			eff, err := a.putRole(ctx, tx, by, old, *next, o)
			if err != nil {
				return err
			}
			if out, err = a.roleView(ctx, next); err == nil {
				out.Effect = eff
				out.Warnings = append(append(out.Warnings, report.Warnings...), guarded...)
			}
			return err
		})
	})
	if err == nil && !o.DryRun {
		a.voidOutdated(ctx, by.Party, a.index.ofRole(name), out.Effect)
	}
	return out, err
}

// putRole works out what an edit means, and stores the role, or the proposal of
// it. It runs under the role's lock.
func (a *Access) putRole(ctx context.Context, tx roleTx, by editor, old *domain.Role, next domain.Role, o EditOptions) (Effect, error) {
	eff, err := a.roleEffect(old, next, o)
	if err != nil {
		return eff, err
	}
	wait, err := a.needsSecond(ctx, o, eff.Created || len(eff.SecurityChanged) > 0)
	if err != nil {
		return eff, err
	}
	if wait {
		eff.Created, eff.Revoked = false, false
		eff.Proposed, err = a.propose(ctx, by, store.Proposal{Proposal: domain.Proposal{
			Kind: domain.EditRole, Name: next.Name, Role: &domain.Change[domain.Role]{From: old, To: &next},
		}}, o)
		return eff, err
	}
	if o.DryRun {
		return eff, nil
	}
	if eff.Created || !reflect.DeepEqual(*old, next) {
		if err := a.revokeLive(ctx, by.Party, a.index.ofRole(next.Name), eff); err != nil {
			return eff, err
		}
		if eff.Created || len(eff.SecurityChanged) > 0 {
			next.Editors = a.editors(next.Editors, by, o)
		}
		if err := tx.Put(ctx, next); err != nil {
			return eff, err
		}
	}
	return eff, a.confirmed(ctx, o)
}

func errName(what string) error {
	return fault.Newf(fault.Invalid, fault.CodeInvalid,
		"invalid input: name: a %s's name is 1 to 63 of a-z, 0-9 and -, and neither starts nor ends with -", what)
}

// editedRole merges an edit into a role, or into the defaults of a new one.
func (a *Access) editedRole(ctx context.Context, name string, old *domain.Role, e RoleEdit) (*domain.Role, error) {
	var next domain.Role
	if old != nil {
		next = *old
	} else {
		id, err := a.newID()
		if err != nil {
			return nil, err
		}
		next = domain.NewRole(name, id)
	}
	fields := next.All()
	for _, k := range e.Clear {
		delete(fields, k)
	}
	maps.Copy(fields, e.Set)
	e.Core(&next)
	declared, err := a.roleFieldsOf(ctx, next.Target)
	if err != nil {
		return nil, err
	}
	next.Fields, next.Free = splitFree(declared, fields)
	if old != nil && reflect.DeepEqual(old.Pins, next.Pins) {
		next.Pins = keptPins(&next)
	}
	return &next, nil
}

// roleFieldsOf are the fields that a target's type declares for roles; none
// for a target that does not exist.
func (a *Access) roleFieldsOf(ctx context.Context, target string) ([]contract.Field, error) {
	t, err := a.store.Target(ctx, target)
	if err != nil || t == nil {
		return nil, err
	}
	d, err := a.descriptorOf(t)
	return d.RoleFields, err
}

// keptPins drops what was learnt about groups that the role no longer names.
func keptPins(r *domain.Role) map[string]string {
	var out map[string]string
	for name, id := range r.Pins {
		if slices.Contains(r.GroupRefs(), name) {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = id
		}
	}
	return out
}

// checkRole reports everything wrong with a whole role at once.
func (a *Access) checkRole(ctx context.Context, r *domain.Role) (contract.Report, error) {
	var p fault.Problems
	for _, x := range r.Problems() {
		p.Add(x.Field, x.Text)
	}
	a.checkConditions(&p, r)
	if r.ObserveUntil.After(a.now().Add(domain.LimitObserve)) {
		p.Add("observe_until", "is more than 90 days ahead")
	}
	if err := a.checkOwner(ctx, &p, r); err != nil {
		return contract.Report{}, err
	}
	if err := a.checkTokenTarget(ctx, &p, r); err != nil {
		return contract.Report{}, err
	}
	var report contract.Report
	if !domain.ValidName(r.Target) {
		return report, p.Err() // said above; there is nothing that could be read
	}
	t, err := a.store.Target(ctx, r.Target)
	if err != nil {
		return report, err
	}
	switch {
	case t == nil:
		p.Add("target", "does not exist")
	case len(t.AllowedRoles) > 0 && !matchesAny(t.AllowedRoles, r.Name):
		p.Add("target", "its allowed_roles do not allow a role of this name")
	default:
		if report, err = a.checkFields(ctx, &p, r, *t); err != nil {
			return report, err
		}
	}
	return report, p.Err()
}

func (a *Access) checkFields(ctx context.Context, p *fault.Problems, r *domain.Role, t domain.Target) (contract.Report, error) {
	d, err := a.descriptorOf(&t)
	if err != nil {
		return contract.Report{}, err
	}
	for _, name := range contract.SortedKeys(r.All()) {
		if !slices.ContainsFunc(d.RoleFields, func(f contract.Field) bool { return f.Name == name }) {
			p.Addf(name, "is no field of a role whose target is of type %s", t.Type)
		}
	}
	inst, err := a.providers.of(ctx, t.Name)
	if err != nil {
		return contract.Report{}, err
	}
	fields := fieldsOf(d, r.All())
	if _, can := inst.Provider.(contract.RootRotator); r.BreakGlassRotate && !can {
		p.Addf("break_glass_rotate", "a target of type %s cannot rotate its root credential", t.Type)
	}
	report := inst.Validate(ctx, contract.Spec{Role: r.Name, Fields: fields, Params: contract.SortedKeys(r.Params)}, false)
	for _, x := range report.Problems {
		p.Add(x.Field, x.Text)
	}
	if !report.OK() {
		return report, nil
	}
	rev := d.Revocation(fields)
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return report, err
	}
	for _, want := range []domain.Class{r.MinRevocation, cfg.MinRevocation} {
		if want != "" && rev.Class.WeakerThan(want) {
			p.Addf("min_revocation", "asks for %s, but this role's credentials end only as %s", want, rev.Class)
			break
		}
	}
	if limits := d.Limits(fields); limits.MinTTL > 0 && r.MaxTTL.Duration() < limits.MinTTL {
		p.Addf("max_ttl", "is shorter than the %s that the target can make", limits.MinTTL)
	}
	return report, nil
}

// matchesAny matches a name against patterns with * for any run of characters.
func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return domain.MatchName(p, name) })
}

// roleEffect says what the edit means for what is open and live, and insists
// that a security edit with live credentials says what happens to them.
func (a *Access) roleEffect(old *domain.Role, next domain.Role, o EditOptions) (Effect, error) {
	if old == nil {
		return Effect{Created: true}, nil
	}
	eff := Effect{SecurityChanged: changedFields(*old, next)}
	if len(eff.SecurityChanged) == 0 || old.Revision() == next.Revision() {
		eff.SecurityChanged = nil
		return eff, nil
	}
	return a.countEffect(eff, a.index.ofRole(next.Name), o)
}

func (a *Access) countEffect(eff Effect, rows []row, o EditOptions) (Effect, error) {
	for _, r := range rows {
		if r.state == domain.Pending || r.state == domain.Scheduled {
			eff.Voided++
		}
		eff.Live += int(r.live)
	}
	eff.Revoked = eff.Live > 0 && o.Live == LiveRevoke
	if eff.Live > 0 && o.Live == LiveUnsaid && !o.DryRun {
		return eff, fault.Newf(fault.Conflict, fault.CodeLive,
			"%d live credential(s) are concerned: say live=keep or live=revoke", eff.Live).
			With("live_credentials", eff.Live)
	}
	return eff, nil
}

// changedFields names the security fields in which two roles differ.
func changedFields(a, b domain.Role) []string {
	var out []string
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	free := map[string]bool{"description": true, "owner": true, "labels": true, "pins": true, "editors": true, "fields": true, "free": true}
	if a.JudgedByItself() || b.JudgedByItself() {
		delete(free, "owner")
		delete(free, "labels")
	}
	for i := range va.NumField() {
		name, _, _ := strings.Cut(va.Type().Field(i).Tag.Get("json"), ",")
		if va.Type().Field(i).Anonymous {
			out = append(out, differing(va.Field(i), vb.Field(i))...)
			continue
		}
		if !free[name] && !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			out = append(out, name)
		}
	}
	keys := map[string]bool{}
	for k := range a.Fields {
		keys[k] = true
	}
	for k := range b.Fields {
		keys[k] = true
	}
	for _, k := range contract.SortedKeys(keys) {
		if fmt.Sprint(a.Fields[k]) != fmt.Sprint(b.Fields[k]) {
			out = append(out, k)
		}
	}
	return out
}

// differing names the fields in which two structs of one type differ.
func differing(a, b reflect.Value) []string {
	var out []string
	for i := range a.NumField() {
		name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			out = append(out, name)
		}
	}
	return out
}

// DeleteRole removes a role. Open requests become void; live credentials
// follow live=. Deleting an unknown one changes nothing.
func (a *Access) DeleteRole(ctx context.Context, c Caller, name string, o EditOptions) (Effect, error) {
	if err := a.indexed(ctx); err != nil {
		return Effect{}, err
	}
	var eff Effect
	by := a.editor(ctx, c)
	err := a.withRole(name, func(tx roleTx) error {
		old, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		if err := a.confirming(ctx, o, func(p domain.Proposal) domain.Fit { return p.FitRole(old) }); err != nil {
			return err
		}
		if old == nil {
			return a.confirmed(ctx, o)
		}
		eff, err = a.dropRole(ctx, tx, by, *old, o)
		return err
	})
	if err == nil && !o.DryRun {
		a.voidOutdated(ctx, by.Party, a.index.ofRole(name), eff)
	}
	return eff, err
}

// dropRole deletes a role, or proposes to. It runs under the role's lock.
func (a *Access) dropRole(ctx context.Context, tx roleTx, by editor, old domain.Role, o EditOptions) (Effect, error) {
	eff, err := a.countEffect(Effect{SecurityChanged: []string{"role"}}, a.index.ofRole(old.Name), o)
	if err != nil {
		return eff, err
	}
	wait, err := a.needsSecond(ctx, o, true)
	if err != nil {
		return eff, err
	}
	if wait {
		eff.Revoked = false
		eff.Proposed, err = a.propose(ctx, by, store.Proposal{Proposal: domain.Proposal{
			Kind: domain.EditRole, Name: old.Name, Role: &domain.Change[domain.Role]{From: &old},
		}}, o)
		return eff, err
	}
	if o.DryRun {
		return eff, nil
	}
	if err := a.revokeLive(ctx, by.Party, a.index.ofRole(old.Name), eff); err != nil {
		return eff, err
	}
	if err := tx.Delete(ctx); err != nil {
		return eff, err
	}
	return eff, a.confirmed(ctx, o)
}

// warnings are what a role's author should know though nothing is wrong.
func warnings(r domain.Role, rev domain.Revocation) []string {
	var out []string
	if !r.AutoApprove {
		if groups, entities := r.ApproverRefs(); len(groups) == 0 && len(entities) < 2 {
			out = append(out, "fewer than two people can approve")
		}
		for _, g := range r.GroupRefs() {
			if r.Pins[g] == "" && !domain.LooksLikeID(g) {
				out = append(out, "no member of the group "+domain.Printable(g)+" has been seen yet: check its name")
			}
		}
	}
	if rev.Class.WeakerThan(domain.Immediate) {
		out = append(out, "revocation is weaker than immediate: "+string(rev.Class))
	}
	if r.WrapTTL > 0 {
		out = append(out, "clients that template (Agent and the like) cannot read wrapped answers")
	}
	slices.Sort(out)
	return slices.Compact(out)
}
