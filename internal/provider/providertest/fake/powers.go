package fake

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// List implements contract.Lister.
func (p *Provider) List(ctx context.Context, yield func(contract.Found) error) error {
	var objects []Object
	place, err := p.Place(ctx)
	if err != nil {
		return err
	}
	err = p.w.do(ctx, call{op: OpList, place: place}, func() (bool, error) {
		for _, o := range p.w.objects {
			if o.Place == place && !o.Standing {
				objects = append(objects, *o)
			}
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	for _, o := range objects {
		h := domain.Handle{Provider: Type, V: version, Target: p.target.Name, Place: o.Place, Credential: o.Credential}
		if o.Kind == kindBinding {
			h.Shared = o.Name
		}
		if h, err = withData(h, data{Kind: o.Kind, Name: o.Name, ID: o.ID}); err != nil {
			return err
		}
		found := contract.Found{Credential: o.Credential, Request: o.Request, Handle: h, What: o.Kind + " " + shownName(o)}
		if err := yield(found); err != nil {
			return err
		}
	}
	return nil
}

// Check implements contract.Checker.
func (p *Provider) Check(ctx context.Context, roles []contract.Spec) (contract.CheckReport, error) {
	if _, err := p.Place(ctx); err != nil {
		return contract.CheckReport{}, err
	}
	levels := map[string]bool{}
	for _, r := range roles {
		levels[r.Fields.String("level")] = true
	}
	policy := "allow levels: " + strings.Join(contract.SortedKeys(levels), " ")
	return contract.CheckReport{
		Identity: "root@" + p.target.Fields.String("address"), Entities: p.SelfEntities(),
		Quotas: map[string]int{"objects": len(p.w.Objects())}, RequiredPolicy: policy,
	}, nil
}

// SelfEntities implements contract.SelfIdentifier.
func (p *Provider) SelfEntities() []string {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return slices.Clone(p.w.self)
}

// StageRoot implements contract.RootRotator.
func (p *Provider) StageRoot(ctx context.Context, id string) (map[string]secret.String, error) {
	if _, err := p.Place(ctx); err != nil {
		return nil, err
	}
	password := "fake-root-" + id
	err := p.w.do(ctx, call{op: OpStage}, func() (bool, error) {
		s := p.w.siteAt(p.target.Fields.String("address"))
		if s.passwords == nil {
			s.passwords = map[string]bool{p.target.Secrets["password"].Reveal(): true}
		}
		s.passwords[password] = true
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return map[string]secret.String{"password": secret.New(password)}, nil
}

// CommitRoot implements contract.RootRotator.
func (p *Provider) CommitRoot(ctx context.Context, _ string, old map[string]secret.String) error {
	if _, err := p.Place(ctx); err != nil {
		return err
	}
	if old["password"] == p.target.Secrets["password"] {
		return errors.New("commit root: the old and the new password are the same")
	}
	return p.retire(ctx, old["password"])
}

// AbandonRoot implements contract.RootRotator. The staged password follows
// from id, so it is found even when the answer of StageRoot was lost.
func (p *Provider) AbandonRoot(ctx context.Context, id string, _ map[string]secret.String) error {
	return p.retire(ctx, secret.New("fake-root-"+id))
}

func (p *Provider) retire(ctx context.Context, password secret.String) error {
	return p.w.do(ctx, call{op: OpRetire}, func() (bool, error) {
		s := p.w.siteAt(p.target.Fields.String("address"))
		changed := s.passwords[password.Reveal()]
		delete(s.passwords, password.Reveal())
		return changed, nil
	})
}
