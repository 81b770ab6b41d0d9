package access

import (
	"context"
	"maps"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// RotateRoot replaces a target's root credential in two phases: the new one is
// on record and proven before the old one dies. A crash in between is cleaned
// up by the next rotation, or at the next start.
func (a *Access) RotateRoot(ctx context.Context, name string) (*TargetView, error) {
	t, err := a.store.Target(ctx, name)
	if err != nil || t == nil {
		return nil, err
	}
	release, ok := a.rotations.try(name)
	if !ok {
		return nil, fault.New(fault.Conflict, fault.CodeBusy, "busy: this target's root credential is being rotated right now", nil).
			With("poll_after_seconds", 5)
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	if err := a.recoverRotation(ctx, name); err != nil {
		return nil, err
	}
	if err := a.rotate(ctx, *t); err != nil {
		return nil, err
	}
	return a.ReadTarget(ctx, name)
}

func (a *Access) rotate(ctx context.Context, t domain.Target) error {
	p, err := a.providers.of(ctx, t.Name)
	if err != nil {
		return err
	}
	rotator, ok := p.Provider.(contract.RootRotator)
	if !ok {
		return fault.Newf(fault.Invalid, fault.CodeInvalid, "a target of type %s cannot rotate its root credential", t.Type)
	}
	id, err := a.newID()
	if err != nil {
		return err
	}
	if err := a.changeSecrets(ctx, t.Name, func(s *store.Secrets) { s.StageID = id }); err != nil {
		return err
	}
	a.step("rotation noted")
	staged, err := rotator.StageRoot(ctx, id)
	if err != nil {
		a.abandon(ctx, t.Name)
		return providerFault(err)
	}
	a.step("rotation staged")
	if err := a.changeSecrets(ctx, t.Name, func(s *store.Secrets) { s.Staged = store.Conceal(staged) }); err != nil {
		a.abandon(ctx, t.Name)
		return err
	}
	if err := a.prove(ctx, t, staged); err != nil {
		a.abandon(ctx, t.Name)
		return err
	}
	err = a.changeSecrets(ctx, t.Name, func(s *store.Secrets) {
		s.Old = s.Current
		s.Current = merged(s.Current, s.Staged)
		s.Staged = nil
	})
	a.providers.forget(t.Name) // a failed write may still have been written
	if err != nil {
		return err
	}
	a.step("rotation switched")
	return a.retire(ctx, t.Name)
}

func merged(base, over map[string]string) map[string]string {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, over)
	return out
}

// prove shows that the new root credential works at the same place.
func (a *Access) prove(ctx context.Context, t domain.Target, staged map[string]secret.String) error {
	s, err := a.store.Secrets(ctx, t.Name)
	if err != nil {
		return err
	}
	inst, err := a.providers.make(t, store.Reveal(merged(s.Current, store.Conceal(staged))))
	if err != nil {
		return err
	}
	defer a.providers.close(inst)
	place, err := inst.Place(ctx)
	if err != nil {
		return providerFault(err)
	}
	if place != t.Place {
		return providerFault(contract.PlaceError("rotate-root"))
	}
	return nil
}

// retire ends the old root credential through the new one.
func (a *Access) retire(ctx context.Context, name string) error {
	s, err := a.store.Secrets(ctx, name)
	if err != nil {
		return err
	}
	p, err := a.providers.of(ctx, name)
	if err != nil {
		return err
	}
	rotator, ok := p.Provider.(contract.RootRotator)
	if !ok {
		return fault.New(fault.Internal, fault.CodeInternal, "the target cannot retire its old root credential", nil)
	}
	if err := rotator.CommitRoot(ctx, s.StageID, store.Reveal(s.Old)); err != nil {
		return providerFault(err)
	}
	a.step("rotation retired")
	now := a.now()
	err = a.changeSecrets(ctx, name, func(s *store.Secrets) { s.Old, s.StageID = nil, "" })
	if err != nil {
		return err
	}
	return a.store.WithTarget(name, func(tx *store.TargetTx) error {
		t, err := tx.Get(ctx)
		if err != nil || t == nil {
			return err
		}
		t.RotatedAt = now
		return tx.Put(ctx, *t, nil)
	})
}

// abandon removes what a rotation that failed has made.
func (a *Access) abandon(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoBudget)
	defer cancel()
	if err := a.recoverRotation(ctx, name); err != nil {
		a.log.Warn("a rotation that failed is cleaned up later", "target", name, "error", err)
	}
}

// recoverRotation finishes or undoes a rotation that a crash or failure left
// half done.
func (a *Access) recoverRotation(ctx context.Context, name string) error {
	s, err := a.store.Secrets(ctx, name)
	if err != nil || s.StageID == "" {
		return err
	}
	if s.Old != nil {
		return a.retire(ctx, name)
	}
	p, err := a.providers.of(ctx, name)
	if err != nil {
		return err
	}
	if rotator, ok := p.Provider.(contract.RootRotator); ok {
		if err := rotator.AbandonRoot(ctx, s.StageID, store.Reveal(s.Staged)); err != nil {
			return providerFault(err)
		}
	}
	err = a.changeSecrets(ctx, name, func(s *store.Secrets) { s.Staged, s.StageID = nil, "" })
	return err
}

func (a *Access) changeSecrets(ctx context.Context, name string, f func(*store.Secrets)) error {
	return a.store.WithTarget(name, func(tx *store.TargetTx) error {
		s, err := a.store.Secrets(ctx, name)
		if err != nil {
			return err
		}
		f(&s)
		return tx.PutSecrets(ctx, s)
	})
}
