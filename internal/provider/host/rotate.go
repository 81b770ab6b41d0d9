package host

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

var _ contract.RootRotator = (*Provider)(nil)

// rotationTag is the metadata by which a staged secret_id is found again when
// the answer that held it was lost.
const rotationTag = "pim_rotation"

// rolePath is the path of the login's AppRole, or "" when its name is not
// known.
func (p *Provider) rolePath() string {
	name := p.target.Fields.String("role_name")
	if name == "" || p.target.Secrets["secret_id"].Empty() {
		return ""
	}
	return "auth/" + p.authMount() + "/role/" + name
}

// rotatable refuses targets whose login cannot be replaced from here.
func (p *Provider) rotatable() error {
	const op = "rotate root"
	if !p.target.Secrets["token"].Empty() {
		return refuse(op, "token_login", "a token cannot be rotated from here: write a new token to the target, or use an AppRole")
	}
	if p.rolePath() == "" {
		return refuse(op, "no_role_name", "the target needs role_name, the name of its AppRole, to rotate the secret_id")
	}
	return nil
}

// ready bounds ctx and proves the place, before a secret is made or destroyed
// there.
func (p *Provider) ready(ctx context.Context, op string) (context.Context, context.CancelFunc, error) {
	if err := p.rotatable(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeBudget)
	if err := p.prove(ctx, op, p.target.Place); err != nil {
		cancel()
		return nil, nil, err
	}
	return ctx, cancel, nil
}

// StageRoot implements contract.RootRotator: a second secret_id beside the
// present one.
func (p *Provider) StageRoot(ctx context.Context, id string) (map[string]secret.String, error) {
	const op = "stage secret_id"
	ctx, cancel, err := p.ready(ctx, op)
	if err != nil {
		return nil, err
	}
	defer cancel()
	metadata, err := json.Marshal(map[string]string{rotationTag: id})
	if err != nil {
		return nil, refuse(op, "bad_id", "the rotation's id cannot be written down")
	}
	a, err := p.asLogin(ctx, call{
		op: op, method: http.MethodPost, path: p.rolePath() + "/secret-id", body: map[string]any{"metadata": string(metadata)},
	})
	if err != nil {
		return nil, err
	}
	staged, _ := a.Data["secret_id"].(string)
	if staged == "" {
		return nil, refuse(op, "no_secret_id", "the host did not answer with a secret_id")
	}
	return map[string]secret.String{"secret_id": secret.New(staged)}, nil
}

// CommitRoot implements contract.RootRotator. This instance has the new
// secret_id; it logs in with it before it destroys the old one.
func (p *Provider) CommitRoot(ctx context.Context, _ string, old map[string]secret.String) error {
	const op = "commit secret_id"
	ctx, cancel, err := p.ready(ctx, op)
	if err != nil {
		return err
	}
	defer cancel()
	before := old["secret_id"]
	if before == p.target.Secrets["secret_id"] {
		return refuse(op, "same_secret_id", "the old and the new secret_id are the same")
	}
	if _, err := p.logInWithAppRole(ctx); err != nil {
		return err
	}
	return p.destroySecretID(ctx, before)
}

// AbandonRoot implements contract.RootRotator. Without the staged secret_id it
// is looked for by its tag.
func (p *Provider) AbandonRoot(ctx context.Context, id string, staged map[string]secret.String) error {
	ctx, cancel, err := p.ready(ctx, "abandon secret_id")
	if err != nil {
		return err
	}
	defer cancel()
	if s := staged["secret_id"]; !s.Empty() {
		return p.destroySecretID(ctx, s)
	}
	return p.abandonByTag(ctx, id)
}

// destroySecretID destroys a secret_id; the host answers success for one that
// is gone.
func (p *Provider) destroySecretID(ctx context.Context, s secret.String) error {
	if s.Empty() {
		return nil
	}
	_, err := p.asLogin(ctx, call{
		op: "destroy secret_id", method: http.MethodPost, path: p.rolePath() + "/secret-id/destroy",
		body: map[string]any{"secret_id": s.Reveal()},
	})
	return err
}

func (p *Provider) abandonByTag(ctx context.Context, id string) error {
	a, err := p.asLogin(ctx, call{op: "list secret_ids", method: "LIST", path: p.rolePath() + "/secret-id"})
	if err != nil {
		return err
	}
	for _, accessor := range texts(a.Data["keys"]) {
		body := map[string]any{"secret_id_accessor": accessor}
		found, err := p.asLogin(ctx, call{
			op: "look up secret_id", method: http.MethodPost, path: p.rolePath() + "/secret-id-accessor/lookup", body: body,
		})
		if hasStatus(err, http.StatusNotFound) {
			continue // ended since it was listed
		}
		if err != nil {
			return err
		}
		if tags, _ := found.Data["metadata"].(map[string]any); tags[rotationTag] != id {
			continue
		}
		_, err = p.asLogin(ctx, call{
			op: "destroy secret_id", method: http.MethodPost, path: p.rolePath() + "/secret-id-accessor/destroy", body: body,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
