package access_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// guarded is a target whose provider looks at roles while they are written.
type guarded struct {
	contract.Provider
	look func(context.Context, contract.Spec) contract.Report
}

// GuardSelf implements contract.SelfGuard.
func (g guarded) GuardSelf(ctx context.Context, spec contract.Spec) contract.Report {
	return g.look(ctx, spec)
}

// guardedMount has a target "vault" whose provider asks look, beside the usual one.
func guardedMount(t *testing.T, look func(ctx context.Context, m *mount, spec contract.Spec) contract.Report) *mount {
	t.Helper()
	m := bare(t)
	d := m.world.Descriptor()
	open := d.New
	d.Type = "guarded"
	d.New = func(env contract.Env, target contract.Target) (contract.Provider, error) {
		p, err := open(env, target)
		return guarded{p, func(ctx context.Context, spec contract.Spec) contract.Report { return look(ctx, m, spec) }}, err
	}
	m.more = []contract.Descriptor{d}
	m.a.Stop()
	m.boot()
	m.target("site", "one")
	typ := d.Type
	m.must(onlyErr(m.a.WriteTarget(t.Context(), access.Caller{}, "vault", access.TargetEdit{
		Type: &typ, Set: contract.Values{"address": "two"}, Secrets: map[string]secret.String{"password": secret.New("root-of-two")},
	}, access.EditOptions{})))
	return m
}

// onVault puts a role on the guarded target.
func onVault(r *domain.Role) {
	r.Target, r.EligibleGroups, r.ApproverGroups = "vault", []string{"engineers"}, []string{"leads"}
}

func TestARoleThatReachesTheEngineIsNotWritten(t *testing.T) {
	t.Parallel()
	m := guardedMount(t, func(_ context.Context, _ *mount, spec contract.Spec) (r contract.Report) {
		switch spec.Fields.String("level") {
		case "engine":
			r.Addf("level", "is one of the engine's own identity")
		case "hidden":
			r.Warnf("who holds the level could not be found out")
		}
		return r
	})
	write := func(name, level string, core func(*domain.Role), o access.EditOptions) (*access.RoleView, error) {
		return m.a.WriteRole(m.Context(), access.Caller{}, name, access.RoleEdit{Core: core, Set: contract.Values{"level": level}}, o)
	}
	_, err := write("reach", "engine", onVault, access.EditOptions{})
	f := m.refused(err, fault.CodeInvalid)
	if problems, _ := f.Data["problems"].([]string); !slices.Equal(problems, []string{"level: is one of the engine's own identity"}) {
		t.Errorf("%v", f.Data)
	}
	_, err = write("reach", "engine", onVault, access.EditOptions{DryRun: true})
	m.refused(err, fault.CodeInvalid)
	if m.disk.value("role/reach") != nil {
		t.Error("it was written in spite of that")
	}
	view, err := write("admin", "hidden", onVault, access.EditOptions{})
	m.must(err)
	if !slices.Contains(view.Warnings, "who holds the level could not be found out") {
		t.Errorf("warnings: %v", view.Warnings)
	}
	// An edit is looked at as it would make the role, whatever it names.
	_, err = write("admin", "engine", func(*domain.Role) {}, access.EditOptions{})
	m.refused(err, fault.CodeInvalid)
	_, err = write("other", "engine", func(r *domain.Role) { onVault(r); r.Target = "site" }, access.EditOptions{})
	m.must(err) // that target's provider looks at nothing
	_, err = m.edit("other", access.LiveKeep, func(r *domain.Role) { r.Target = "vault" })
	m.refused(err, fault.CodeInvalid)
}

func TestTheTargetIsAskedOnlyAboutRolesThatCanBe(t *testing.T) {
	t.Parallel()
	asked := 0
	m := guardedMount(t, func(context.Context, *mount, contract.Spec) (r contract.Report) { asked++; return r })
	for name, row := range map[string]struct {
		fields contract.Values
		edit   func(*domain.Role)
	}{
		"fields that are not valid":   {contract.Values{"level": "self"}, onVault},
		"a target that is not there":  {contract.Values{"level": "admin"}, func(r *domain.Role) { onVault(r); r.Target = "nowhere" }},
		"a target that looks at none": {contract.Values{"level": "self"}, func(r *domain.Role) { onVault(r); r.Target = "site" }},
	} {
		_, err := m.a.WriteRole(m.Context(), access.Caller{}, "admin", access.RoleEdit{Core: row.edit, Set: row.fields}, access.EditOptions{})
		m.refused(err, fault.CodeInvalid)
		if asked != 0 {
			t.Errorf("%s: the target was asked", name)
		}
	}
}

func TestTheTargetIsAskedWithoutALockAndWithABound(t *testing.T) {
	t.Parallel()
	within := false
	m := guardedMount(t, func(ctx context.Context, m *mount, spec contract.Spec) (r contract.Report) {
		if within {
			return r
		}
		within = true
		if end, ok := ctx.Deadline(); !ok || end.Sub(clock.System{}.Now()) > 10*time.Second {
			t.Errorf("the look ends at %v (%v)", end, ok)
		}
		// The same role and target are written meanwhile, by somebody else.
		m.must(onlyErr(m.a.WriteRole(ctx, access.Caller{}, spec.Role, access.RoleEdit{
			Core: onVault, Set: contract.Values{"level": "reader"},
		}, access.EditOptions{})))
		return r
	})
	m.must(onlyErr(m.a.WriteRole(m.Context(), access.Caller{}, "admin", access.RoleEdit{
		Core: onVault, Set: contract.Values{"level": "admin"},
	}, access.EditOptions{})))
	if !within {
		t.Fatal("the target was not asked")
	}
	view, err := m.a.ReadRole(t.Context(), "admin")
	m.must(err)
	if view.Fields.String("level") != "admin" {
		t.Errorf("the later write did not win: %v", view.Fields)
	}
}
