package azure

import (
	"context"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	rootPrefix = "pim-root-"
	rootLife   = 2 * 365 * 24 * time.Hour // of a new root secret
	hintLength = 3                        // characters of a secret that Entra shows as its hint
)

// rootApplication is the engine's own application, whose passwords are rotated.
func (p *Provider) rootApplication(ctx context.Context, op string) (application, error) {
	if p.config.secret.Empty() {
		return application{}, contract.Refused(op, "not_rotatable", "only a target with client_secret can be rotated")
	}
	if err := p.prove(ctx, op, p.target.Place); err != nil {
		return application{}, err
	}
	app, err := p.graph.applicationBy(ctx, "/applications(appId='"+p.config.client+"')")
	return app, failure(op, err)
}

// StageRoot implements contract.RootRotator: a second password beside the one
// in use. One that an earlier attempt of this id made is replaced, as nobody
// knows it.
func (p *Provider) StageRoot(ctx context.Context, id string) (map[string]secret.String, error) {
	const op = "stage root secret"
	if !domain.ValidID(id) {
		return nil, contract.BadHandle(op, "names no rotation")
	}
	app, err := p.rootApplication(ctx, op)
	if err != nil {
		return nil, err
	}
	if err := p.dropNamed(ctx, app, rootPrefix+id); err != nil {
		return nil, failure(op, err)
	}
	made, err := p.graph.addPassword(ctx, app.ID, rootPrefix+id, p.env.Clock.Now().Add(rootLife))
	if err != nil {
		return nil, failure(op, err)
	}
	return map[string]secret.String{"client_secret": secret.New(made.Text)}, nil
}

// CommitRoot implements contract.RootRotator. This instance has logged in with
// the new secret when it has proved its place; the old one is then removed.
func (p *Provider) CommitRoot(ctx context.Context, id string, old map[string]secret.String) error {
	const op = "commit root secret"
	if !domain.ValidID(id) {
		return contract.BadHandle(op, "names no rotation")
	}
	app, err := p.rootApplication(ctx, op)
	if err != nil {
		return err
	}
	key, err := oldKey(app.Passwords, rootPrefix+id, old["client_secret"])
	if err != nil || key == "" {
		return err
	}
	return failure(op, p.graph.removePassword(ctx, app.ID, key))
}

// oldKey finds the password to remove: the one that begins as the old secret
// does. "" = it is gone already.
func oldKey(list []password, staged string, old secret.String) (string, error) {
	text, key := old.Reveal(), ""
	if len(text) < hintLength {
		return "", contract.Refused("commit root secret", "no_old_secret", "the old secret is not known")
	}
	for _, pw := range list {
		if pw.DisplayName == staged || pw.Hint != text[:hintLength] || !guidForm.MatchString(pw.KeyID) {
			continue
		}
		if key != "" {
			return "", contract.Refused("commit root secret", "ambiguous", "several passwords of the engine's application begin alike; remove the old one by hand")
		}
		key = pw.KeyID
	}
	return key, nil
}

// AbandonRoot implements contract.RootRotator.
func (p *Provider) AbandonRoot(ctx context.Context, id string, _ map[string]secret.String) error {
	const op = "abandon root secret"
	if !domain.ValidID(id) {
		return contract.BadHandle(op, "names no rotation")
	}
	app, err := p.rootApplication(ctx, op)
	if err != nil {
		return err
	}
	return failure(op, p.dropNamed(ctx, app, rootPrefix+id))
}

func (p *Provider) dropNamed(ctx context.Context, app application, name string) error {
	for _, pw := range app.Passwords {
		if !strings.EqualFold(pw.DisplayName, name) || !guidForm.MatchString(pw.KeyID) {
			continue
		}
		if err := p.graph.removePassword(ctx, app.ID, pw.KeyID); err != nil {
			return err
		}
	}
	return nil
}
