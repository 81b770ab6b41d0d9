package aws

import (
	"context"
	"fmt"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	userPolicy = "pim" // inline policy of a user: the role's own, and the guard
	// keyProbes in a row must work before a key is handed out, unless the role
	// says otherwise: IAM's servers learn of it one by one.
	keyProbes     = 3
	mostKeyProbes = 10
	probeInterval = time.Second
	usableWithin  = time.Minute // a key that does not work by then is given up
	// visibleWithin is how long a user that was just made may still be unknown
	// to some of IAM's servers: absent is not gone before that.
	visibleWithin = 5 * time.Minute
)

// userARN is the user that a credential has.
func (p *Provider) userARN(h domain.Handle, d handleData) string {
	return p.arnOf("user" + d.Path + sessionName(h.Credential))
}

// makeUser issues an IAM user with an access key. The guard is there before
// anything that allows.
func (j *issuing) makeUser(ctx context.Context) (contract.Issued, error) {
	text, err := j.userPolicyText()
	if err != nil {
		return contract.Issued{}, err
	}
	tags, err := j.userTags()
	if err != nil {
		return contract.Issued{}, err
	}
	fresh, err := j.ensureUser(ctx, tags)
	if err != nil {
		return contract.Issued{}, err
	}
	if err := j.equipUser(ctx, text); err != nil {
		return contract.Issued{}, err
	}
	key, err := j.newKey(ctx, fresh)
	if err != nil {
		return contract.Issued{}, err
	}
	if err := j.untilUsable(ctx, key); err != nil {
		return contract.Issued{}, err
	}
	composite, err := credentialProcess(key.ID, key.Secret, secret.String{}, j.d.end())
	if err != nil {
		return contract.Issued{}, err
	}
	return contract.Issued{
		Handle: j.h, NotAfter: j.d.end(),
		Data: secret.NewMap(map[string]any{
			"access_key": key.ID, "secret_key": key.Secret.Reveal(), "arn": j.p.userARN(j.h, j.d),
			"username": sessionName(j.h.Credential), "expiration": j.d.end().Format(time.RFC3339),
		}),
		Composite: map[string]secret.String{compositeProcess: composite},
	}, nil
}

// userPolicyText is the one inline policy of the user.
func (j *issuing) userPolicyText() (string, error) {
	g := guard{
		End: j.d.end(), Persist: j.in.Fields.Bool("can_persist"),
		Own: []string{j.p.userARN(j.h, j.d), j.p.arnOf("policy" + policyPath + "*")},
	}
	for _, a := range []string{j.p.set.BaseRole, j.p.set.RevokerRole, j.p.ownARN(j.who)} {
		if a != "" {
			g.Own = append(g.Own, a)
		}
	}
	text, err := guardedPolicy(j.in.Fields.String("policy_document"), false, g)
	if err != nil {
		return "", contract.Refused("make user", "policy_form", "policy_document %s", err.Error())
	}
	if n := policySize(text); n > maxUserPolicies {
		return "", contract.Refused("make user", "policy_size",
			"the user's policy would have %d characters with what pim adds, IAM takes %d: shorten policy_document or use policy_arns", n, maxUserPolicies)
	}
	return text, nil
}

func (j *issuing) userTags() (map[string]string, error) {
	tags, err := renderTags("iam_tags", j.in.Fields.Map("iam_tags"), j.in)
	if err != nil {
		return nil, err
	}
	if tags == nil {
		tags = map[string]string{}
	}
	tags[tagManaged], tags[tagTarget] = "credential", j.p.target.Tag()
	tags[tagCredential], tags[tagRequest], tags[tagRole] = string(j.in.Credential), string(j.in.Request), j.in.Role
	return tags, nil
}

