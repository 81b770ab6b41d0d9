package kubernetes

import (
	"context"
	"errors"
	"strings"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const rootPrefix = "pim-root-"

var errUnbound = errors.New("the token is bound to no Secret")

// identity is the service account that a token is of.
func (c claims) identity() (namespace, account string) {
	parts := strings.Split(c.Subject, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" {
		return "", ""
	}
	return parts[2], parts[3]
}

// boundSecret names the Secret whose end is the token's end.
func (c claims) boundSecret() (key, error) {
	switch {
	case c.Bound.Secret.Name != "" && c.Bound.Namespace != "":
		return key{secretObject, c.Bound.Namespace, c.Bound.Secret.Name}, nil
	case c.OldSecret != "" && c.OldNamespace != "":
		return key{secretObject, c.OldNamespace, c.OldSecret}, nil
	}
	return key{}, errUnbound
}

// root is the token that this instance acts with, when it is not in a file.
func (p *Provider) root() secret.String { return secret.New(p.config.token.value) }

// StageRoot implements contract.RootRotator: a token of the same service
// account, bound to a Secret of its own.
func (p *Provider) StageRoot(ctx context.Context, id string) (map[string]secret.String, error) {
	const op = "stage root token"
	if p.config.token.Path != "" {
		return nil, contract.Refused(op, "token_file", "the engine's token comes from a file, and whoever writes the file renews it")
	}
	old, err := readClaims(p.root())
	if err == nil {
		_, err = old.boundSecret()
	}
	home, account := old.identity()
	if err != nil || account == "" {
		return nil, contract.Refused(op, "unbound", "the present token is bound to no Secret, so it could not be ended: "+
			"write one made by kubectl create token --bound-object-kind Secret")
	}
	if p.target.Place != "" {
		if err := p.prove(ctx, op, p.target.Place); err != nil {
			return nil, err
		}
	}
	k, err := rootKey(op, home, id)
	if err != nil {
		return nil, err
	}
	if _, err := p.ensureSecret(ctx, k, p.rootSecret(k)); err != nil {
		return nil, err
	}
	seconds := int64(p.config.rootTTL / time.Second)
	status, err := p.api.Token(ctx, home, account, authv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef: &authv1.BoundObjectReference{
			APIVersion: corev1.SchemeGroupVersion.String(), Kind: string(secretObject), Name: k.name,
		},
	})
	if err != nil {
		return nil, failure(op, err)
	}
	staged := secret.New(status.Token)
	c, err := readClaims(staged)
	if err != nil || c.Subject != old.Subject || c.Bound.Secret.Name != k.name {
		return nil, contract.Refused(op, "differs", "the new token is not what was asked for")
	}
	return map[string]secret.String{"token": staged}, nil
}

func rootKey(op, home, id string) (key, error) {
	if !domain.ValidID(id) {
		return key{}, contract.Refused(op, "bad_id", "the rotation has no proper id")
	}
	return key{secretObject, home, rootPrefix + id}, nil
}

func (p *Provider) rootSecret(k key) object {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: k.name, Namespace: k.namespace,
			Labels: map[string]string{labelManager: manager, labelTarget: p.target.Tag(), labelRoot: "true"},
		},
		Type: corev1.SecretTypeOpaque,
	}
}

// CommitRoot implements contract.RootRotator. The new token has proved itself
// when the API server, asked with it, names the same user in the same cluster.
func (p *Provider) CommitRoot(ctx context.Context, id string, old map[string]secret.String) error {
	const op = "retire root token"
	before, err := readClaims(old["token"])
	if err != nil {
		return contract.Refused(op, "unbound", "the old token cannot be read, so it cannot be ended")
	}
	retire, err := before.boundSecret()
	if err != nil {
		return contract.Refused(op, "unbound", "the old token is bound to no Secret, so it cannot be ended")
	}
	now, err := readClaims(p.root())
	if err != nil {
		return contract.Refused(op, "differs", "the new token cannot be read")
	}
	if kept, err := now.boundSecret(); err != nil || kept == retire || kept.name != rootPrefix+id {
		return contract.Refused(op, "differs", "the new token is not the one that was staged")
	}
	if p.target.Place != "" {
		if err := p.prove(ctx, op, p.target.Place); err != nil {
			return err
		}
	}
	info, err := p.api.Self(ctx)
	if err != nil {
		return failure(op, err)
	}
	if info.Username != before.Subject {
		return contract.Refused(op, "differs", "the new token is another identity's")
	}
	return p.removeSecret(ctx, op, retire)
}

// AbandonRoot implements contract.RootRotator.
func (p *Provider) AbandonRoot(ctx context.Context, id string, _ map[string]secret.String) error {
	const op = "abandon root token"
	c, err := readClaims(p.root())
	if err != nil {
		return contract.Refused(op, "unbound", "the present token cannot be read")
	}
	home, _ := c.identity()
	k, err := rootKey(op, home, id)
	if err != nil {
		return err
	}
	if used, err := c.boundSecret(); err == nil && used == k {
		return contract.Refused(op, "in_use", "the staged token is the one in use")
	}
	return p.removeSecret(ctx, op, k)
}

func (p *Provider) removeSecret(ctx context.Context, op string, k key) error {
	_, held, err := p.api.Delete(ctx, k)
	if err != nil {
		return failure(op, err)
	}
	if held {
		return &contract.Error{
			Op: op, Code: "finalizers", Cause: errFinalizers,
			Public: "the cluster keeps the old token's Secret until somebody's finalizers have run",
		}
	}
	return nil
}
