package aws

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

var _ contract.RootRotator = (*Provider)(nil)

// tagRotation is on the root user while a rotation is under way: <id>@<unix>.
// Access keys have no tags; a key that appeared since is the one that was
// staged, even when the answer that named it was lost.
const tagRotation = "pim:rotation"

// rootUser is the IAM user whose keys the target has.
func (p *Provider) rootUser(ctx context.Context, op string) (string, error) {
	if p.set.Source != sourceStatic {
		return "", contract.Refused(op, "not_static", "only a root credential with access keys can be rotated")
	}
	who, err := p.cloud.Root.Identify(ctx)
	if err != nil {
		return "", failed(op, err)
	}
	a, _ := parseARN(who.ARN)
	name, ok := a.userName()
	if !ok {
		return "", contract.Refused(op, "not_a_user", "only the access keys of an IAM user can be rotated")
	}
	return name, nil
}

// StageRoot implements contract.RootRotator.
func (p *Provider) StageRoot(ctx context.Context, id string) (map[string]secret.String, error) {
	const op = "stage root credential"
	user, err := p.rootUser(ctx, op)
	if err != nil {
		return nil, err
	}
	keys, err := p.cloud.Root.ListKeys(ctx, user)
	if err != nil {
		return nil, failed(op, err)
	}
	if len(keys) != 1 || keys[0].ID != p.set.Root.ID {
		return nil, contract.Refused(op, "two_keys", "the root user has a second access key, which is not pim's: delete it, since AWS allows two")
	}
	started := id + "@" + strconv.FormatInt(p.env.Clock.Now().Unix(), 10)
	if err := p.cloud.Root.TagUser(ctx, user, map[string]string{tagRotation: started}); err != nil {
		return nil, failed(op, err)
	}
	fresh, err := p.cloud.Root.CreateKey(ctx, user)
	if err != nil {
		if nothingDone(err) {
			// Whatever second key there is now is somebody else's.
			if uerr := p.cloud.Root.UntagUser(ctx, user, tagRotation); uerr != nil {
				return nil, failed(op, uerr)
			}
		}
		return nil, failed(op, err)
	}
	if _, err := p.untilWorks(ctx, fresh, keyProbes); err != nil {
		return nil, err
	}
	return map[string]secret.String{"access_key": secret.New(fresh.ID), "secret_key": fresh.Secret}, nil
}

// CommitRoot implements contract.RootRotator.
func (p *Provider) CommitRoot(ctx context.Context, _ string, old map[string]secret.String) error {
	const op = "retire root credential"
	if _, err := p.untilWorks(ctx, p.set.Root, keyProbes); err != nil {
		return err
	}
	user, err := p.rootUser(ctx, op)
	if err != nil {
		return err
	}
	gone := old["access_key"].Reveal()
	if gone == "" || gone == p.set.Root.ID {
		return contract.Refused(op, "same_key", "the old and the new access key are the same")
	}
	if err := p.cloud.Root.DeleteKey(ctx, user, gone); err != nil && !isAbsent(err) {
		return failed(op, err)
	}
	return failed(op, p.cloud.Root.UntagUser(ctx, user, tagRotation))
}

// AbandonRoot implements contract.RootRotator.
func (p *Provider) AbandonRoot(ctx context.Context, id string, staged map[string]secret.String) error {
	const op = "abandon root credential"
	user, err := p.rootUser(ctx, op)
	if err != nil {
		return err
	}
	key := staged["access_key"].Reveal()
	if key == "" {
		if key, err = p.stagedKey(ctx, op, user, id); err != nil {
			return err
		}
	}
	if key == p.set.Root.ID {
		return contract.Refused(op, "same_key", "the staged access key is in use as the root credential")
	}
	if key != "" {
		if err := p.cloud.Root.DeleteKey(ctx, user, key); err != nil && !isAbsent(err) {
			return failed(op, err)
		}
	}
	return failed(op, p.cloud.Root.UntagUser(ctx, user, tagRotation))
}

// stagedKey finds the key that a rotation made whose answer was lost: the one
// beside ours that is not older than the rotation.
func (p *Provider) stagedKey(ctx context.Context, op, user, id string) (string, error) {
	info, err := p.cloud.Root.GetUser(ctx, user)
	if err != nil {
		return "", failed(op, err)
	}
	of, at, _ := strings.Cut(info.Tags[tagRotation], "@")
	unix, err := strconv.ParseInt(at, 10, 64)
	if err != nil || of != id {
		return "", nil //nolint:nilerr // this rotation made nothing
	}
	keys, err := p.cloud.Root.ListKeys(ctx, user)
	if err != nil {
		return "", failed(op, err)
	}
	// Clocks differ a little; a key that a person made earlier differs by more.
	since := time.Unix(unix, 0).Add(-time.Minute)
	for _, k := range keys {
		if k.ID != p.set.Root.ID && !k.Created.Before(since) {
			return k.ID, nil
		}
	}
	return "", nil
}
