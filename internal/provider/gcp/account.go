package gcp

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	pollAfter  = 5 * time.Second
	maxDisplay = 100             // bytes of a display name
	tolerance  = 5 * time.Second // of times that Google rounds
)

// issueOwn makes an account for one credential, grants it the role's roles
// until the end of the credential, and then gives out its token or key.
func (p *Provider) issueOwn(ctx context.Context, j *job) (contract.Issued, error) {
	if err := p.ensureAccount(ctx, j); err != nil {
		return contract.Issued{}, err
	}
	for _, r := range j.role.resources {
		err := p.desk.change(ctx, r, p.grantOf(j, true))
		if isUnknownMember(err) {
			return p.notYet(j, "grant role", err)
		}
		if err != nil {
			return contract.Issued{}, failure("grant role", err)
		}
	}
	if j.role.kind == kindKey {
		return p.giveKey(ctx, j)
	}
	return p.giveToken(ctx, j)
}

func (p *Provider) grantOf(j *job, own bool) grant {
	return grant{
		credential: j.in.Credential, principal: j.names.Principal, roles: j.role.roles, own: own,
		condition: conditionFor(j.in.Credential, j.describe(p.target.Tag()), j.role.condition, j.names.end()),
	}
}

// ensureAccount makes the account unless it is there already.
func (p *Provider) ensureAccount(ctx context.Context, j *job) error {
	const op = "create service account"
	if j.names.Known != "" {
		return nil
	}
	display := "pim role " + j.in.Role
	want := account{DisplayName: display[:min(len(display), maxDisplay)], Description: j.describe(p.target.Tag())}
	id, _, _ := strings.Cut(j.names.Account, "@")
	made, err := p.api.createAccount(ctx, p.config.project, id, want)
	if statusOf(err) == http.StatusConflict {
		made, err = p.api.account(ctx, p.config.project, j.names.Account)
		if err == nil && made.Description != want.Description {
			return contract.Refused(op, "foreign", "something that is not ours has this name at Google")
		}
	}
	if err != nil {
		return failure(op, err)
	}
	if made.Email != j.names.Account || made.UniqueID == "" {
		return contract.Refused(op, "differs", "the account that Google made is not what was asked for; it is being removed")
	}
	return j.note(func(n *names) { n.Known = made.UniqueID })
}

// notYet is the answer while Google does not know a new account or key
// everywhere, and the reason why it never did once that took too long.
func (p *Provider) notYet(j *job, op string, err error) (contract.Issued, error) {
	if p.env.Clock.Now().After(domain.TimeOf(string(j.in.Credential)).Add(visible)) {
		return contract.Issued{}, failure(op, err)
	}
	return contract.Issued{Handle: j.handle, PollAfter: pollAfter}, nil
}

// isUnready tells whether an error may mean that an account is too new.
func isUnready(err error) bool {
	switch statusOf(err) {
	case http.StatusForbidden, http.StatusNotFound, http.StatusBadRequest:
		return true
	}
	return false
}

// giveToken asks for the account's token and gives it out. That it was given
// is on record before it is.
func (p *Provider) giveToken(ctx context.Context, j *job) (contract.Issued, error) {
	const op = "create access token"
	t, err := p.mintFor(ctx, j)
	if isUnready(err) {
		return p.notYet(j, op, err)
	}
	if err != nil {
		return contract.Issued{}, failure(op, err)
	}
	if ready, err := p.works(ctx, j, t.token); err != nil || !ready {
		return p.notEffective(j, err)
	}
	if err := j.note(func(n *names) { n.Given = true }); err != nil {
		return contract.Issued{}, err
	}
	return p.tokenAnswer(j, t), nil
}

// mintFor gets a token of the credential's account that ends with the
// credential, and an hour from now at the latest.
func (p *Provider) mintFor(ctx context.Context, j *job) (grantedToken, error) {
	const op = "create access token"
	life := min(j.names.end().Sub(p.env.Clock.Now()).Truncate(time.Second), tokenLife)
	if life < time.Second {
		return grantedToken{}, contract.Refused(op, "too_late", "the access window has ended")
	}
	t, err := p.api.mint(ctx, j.names.Account, nil, j.role.scopes, life, secret.String{})
	if err != nil {
		return t, err
	}
	// Google counts from when the call arrives there, which is later than now.
	if t.expires.After(p.env.Clock.Now().Add(life+tolerance)) || t.token.Empty() {
		return t, contract.Refused(op, "differs", "the token that Google made is not what was asked for; it is being ended")
	}
	return t, nil
}

func (p *Provider) tokenAnswer(j *job, t grantedToken) contract.Issued {
	left := t.expires.Sub(p.env.Clock.Now())
	return contract.Issued{Handle: j.handle, NotAfter: t.expires, Data: secret.NewMap(map[string]any{
		"token": t.token.Reveal(), "expires_at_seconds": t.expires.Unix(), "token_ttl": int64(left / time.Second),
		"service_account_email": j.names.Account, "project_id": projectOf(j.names.Account, p.config.project),
	})}
}

