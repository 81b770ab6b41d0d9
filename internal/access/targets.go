package access

import (
	"context"
	"reflect"
	"slices"

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
		Target: t, Fields: coerce(d.TargetFields, t.All()).WithDefaults(nonSecret(d.TargetFields)),
		SecretsSet: contract.SortedKeys(s.Current), Live: a.index.liveAt(t.Name),
	}, nil
}

func nonSecret(fields []contract.Field) []contract.Field {
	return slices.DeleteFunc(slices.Clone(fields), func(f contract.Field) bool { return f.Secret })
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
	if err := asProposed(dr, o); err != nil {
		return nil, err
	}
	by := a.editor(ctx, c)
	eff, err := a.putTarget(ctx, by, dr, o)
	if !o.DryRun {
		a.providers.forget(name) // a failed write may still have been written
	}
	if err != nil {
		return nil, err
	}
	if !o.DryRun {
		a.publications.try(ctx, name)
		a.voidOutdated(ctx, by.Party, a.index.ofTarget(name), eff)
	}
	v, err := a.targetView(dr.next, dr.secrets)
	if err == nil {
		v.Effect, v.Warnings = eff, dr.report.Warnings
	}
	return v, err
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
	if err == nil {
		err = a.samePlace(dr, place)
	}
	if err == nil {
		err = a.readSelves(ctx, dr, inst)
	}
	if cerr := inst.Close(); cerr != nil {
		a.log.Warn("closing a target's connection failed", "target", dr.next.Name)
	}
	if err != nil {
		return providerFault(err)
	}
	dr.next.Place = place
	return nil
}

// samePlace refuses another place than the one that the target is pinned to
// while credentials live there, and without a secret in the same write: the
// stored one is shown to no other place.
func (a *Access) samePlace(dr *draftTarget, place string) error {
	if dr.old == nil || dr.old.Place == place {
		return nil
	}
	if rest := a.index.restAt(dr.next.Name); rest > 0 {
		return fault.New(fault.Conflict, fault.CodePlace,
			"the target would be another place, and credentials are still alive at the old one", nil).
			With("live_credentials", rest)
	}
	if !dr.given {
		return fault.New(fault.Conflict, fault.CodePlace,
			"the target would be another place: a write that means it must carry the secret again", nil)
	}
	return nil
}

// readSelves logs in where the target is the host itself, to learn which
// entities our own login has: they never request, approve or read.
func (a *Access) readSelves(ctx context.Context, dr *draftTarget, inst contract.Provider) error {
	self, ok := inst.(contract.SelfIdentifier)
	if !ok {
		return nil
	}
	if checker, ok := inst.(contract.Checker); ok {
		specs, err := a.specsOf(ctx, dr.next.Name, dr.d)
		if err != nil {
			return err
		}
		report, err := checker.Check(ctx, specs)
		if err != nil {
			return err
		}
		dr.next.Selves = report.Entities
		for _, line := range report.Missing {
			dr.report.Warnf("the login lacks a permission: %s", line)
		}
		dr.report.Warnings = append(dr.report.Warnings, report.Warnings...)
	}
	for _, id := range self.SelfEntities() {
		if !slices.Contains(dr.next.Selves, id) {
			dr.next.Selves = append(dr.next.Selves, id)
		}
	}
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
	old := coerce(dr.d.TargetFields, dr.old.All())
	for _, f := range dr.d.TargetFields {
		if !f.Free && !reflect.DeepEqual(old[f.Name], dr.next.Fields[f.Name]) {
			eff.SecurityChanged = append(eff.SecurityChanged, f.Name)
		}
	}
	return a.countEffect(eff, a.index.ofTarget(dr.next.Name), o)
}

