package hostprovider

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	hostprovider "github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// settle bounds what the host does on its own after a call returned.
const settle = 15 * time.Second

// site is what several worlds share: the database and the host's side of the
// roles. The login's policy is exactly the one that the provider asks for.
type site struct {
	pg        *harness.Postgres
	database  string // mount path
	tokenRole string
	reader    string // policy: reads the KV secret of the test
	login     *harness.AppRole
	policy    string // of the login
}

func (s *site) leaseRole() contract.Values {
	return contract.Values{"path": s.database + "/creds/reader", "engine": "database", "ends_sessions": true}
}

func (s *site) kvRole() contract.Values {
	return contract.Values{"token_policies": []string{s.reader}}
}

func short() string { return strings.ToLower(rand.Text()[:8]) }

func newSite(t *testing.T, pg *harness.Postgres, revocation string) *site {
	t.Helper()
	root := host.Root()
	s := &site{pg: pg, database: host.DatabaseEngine(t, pg, revocation), tokenRole: "pim-" + short()}
	// The user's name tells whose it is, so that the database itself is the witness.
	root.Write(t, s.database+"/config/postgres", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*",
		"connection_url": fmt.Sprintf("postgresql://{{username}}:{{password}}@127.0.0.1:%d/postgres?sslmode=disable", pg.Port),
		"username":       "postgres", "password": pg.Password,
		"username_template": `{{ printf "%s-%s" .DisplayName (random 8) }}`,
	}).OK(t)
	host.Secret(t, "prod/"+s.tokenRole, map[string]string{"answer": "42"})
	s.reader = host.Policy(t, "reader", fmt.Sprintf(`path "secret/data/prod/%s" { capabilities = ["read"] }`, s.tokenRole))
	s.allow(t, map[string]any{})
	s.login = s.logInWith(t, "20m")
	return s
}

// allow writes the token role: as it should be, but for overrides.
func (s *site) allow(t *testing.T, overrides map[string]any) {
	t.Helper()
	db := host.Policy(t, "db", fmt.Sprintf(`path "%s/creds/*" { capabilities = ["read", "create", "update"] }`, s.database))
	role := map[string]any{
		"orphan": true, "renewable": false, "token_no_default_policy": true, "token_type": "service", "token_period": 0,
		"token_num_uses": 0, "token_explicit_max_ttl": 0, "allowed_policies": []string{db, s.reader},
	}
	maps.Copy(role, overrides)
	host.Root().Write(t, "auth/token/roles/"+s.tokenRole, role).OK(t)
}

// logInWith makes an AppRole whose policy is what the provider says it needs,
// and nothing else.
func (s *site) logInWith(t *testing.T, ttl string) *harness.AppRole {
	t.Helper()
	s.policy = host.Policy(t, "pim-login", "# written below")
	login := host.AppRole(t, "pim-login", ttl, s.policy)
	target := s.target(host.Addr, login)
	p, err := hostprovider.Descriptor().New(contract.Env{Clock: clock.System{}}, target)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := p.(contract.Checker)
	if !ok {
		t.Fatal("the host checks")
	}
	// Without its policy the login may do nothing, but the required policy does
	// not depend on that.
	report, err := c.Check(t.Context(), s.specs())
	if err != nil {
		t.Fatal(err)
	}
	host.Root().Write(t, "sys/policies/acl/"+s.policy, map[string]any{"policy": report.RequiredPolicy}).OK(t)
	return login
}

func (s *site) specs() []contract.Spec {
	return []contract.Spec{{Fields: s.leaseRole()}, {Fields: s.kvRole()}}
}

func (s *site) target(address string, login *harness.AppRole) contract.Target {
	return contract.Target{
		Name: "local",
		Fields: contract.Values{
			"address": address, "token_role": s.tokenRole, "role_id": login.RoleID, "role_name": login.Name,
		},
		Secrets: map[string]secret.String{"secret_id": secret.New(login.SecretID)},
	}
}