// works tells whether a new account has the permissions that the role waits
// for, wherever it is granted roles. Whoever asks needs no permission for that.
func (p *Provider) works(ctx context.Context, j *job, token secret.String) (bool, error) {
	if len(j.role.wait) == 0 {
		return true, nil
	}
	for _, r := range j.role.resources {
		have, err := p.api.allowed(ctx, r, j.role.wait, token)
		switch statusOf(err) {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
			return false, nil // it is not known there yet
		}
		if err != nil {
			return false, err
		}
		if len(have) < len(j.role.wait) {
			return false, nil
		}
	}
	return true, nil
}

// notEffective is the answer while a new account lacks permissions that the
// role waits for, or the reason why nobody waits any longer.
func (p *Provider) notEffective(j *job, err error) (contract.Issued, error) {
	const op = "wait for permissions"
	if err != nil {
		return contract.Issued{}, failure(op, err)
	}
	if p.env.Clock.Now().After(domain.TimeOf(string(j.in.Credential)).Add(slowTimeout - 2*issueTimeout)) {
		return contract.Issued{}, &contract.Error{
			Op: op, Code: "not_effective", Public: "the roles did not give the permissions of wait_for_permissions in the time there was",
		}
	}
	return contract.Issued{Handle: j.handle, PollAfter: pollAfter}, nil
}

// revokeOwn disables the account, which ends its tokens and keys, takes its
// bindings away, and deletes it when the last token must have ended: a deleted
// account's tokens are nowhere promised to be refused.
func (p *Provider) revokeOwn(ctx context.Context, h domain.Handle, n names) (contract.Ended, error) {
	now := p.env.Clock.Now()
	if n.Stage == stageDelete && now.Before(time.Unix(n.Due, 0)) {
		return contract.Ended{AccessGone: true, Rest: h, Again: time.Unix(n.Due, 0).UTC()}, nil
	}
	absent, err := p.disable(ctx, h, n)
	if err != nil {
		return contract.Ended{}, err
	}
	if n.Known != "" { // roles are granted only to a known account
		if _, err := p.withdraw(ctx, h, n); err != nil {
			return contract.Ended{}, err
		}
	}
	if absent {
		return p.lookAgain(h, true), nil
	}
	return p.remove(ctx, h, n, now)
}

// disable disables the account and tells whether there is none.
func (p *Provider) disable(ctx context.Context, h domain.Handle, n names) (absent bool, err error) {
	const op = "disable service account"
	err = p.api.disableAccount(ctx, p.config.project, n.Account)
	if !isAbsent(err) {
		return false, failure(op, err)
	}
	if n.Known != "" && p.env.Clock.Now().Before(late(h.Credential, true)) {
		return false, &contract.Error{
			Op: op, Code: "not_visible", Cause: err, Public: "Google does not show the new account everywhere yet",
		}
	}
	return true, nil
}

// remove deletes a disabled account, once nothing of it can still be on its
// way and none of its tokens can live any more.
func (p *Provider) remove(ctx context.Context, h domain.Handle, n names, now time.Time) (contract.Ended, error) {
	due := late(h.Credential, true)
	if n.Given && n.Stage != stageDelete && now.Add(tokenLife).After(due) {
		due = now.Add(tokenLife)
	}
	if now.Before(due) {
		return p.keepFor(h, n, due)
	}
	if err := p.api.deleteAccount(ctx, p.config.project, n.Account); err != nil && !isAbsent(err) {
		return contract.Ended{}, failure("delete service account", err)
	}
	return contract.Gone(), nil
}

// keepFor is the remainder "an account that nobody can use, to be deleted".
func (p *Provider) keepFor(h domain.Handle, n names, due time.Time) (contract.Ended, error) {
	due = due.Add(time.Second - 1).Truncate(time.Second) // handles know whole seconds
	n.Stage, n.Due = stageDelete, due.Unix()
	rest, err := remote.WithData(h, n)
	if err != nil {
		return contract.Ended{}, err
	}
	return contract.Ended{AccessGone: true, Rest: rest, Again: due}, nil
}

// withdraw removes what was granted for a credential, everywhere, and tells
// whether something was missing. One resource that fails keeps nothing else
// alive.
func (p *Provider) withdraw(ctx context.Context, h domain.Handle, n names) (missing bool, err error) {
	for _, r := range n.Resources {
		found := false
		e := p.desk.change(ctx, r, withdrawal{credential: h.Credential, principal: n.Principal, found: &found})
		if e != nil && err == nil {
			err = failure(fmt.Sprintf("withdraw role on %s", r), e)
		}
		missing = missing || !found
	}
	return missing, err
}