// ensureUser makes the user, or finds the one that an earlier attempt made.
func (j *issuing) ensureUser(ctx context.Context, tags map[string]string) (fresh bool, err error) {
	name := sessionName(j.h.Credential)
	err = j.p.cloud.Issuer.CreateUser(ctx, newUser{
		Name: name, Path: j.d.Path, Boundary: j.in.Fields.String("permissions_boundary_arn"), Tags: tags,
	})
	if err == nil {
		return true, nil
	}
	if !isTaken(err) {
		return false, failed("make user", err)
	}
	there, err := j.p.cloud.Issuer.GetUser(ctx, name)
	if err != nil {
		return false, failed("read user", err)
	}
	if there.Tags[tagCredential] != string(j.h.Credential) || there.Path != j.d.Path {
		return false, contract.Refused("make user", "outside_pim", "a user of that name exists at AWS and is not of this credential")
	}
	return false, nil
}

// equipUser gives the user its policies and groups, the guard first.
func (j *issuing) equipUser(ctx context.Context, text string) error {
	h, api := holder{userHolder, sessionName(j.h.Credential)}, j.p.cloud.Issuer
	if err := j.lagging(ctx, func() error { return api.PutInline(ctx, h, userPolicy, text) }); err != nil {
		return failed("guard user", err)
	}
	for _, policy := range j.in.Fields.Strings("policy_arns") {
		if err := j.lagging(ctx, func() error { return api.Attach(ctx, h, policy) }); err != nil {
			return failed("attach policy to user", err)
		}
	}
	for _, group := range j.in.Fields.Strings("iam_groups") {
		if err := j.lagging(ctx, func() error { return api.AddToGroup(ctx, h.Name, group) }); err != nil {
			return failed("add user to group", err)
		}
	}
	return nil
}

// lagging repeats a call for a user that was just made and that not all of
// IAM's servers know yet.
func (j *issuing) lagging(ctx context.Context, call func() error) error {
	const tries = 8
	err := call()
	for try := 1; try < tries && isAbsent(err); try++ {
		if werr := j.p.denier.wait(ctx, time.Duration(try)*probeInterval/2); werr != nil {
			return werr
		}
		err = call()
	}
	return err
}

// newKey makes the one access key and has its id recorded before it is used. A
// key of an earlier attempt has a secret that nobody knows any more.
func (j *issuing) newKey(ctx context.Context, fresh bool) (keyPair, error) {
	api, name := j.p.cloud.Issuer, sessionName(j.h.Credential)
	if !fresh {
		keys, err := api.ListKeys(ctx, name)
		if err != nil {
			return keyPair{}, failed("list access keys", err)
		}
		for _, k := range keys {
			if err := api.DeleteKey(ctx, name, k.ID); err != nil && !isAbsent(err) {
				return keyPair{}, failed("delete access key", err)
			}
		}
	}
	var key keyPair
	err := j.lagging(ctx, func() (err error) {
		key, err = api.CreateKey(ctx, name)
		return err
	})
	if err != nil {
		return keyPair{}, failed("make access key", err)
	}
	j.d.Key = key.ID
	return key, j.save()
}

// probesOf is how often in a row a role wants its new keys to have worked.
func probesOf(role contract.Values) int {
	if _, said := role["key_probes"]; !said {
		return keyProbes
	}
	return role.Int("key_probes")
}

// untilUsable waits until the key has worked as often in a row as the role wants.
func (j *issuing) untilUsable(ctx context.Context, key keyPair) error {
	n := probesOf(j.in.Fields)
	if n == 0 {
		return nil
	}
	who, err := j.p.untilWorks(ctx, key, n)
	if err == nil && who.ARN != j.p.userARN(j.h, j.d) {
		err = &contract.Error{Op: "try access key", Code: "not_as_asked", Public: "the new key belongs to somebody else"}
	}
	return err
}

