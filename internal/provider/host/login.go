package host

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	loginBudget = 6 * time.Second
	// loginMargin is how long before its end a login is not used any more, or
	// a quarter of its life if that is less.
	loginMargin = time.Minute
	// loginYoung is the age below which a denied login is believed: logging in
	// again would not help.
	loginYoung = 5 * time.Second
)

// login is a token of the engine itself. It lives in memory alone.
type login struct {
	token    secret.String
	since    time.Time
	until    time.Time // zero = no end
	life     time.Duration
	entity   string
	policies []string
}

func (l *login) usable(now time.Time) bool {
	return l != nil && (l.until.IsZero() || now.Before(l.until.Add(-min(loginMargin, l.life/4))))
}

// logins holds the present login and sees to it that many who need one at a
// time make one. Nobody waits for the network while holding mu.
type logins struct {
	mu       sync.Mutex
	current  *login
	flight   *flight
	entities []string // of every login so far
}

// flight is a login on its way.
type flight struct {
	done chan struct{}
	got  *login
	err  error
}

// policies returns the present login's policies.
func (s *logins) policies() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	return s.current.policies
}

// forget drops a login that turned out to be gone.
func (s *logins) forget(l *login) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == l {
		s.current = nil
	}
}

// login returns a login that will last for a while. Whoever comes while one is
// on its way shares it; a caller who gives up does not end it for the others.
func (p *Provider) login(ctx context.Context) (*login, error) {
	s := &p.logins
	s.mu.Lock()
	if s.current.usable(p.env.Clock.Now()) {
		defer s.mu.Unlock()
		return s.current, nil
	}
	f := s.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		s.flight = f
		go p.fly(context.WithoutCancel(ctx), f)
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.got, f.err
	case <-ctx.Done():
		return nil, transportError("log in", ctx.Err())
	}
}

func (p *Provider) fly(ctx context.Context, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, loginBudget)
	defer cancel()
	f.got, f.err = p.logIn(ctx)
	s := &p.logins
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flight = nil
	if f.err == nil {
		s.current = f.got
		if id := f.got.entity; id != "" && !slices.Contains(s.entities, id) {
			s.entities = append(s.entities, id)
		}
	}
	close(f.done)
}

// logIn proves the place first: the secret is sent nowhere else.
func (p *Provider) logIn(ctx context.Context) (*login, error) {
	if p.target.Place != "" {
		if err := p.prove(ctx, "log in", p.target.Place); err != nil {
			return nil, err
		}
	}
	if token := p.target.Secrets["token"]; !token.Empty() {
		return p.lookUpToken(ctx, token)
	}
	return p.logInWithAppRole(ctx)
}

func (p *Provider) logInWithAppRole(ctx context.Context) (*login, error) {
	const op = "log in"
	now := p.env.Clock.Now()
	a, err := p.client.do(ctx, call{
		op: op, method: http.MethodPost, path: "auth/" + p.authMount() + "/login",
		body: map[string]any{
			"role_id": p.target.Fields.String("role_id"), "secret_id": p.target.Secrets["secret_id"].Reveal(),
		},
	})
	if err != nil {
		return nil, err
	}
	if a.wrapped() || a.Auth == nil || a.Auth.ClientToken == "" {
		return nil, refuse(op, "no_token", "the host did not answer the login with a token")
	}
	if err := usableLogin(a.Auth.TokenType, a.Auth.NumUses); err != nil {
		return nil, err
	}
	return newLogin(secret.New(a.Auth.ClientToken), now, a.Auth.LeaseDuration, a.Auth.EntityID, a.Auth.Policies), nil
}

// lookUpToken learns what a configured token is.
func (p *Provider) lookUpToken(ctx context.Context, token secret.String) (*login, error) {
	now := p.env.Clock.Now()
	a, err := p.client.do(ctx, call{op: "log in", method: http.MethodGet, path: "auth/token/lookup-self", token: token})
	if err != nil {
		return nil, err
	}
	kind, _ := a.Data["type"].(string)
	if err := usableLogin(kind, int(number(a.Data["num_uses"]))); err != nil {
		return nil, err
	}
	entity, _ := a.Data["entity_id"].(string)
	policies := append(texts(a.Data["policies"]), texts(a.Data["identity_policies"])...)
	return newLogin(token, now, number(a.Data["ttl"]), entity, policies), nil
}

// usableLogin refuses logins that cannot make tokens.
func usableLogin(kind string, uses int) error {
	if kind == "batch" {
		return refuse("log in", "batch_login", "the login yields batch tokens, which cannot make tokens; it must yield service tokens")
	}
	if kind != "service" {
		return refuse("log in", "no_token", "the host does not say that the login yields a service token")
	}
	if uses != 0 {
		return refuse("log in", "limited_login", "the login yields tokens with a limited number of uses, which cannot make tokens")
	}
	return nil
}

func newLogin(token secret.String, now time.Time, seconds int64, entity string, policies []string) *login {
	l := &login{token: token, since: now, entity: entity, policies: policies}
	if seconds > 0 {
		l.life = time.Duration(seconds) * time.Second
		l.until = now.Add(l.life)
	}
	return l
}

func (p *Provider) authMount() string {
	if mount := p.target.Fields.String("auth_mount"); mount != "" {
		return mount
	}
	return "approle"
}

// asLogin makes a call with the engine's own login. When the host denies it
// although the login seemed good, the login may have been revoked: then, and
// only then, it logs in again and makes the call once more. A denied call had
// no effect.
func (p *Provider) asLogin(ctx context.Context, c call) (*answer, error) {
	l, err := p.login(ctx)
	if err != nil {
		return nil, err
	}
	c.token = l.token
	a, err := p.client.do(ctx, c)
	renewable := p.target.Secrets["token"].Empty()
	if !hasStatus(err, http.StatusForbidden) || !renewable || p.env.Clock.Now().Sub(l.since) < loginYoung {
		return a, err
	}
	p.logins.forget(l)
	if l, err = p.login(ctx); err != nil {
		return nil, err
	}
	c.token = l.token
	return p.client.do(ctx, c)
}

// SelfEntities implements contract.SelfIdentifier with the entities of every
// login of this instance so far. Before the first login it is empty: callers
// keep what Check reported.
func (p *Provider) SelfEntities() []string {
	p.logins.mu.Lock()
	defer p.logins.mu.Unlock()
	return slices.Clone(p.logins.entities)
}

var _ contract.SelfIdentifier = (*Provider)(nil)
