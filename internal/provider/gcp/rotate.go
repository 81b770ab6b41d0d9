package gcp

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	rootPrefix = "pim-root-"
	rootProofs = 3 // in a row, before a new key counts as working everywhere
	rootTries  = 12
	rootPause  = time.Second
)

// rootEnd is how Google writes "never".
func rootEnd() time.Time { return time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC) }

// rootKey is the key in the credentials field.
func (p *Provider) rootKey(op string) (rootKey, error) {
	if p.config.credentials.Empty() {
		return rootKey{}, contract.Refused(op, "not_a_key", "only a key in the field credentials can be rotated; whoever writes the file renews it")
	}
	return readKeyFile([]byte(p.config.credentials.Reveal()), p.config.endpoints[svcOAuth])
}

// asRoot is an instance that acts as the key's own account and goes through
// nobody.
func (p *Provider) asRoot() *Provider {
	out := *p
	api := *p.api
	api.config.chain = nil
	api.tokens = &tokenSource{}
	out.api = &api
	return &out
}

// StageRoot implements contract.RootRotator: a second key of the same account.
func (p *Provider) StageRoot(ctx context.Context, id string) (map[string]secret.String, error) {
	const op = "stage root key"
	old, err := p.rootKey(op)
	if err != nil {
		return nil, err
	}
	if !domain.ValidID(id) {
		return nil, contract.Refused(op, "bad_id", "the rotation has no proper id")
	}
	if p.target.Place != "" {
		if err := p.prove(ctx, op, p.target.Place); err != nil {
			return nil, err
		}
	}
	r := p.asRoot()
	list, err := r.api.keys(ctx, old.file.ClientEmail)
	if err != nil {
		return nil, failure("list keys", err)
	}
	if len(list) >= maxKeys {
		return nil, contract.Refused(op, "limit_keys", "Google allows %d keys of one service account, and there are %d", maxKeys, len(list))
	}
	fresh, err := r.upload(ctx, old.file.ClientEmail, rootPrefix+id, p.env.Clock.Now().Add(-backdated), rootEnd())
	if err != nil {
		return nil, err
	}
	if err := r.untilWorks(ctx, op, fresh); err != nil {
		return nil, err
	}
	out := old.file
	out.PrivateKey, out.PrivateKeyID = fresh.file.PrivateKey, fresh.file.PrivateKeyID
	raw, err := json.Marshal(out) //nolint:gosec // this is the credential, for sealed storage
	if err != nil {
		return nil, fmt.Errorf("%s: encode: %w", op, err)
	}
	return map[string]secret.String{"credentials": secret.New(string(raw))}, nil
}

// untilWorks waits until Google has taken a key several times in a row.
func (p *Provider) untilWorks(ctx context.Context, op string, k rootKey) error {
	var last error
	inRow := 0
	for range rootTries {
		if _, last = p.api.assertKey(ctx, k); last == nil {
			if inRow++; inRow == rootProofs {
				return nil
			}
			continue
		}
		inRow = 0
		if !isUnready(last) {
			return failure(op, last)
		}
		if err := p.pace(ctx, p.env.Clock, rootPause); err != nil {
			return failure(op, err)
		}
	}
	if last == nil {
		last = context.DeadlineExceeded
	}
	return failure(op, last)
}

// CommitRoot implements contract.RootRotator.
func (p *Provider) CommitRoot(ctx context.Context, id string, old map[string]secret.String) error {
	const op = "retire root key"
	now, err := p.rootKey(op)
	if err != nil {
		return err
	}
	before, err := readKeyFile([]byte(old["credentials"].Reveal()), p.config.endpoints[svcOAuth])
	if err != nil {
		return contract.Refused(op, "differs", "the old key cannot be read, so it cannot be ended")
	}
	if before.file.ClientEmail != now.file.ClientEmail || before.file.PrivateKeyID == now.file.PrivateKeyID {
		return contract.Refused(op, "differs", "the new key is of another account, or the same one")
	}
	r := p.asRoot()
	if err := r.untilWorks(ctx, op, now); err != nil {
		return err
	}
	staged, err := r.stagedKeys(ctx, now.file.ClientEmail, id)
	if err != nil {
		return err
	}
	if !slices.Contains(staged, now.file.PrivateKeyID) {
		return contract.Refused(op, "differs", "the new key is not the one that was staged")
	}
	if err := r.api.deleteKey(ctx, before.file.ClientEmail, before.file.PrivateKeyID); err != nil && !isAbsent(err) {
		return failure(op, err)
	}
	return nil
}

// stagedKeys finds the keys that a rotation made, by the name in their
// certificates.
func (p *Provider) stagedKeys(ctx context.Context, email, id string) ([]string, error) {
	list, err := p.api.keys(ctx, email)
	if err != nil {
		return nil, failure("list keys", err)
	}
	found, err := p.keysNamed(ctx, email, list, rootPrefix+id)
	return found, failure("read key", err)
}

// AbandonRoot implements contract.RootRotator.
func (p *Provider) AbandonRoot(ctx context.Context, id string, _ map[string]secret.String) error {
	const op = "abandon root key"
	used, err := p.rootKey(op)
	if err != nil {
		return err
	}
	r := p.asRoot()
	staged, err := r.stagedKeys(ctx, used.file.ClientEmail, id)
	if err != nil {
		return err
	}
	for _, key := range staged {
		if key == used.file.PrivateKeyID {
			return contract.Refused(op, "in_use", "the staged key is the one in use")
		}
		if err := r.api.deleteKey(ctx, used.file.ClientEmail, key); err != nil && !isAbsent(err) {
			return failure(op, err)
		}
	}
	return nil
}