// putTarget stores the draft unless somebody else wrote meanwhile. What it means
// for live credentials is worked out under the lock: nothing is issued there
// meanwhile.
func (a *Access) putTarget(ctx context.Context, by editor, dr *draftTarget, o EditOptions) (Effect, error) {
	var eff Effect
	err := a.store.WithTarget(dr.next.Name, func(tx *store.TargetTx) error {
		cur, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		if (cur == nil) != (dr.old == nil) || cur != nil && cur.Revision() != dr.old.Revision() {
			return fault.New(fault.Conflict, fault.CodeBusy, "busy: somebody else wrote this target at the same moment; try again", nil).
				With("poll_after_seconds", 1)
		}
		if err := a.confirming(ctx, o, func(p domain.Proposal) domain.Fit { return p.FitTarget(cur) }); err != nil {
			return err
		}
		if err := a.samePlace(dr, dr.next.Place); err != nil {
			return err
		}
		if eff, err = a.targetEffect(dr, o); err != nil {
			return err
		}
		if wait, err := a.needsSecond(ctx, o, dr.security()); err != nil || wait {
			if wait {
				eff.Created, eff.Revoked = false, false
				eff.Proposed, err = a.propose(ctx, by, dr.proposal(), o)
			}
			return err
		}
		if o.DryRun {
			return nil
		}
		if err := a.revokeLive(ctx, by.Party, a.index.ofTarget(dr.next.Name), eff); err != nil {
			return err
		}
		var s *store.Secrets
		if dr.touched {
			s = &dr.secrets
		}
		dr.next.Editors = a.editors(dr.next.Editors, by, o)
		if err := tx.Put(ctx, dr.next, s); err != nil {
			return err
		}
		return a.confirmed(ctx, o)
	})
	return eff, err
}

// DeleteTarget removes a target that no role names and where nothing of ours
// is left. Deleting an unknown one changes nothing.
func (a *Access) DeleteTarget(ctx context.Context, c Caller, name string, o EditOptions) (Effect, error) {
	var eff Effect
	if err := a.indexed(ctx); err != nil {
		return eff, err
	}
	by := a.editor(ctx, c)
	return eff, a.store.WithTarget(name, func(tx *store.TargetTx) error {
		t, err := tx.Get(ctx)
		if err != nil {
			return err
		}
		if err := a.confirming(ctx, o, func(p domain.Proposal) domain.Fit { return p.FitTarget(t) }); err != nil {
			return err
		}
		if t == nil {
			return a.confirmed(ctx, o)
		}
		if rest := a.index.restAt(name); rest > 0 {
			return fault.Newf(fault.Conflict, fault.CodeLive,
				"%d credential(s) of this target are not gone yet: revoke them first", rest).With("live_credentials", rest)
		}
		users, err := a.usersOf(ctx, name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return fault.Newf(fault.Conflict, fault.CodeInUse, "%d role(s) name this target, %s among them: delete them first", len(users), users[0])
		}
		if wait, err := a.needsSecond(ctx, o, true); err != nil || wait {
			if wait {
				eff.Proposed, err = a.propose(ctx, by, store.Proposal{Proposal: domain.Proposal{
					Kind: domain.EditTarget, Name: name, Target: &domain.Change[domain.Target]{From: t},
				}}, o)
			}
			return err
		}
		if o.DryRun {
			return nil
		}
		a.providers.forget(name)
		if err := tx.Delete(ctx); err != nil {
			return err
		}
		return a.confirmed(ctx, o)
	})
}

// rolesOf names the roles that get their credentials at a target.
func (a *Access) rolesOf(ctx context.Context, target string) ([]string, error) {
	return a.rolesWhere(ctx, func(r domain.Role) bool { return r.Target == target })
}

func (a *Access) rolesWhere(ctx context.Context, is func(domain.Role) bool) ([]string, error) {
	names, err := a.store.Roles(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range names {
		role, err := a.store.Role(ctx, n)
		if err != nil {
			return nil, err
		}
		if role != nil && is(*role) {
			out = append(out, n)
		}
	}
	return out, nil
}
