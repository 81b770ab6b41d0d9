package azure

import (
	"context"
	"net/http"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	// goodTries is how often in a row the tenant must accept a new secret
	// before it is handed out: its servers learn of it one after the other.
	goodTries = 5
	maxKeys   = 50 // of our passwords in one application
)

// freshSecret is the password of a credential that is not usable yet. It is
// nowhere else.
type freshSecret struct {
	key  string
	text secret.String
	good int // tries in a row that were accepted
}

// secretOf is the credential's password, made now if this process does not
// have it: one that an earlier attempt made is removed first, as nobody knows
// it any more. ready is false while Entra does not show the application yet.
func (p *Provider) secretOf(ctx context.Context, j *job) (s freshSecret, ready bool, err error) {
	s, _ = p.fresh.Get(j.in.Credential)
	if s.key != "" && s.key == j.names.Key {
		return s, true, nil
	}
	if _, err := p.removePasswords(ctx, j.names, j.in.Credential); isAbsent(err) && j.role.kind == kindPrincipal {
		return s, false, nil
	} else if err != nil {
		return s, false, failure("remove an earlier password", err)
	}
	made, err := p.graph.addPassword(ctx, j.names.Object, namePrefix+string(j.in.Credential), j.end())
	if isAbsent(err) && j.role.kind == kindPrincipal {
		return s, false, nil
	}
	if err != nil {
		return s, false, failure("add password", err)
	}
	s = freshSecret{key: made.KeyID, text: secret.New(made.Text)}
	if err := j.note(func(n *names) { n.Key = made.KeyID }); err != nil {
		return s, false, err
	}
	p.fresh.Put(j.in.Credential, s)
	return s, true, nil
}

// proven tells whether the tenant accepted the secret often enough in a row.
// One refusal starts the count again.
func (p *Provider) proven(ctx context.Context, j *job, s freshSecret) (bool, error) {
	for s.good < goodTries {
		ok, err := p.accepts(ctx, j.names.Client, s.text.Reveal())
		if err != nil {
			return false, err
		}
		s.good++
		if !ok {
			s.good = 0
		}
		p.fresh.Put(j.in.Credential, s)
		if !ok {
			return false, nil
		}
		if err := p.pace(ctx, p.env.Clock, firstPause); err != nil {
			return false, failure("try the new secret", err)
		}
	}
	return true, nil
}

// removePasswords removes the passwords of a credential from its application,
// and tells whether one was there.
func (p *Provider) removePasswords(ctx context.Context, n names, id domain.CredentialID) (bool, error) {
	app, err := p.graph.applicationBy(ctx, "/applications/"+n.Object)
	if err != nil {
		return false, err
	}
	keys := map[string]bool{}
	for _, pw := range app.Passwords {
		if pw.DisplayName == namePrefix+string(id) && guidForm.MatchString(pw.KeyID) && len(keys) < maxKeys {
			keys[pw.KeyID] = true
		}
	}
	seen := len(keys) > 0
	if n.Key != "" {
		keys[n.Key] = true // it may not be shown yet
	}
	for key := range keys {
		err := p.graph.removePassword(ctx, n.Object, key)
		if gone := key == n.Key && (isAbsent(err) || statusOf(err) == http.StatusBadRequest); err != nil && !gone {
			return seen, err
		} else if err == nil {
			seen = true
		}
	}
	return seen, nil
}