// untilWorks tries a key until it has worked so often in a row, at least once, and
// tells whose it is.
func (p *Provider) untilWorks(ctx context.Context, key keyPair, often int) (identity, error) {
	const op = "try access key"
	giveUp := p.env.Clock.Now().Add(usableWithin)
	for inRow := 0; ; {
		who, err := p.cloud.As(ctx, key)
		if err != nil {
			inRow = 0
		} else if inRow++; inRow >= often {
			return who, nil
		}
		if ctx.Err() != nil {
			return identity{}, failed(op, ctx.Err())
		}
		if !p.env.Clock.Now().Before(giveUp) {
			return identity{}, failed(op, err)
		}
		if err := p.denier.wait(ctx, probeInterval); err != nil {
			return identity{}, err
		}
	}
}

// revokeUser deletes the user with everything it has.
func (p *Provider) revokeUser(ctx context.Context, h domain.Handle, d handleData) (contract.Ended, error) {
	if _, err := p.prove(ctx, "revoke", h.Place, 0); err != nil {
		return contract.Ended{}, err
	}
	name := sessionName(h.Credential)
	there, err := p.cloud.Issuer.GetUser(ctx, name)
	if isAbsent(err) {
		return p.absentUser(h, d)
	}
	if err != nil {
		return contract.Ended{}, failed("read user", err)
	}
	if there.Tags[tagCredential] != string(h.Credential) {
		return contract.Ended{}, contract.Refused("delete user", "outside_pim", "a user of that name exists at AWS and is not of this credential")
	}
	if err := p.tearDown(ctx, name); err != nil {
		return contract.Ended{}, err
	}
	return contract.Gone(), nil
}

// absentUser says what it means that nobody knows the user: soon after it was
// planned that may be a server that has not heard of it.
func (p *Provider) absentUser(h domain.Handle, d handleData) (contract.Ended, error) {
	planned, err := plannedAt(h.Credential)
	if err != nil {
		return contract.Ended{}, err
	}
	if known := planned.Add(visibleWithin); p.env.Clock.Now().Before(known) {
		return later(h, d, stageRecheck, known)
	}
	return contract.Gone(), nil
}

// tearDown deletes a user and all that keeps it from being deleted, keys
// first. It finishes what an earlier attempt left half done.
func (p *Provider) tearDown(ctx context.Context, name string) error {
	api, h := p.cloud.Issuer, holder{userHolder, name}
	if err := p.deleteKeys(ctx, name); err != nil {
		return err
	}
	attached, err := api.ListAttached(ctx, h)
	if err := each(attached, err, func(m managed) error { return api.Detach(ctx, h, m.ARN) }); err != nil {
		return failed("detach policies of user", err)
	}
	groups, err := api.ListGroups(ctx, name)
	if err := each(groups, err, func(g string) error { return api.RemoveFromGroup(ctx, name, g) }); err != nil {
		return failed("take user out of groups", err)
	}
	inline, err := api.ListInline(ctx, h)
	if err := each(inline, err, func(n string) error { return api.DeleteInline(ctx, h, n) }); err != nil {
		return failed("delete policies of user", err)
	}
	err = api.DeleteUser(ctx, name)
	if familyOf(err) == contended {
		extras, lerr := api.ListExtras(ctx, name)
		if err := each(extras, lerr, func(x extra) error { return api.DeleteExtra(ctx, name, x) }); err != nil {
			return failed("delete what hangs on the user", err)
		}
		err = api.DeleteUser(ctx, name)
	}
	if err != nil && !isAbsent(err) {
		return failed("delete user", err)
	}
	return nil
}

func (p *Provider) deleteKeys(ctx context.Context, name string) error {
	keys, err := p.cloud.Issuer.ListKeys(ctx, name)
	if err := each(keys, err, func(k keyInfo) error { return p.cloud.Issuer.DeleteKey(ctx, name, k.ID) }); err != nil {
		return failed("delete access keys", err)
	}
	return nil
}

// each does something with everything that was listed; what is absent is done.
func each[T any](list []T, listed error, do func(T) error) error {
	if listed != nil && !isAbsent(listed) {
		return listed
	}
	for _, x := range list {
		if err := do(x); err != nil && !isAbsent(err) {
			return fmt.Errorf("tear down: %w", err)
		}
	}
	return nil
}