// world is the site seen through a proxy of its own.
func (s *site) world(t *testing.T) *providertest.World {
	t.Helper()
	through := newProxy(t, host.Addr)
	return &providertest.World{
		Descriptor: hostprovider.Descriptor(), Env: contract.Env{Clock: clock.System{}},
		Target: s.target(through.URL, s.login), Elsewhere: s.target(elsewhere.Addr, s.login),
		Exists:  func(t testing.TB, h domain.Handle) []providertest.Object { t.Helper(); return s.exists(t, through, h) },
		Works:   func(t testing.TB, issued contract.Issued) bool { t.Helper(); return s.works(t, through, issued) },
		Watch:   through.setWatch,
		Break:   through.breakAll,
		Markers: []string{upstreamText, s.login.SecretID},
		Public:  []string{"username", "accessor", "policies"},
	}
}

// exists asks the database and the host what there is for a credential. A user
// whose token is gone already is given the time that the host needs to end the
// lease by itself.
func (s *site) exists(t testing.TB, through *proxy, h domain.Handle) []providertest.Object {
	t.Helper()
	var out []providertest.Object
	err := poll.Within(settle, func() error {
		tokens, err := s.tokens(t.Context(), through, h)
		if err != nil {
			return err
		}
		users, err := s.users(t.Context(), h.Credential)
		out = append(tokens, users...)
		if err == nil && len(tokens) == 0 && len(users) > 0 {
			return errors.New("a database user without its token is still there")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return out
}

// tokens lists the host's tokens that carry the credential's id.
func (s *site) tokens(ctx context.Context, through *proxy, h domain.Handle) ([]providertest.Object, error) {
	var d struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(h.Data, &d); err != nil {
		return nil, nil //nolint:nilerr // a handle that the suite damaged on purpose
	}
	root := host.Root()
	all, err := root.Do(ctx, "LIST", "auth/token/accessors", nil, nil)
	if err != nil {
		return nil, err
	}
	accessors, _ := all.Data["keys"].([]any)
	var out []providertest.Object
	for _, accessor := range accessors {
		found, err := root.Do(ctx, http.MethodPost, "auth/token/lookup-accessor", map[string]any{"accessor": accessor}, nil)
		if err != nil {
			return nil, err
		}
		meta, _ := found.Data["meta"].(map[string]any)
		if found.Status != http.StatusOK || meta["pim_credential"] != string(h.Credential) {
			continue // ended since it was listed, or somebody else's
		}
		until, err := time.Parse(time.RFC3339Nano, fmt.Sprint(found.Data["expire_time"]))
		if err != nil {
			return nil, err
		}
		out = append(out, providertest.Object{
			What:   fmt.Sprintf("token %v", accessor),
			Usable: d.Kind == "token", Inert: through.unused(fmt.Sprint(accessor)), Until: until,
		})
	}
	return out, nil
}

// users lists the database's users that carry the credential's id.
func (s *site) users(ctx context.Context, id domain.CredentialID) (out []providertest.Object, err error) {
	conn, err := s.pg.Connect(ctx, "postgres", s.pg.Password)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	rows, err := conn.Query(ctx, "SELECT rolname FROM pg_roles WHERE rolname LIKE $1", "%"+string(id)+"%")
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, name := range names {
		out = append(out, providertest.Object{What: "database user " + name, Usable: true})
	}
	return out, err
}

// works uses a credential as its holder would.
func (s *site) works(t testing.TB, through *proxy, issued contract.Issued) bool {
	t.Helper()
	answer := issued.Data.Reveal()
	if token, ok := answer["token"].(string); ok {
		through.use(token)
		return host.Root().With("holder", token).Read(t, "secret/data/prod/"+s.tokenRole).Status == http.StatusOK
	}
	conn, err := s.connect(t, issued)
	if err != nil {
		return false
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return true
}

func (s *site) connect(t testing.TB, issued contract.Issued) (*pgx.Conn, error) {
	t.Helper()
	answer := issued.Data.Reveal()
	return s.pg.Connect(t.Context(), fmt.Sprint(answer["username"]), fmt.Sprint(answer["password"]))
}
