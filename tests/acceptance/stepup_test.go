package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// door is a scene whose target looks calling tokens up.
type door struct {
	*vaultScene
	userpass string // accessor of the auth mount that people log in at
}

func newDoor(t *testing.T) *door {
	t.Helper()
	v := &vaultScene{password: host.Canary(t), secret: "prod/" + strings.ToLower(t.Name())}
	v.policy = host.Policy(t, "prod-read", fmt.Sprintf("path %q { capabilities = [\"read\"] }", "secret/data/"+v.secret))
	host.Secret(t, v.secret, map[string]string{"password": v.password})
	v.scene = newScene(t, map[string]string{"sys/auth": `"read"`}, v.policy)
	d := &door{vaultScene: v}
	host.Person(t, "carol") // so that the auth mount is there
	d.userpass = d.accessor(t, "userpass")
	return d
}

func (d *door) accessor(t *testing.T, path string) string {
	t.Helper()
	mount, ok := host.Root().Read(t, "sys/auth").OK(t).Data[path+"/"].(map[string]any)
	if !ok {
		t.Fatalf("no auth mount %s", path)
	}
	return fmt.Sprint(mount["accessor"])
}

// guarded writes a role that asks for a login of the last ten seconds, or for
// what fields say.
func (d *door) guarded(t *testing.T, c *cast, name string, fields map[string]any) {
	t.Helper()
	body := map[string]any{"token_target": d.target.Name, "max_login_age": "10m"}
	maps.Copy(body, fields)
	c.role(t, name, d.tokens(body)).OK(t)
}

// turnedAway insists that somebody can neither request nor read.
func (d *door) turnedAway(t *testing.T, who harness.Actor, role, why string) {
	t.Helper()
	asked := who.Write(t, d.path("request/"+role), map[string]any{"justification": "order 4711 is stuck"})
	for _, answer := range []harness.Answer{asked, who.Read(t, d.path("creds/"+role))} {
		answer.Refused(t, http.StatusForbidden, "access denied: log in again: "+why)
		if answer.Data["code"] != "fresh_login_needed" || answer.Data["role"] != role {
			t.Errorf("%s: %s", answer.Request, answer.Body)
		}
	}
}

func TestStepUp(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for name, row := range map[string]func(*testing.T){
		"a fresh login requests and reads":                             d.fresh,
		"a login that has grown old is good again after a new one":     d.growsOld,
		"a child of a fresh login's token is turned away":              d.child,
		"a token of a token role that names the entity is turned away": d.entityAlias,
		"a batch token is turned away":                                 d.batch,
		"a login at another mount is turned away":                      d.otherMount,
		"what a role says about logins is checked when written":        d.written,
		"the check asks for what look-ups need, and that is enough":    d.policyIsEnough,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row(t)
		})
	}
}

func (d *door) fresh(t *testing.T) {
	t.Helper()
	c := d.cast(t)
	d.guarded(t, c, "fresh", map[string]any{"required_login": d.userpass})
	a := c.access(t, "fresh")
	if !d.reads(t, a.creds.String(t, "token")) {
		t.Error("the credential does not work")
	}
	d.guarded(t, c, "fresh-auto", map[string]any{"approver_groups": "", "auto_approve": true, "require_justification": false})
	c.alice.Read(t, c.path("creds/fresh-auto")).OK(t)
}

func (d *door) growsOld(t *testing.T) {
	t.Helper()
	c := d.cast(t)
	d.guarded(t, c, "old", map[string]any{"max_login_age": 10})
	c.alice.LogIn(t)
	id := c.grant(t, "old")
	c.alice.Read(t, c.path("creds/old")).OK(t)
	poll.Until(t, 30*time.Second, func() error {
		c.alice.Write(t, "auth/token/renew-self", nil).OK(t) // which makes no new login
		asked := c.alice.Write(t, c.path("request/old"), map[string]any{"justification": "order 4711 is stuck"})
		if asked.Status != http.StatusForbidden {
			return errors.New("an old login still requests")
		}
		return nil
	})
	d.turnedAway(t, c.alice.Actor, "old", "the login is older than the 10s that the role allows")
	c.alice.LogIn(t)
	if again := c.alice.Read(t, c.path("creds/old")).OK(t); again.Data["pim_request_id"] != id {
		t.Errorf("another grant than before: %s", again.Body)
	}
}

func (d *door) child(t *testing.T) {
	t.Helper()
	c := d.cast(t)
	maker := host.Policy(t, "maker", `path "auth/token/create" { capabilities = ["update"] }`)
	c.alice = host.Person(t, "alice", d.scene.policy, maker)
	host.SetMembers(t, c.eligible, c.alice)
	d.guarded(t, c, "child", nil)
	made := c.alice.Write(t, "auth/token/create", nil).OK(t)
	d.turnedAway(t, c.alice.With("alice's child", fmt.Sprint(made.Auth["client_token"])), "child", "this token was made by another token")
	c.access(t, "child")
}

// A token role can make tokens that belong to somebody's entity.
func (d *door) entityAlias(t *testing.T) {
	t.Helper()
	c := d.cast(t)
	d.guarded(t, c, "alias", nil)
	role := "impostor-" + strings.ToLower(c.alice.Login)
	alias := "token-" + c.alice.Login
	root := host.Root()
	root.Write(t, "identity/entity-alias", map[string]any{
		"name": alias, "canonical_id": c.alice.EntityID, "mount_accessor": d.accessor(t, "token"),
	}).OK(t)
	root.Write(t, "auth/token/roles/"+role, map[string]any{"allowed_entity_aliases": alias, "allowed_policies": d.scene.policy}).OK(t)
	made := root.Write(t, "auth/token/create/"+role, map[string]any{"entity_alias": alias, "policies": []string{d.scene.policy}}).OK(t)
	if made.Auth["entity_id"] != c.alice.EntityID {
		t.Fatalf("the token is of entity %v", made.Auth["entity_id"])
	}
	d.turnedAway(t, c.alice.With("impostor", fmt.Sprint(made.Auth["client_token"])), "alias", "this token was made by another token")
}

func (d *door) batch(t *testing.T) {
	t.Helper()
	c := d.cast(t)
	d.guarded(t, c, "batch", nil)
	host.Root().Write(t, "auth/userpass/users/"+c.alice.Login, map[string]any{"token_type": "batch"}).OK(t)
	c.alice.LogIn(t)
	d.turnedAway(t, c.alice.Actor, "batch", "this token has no accessor")
}

func (d *door) otherMount(t *testing.T) {
	t.Helper()
	c := d.cast(t)
	root, path := host.Root(), "vpn-"+strings.ToLower(c.alice.Login)
	root.Write(t, "sys/auth/"+path, map[string]any{"type": "userpass"}).OK(t)
	vpn := d.accessor(t, path)
	root.Write(t, "auth/"+path+"/users/"+c.alice.Login, map[string]any{"password": "of-alice", "token_policies": d.scene.policy}).OK(t)
	root.Write(t, "identity/entity-alias", map[string]any{
		"name": c.alice.Login, "canonical_id": c.alice.EntityID, "mount_accessor": vpn,
	}).OK(t)
	logged := host.Anonymous().Write(t, "auth/"+path+"/login/"+c.alice.Login, map[string]any{"password": "of-alice"}).OK(t)
	through := c.alice.With("alice through the vpn", fmt.Sprint(logged.Auth["client_token"]))

	const why = "this token was made by a login at another auth mount than the role asks for"
	d.guarded(t, c, "vpn", map[string]any{"required_login": vpn})
	d.turnedAway(t, c.alice.Actor, "vpn", why)
	through.Write(t, d.path("request/vpn"), map[string]any{"justification": "order 4711 is stuck"}).OK(t)
	d.guarded(t, c, "office", map[string]any{"required_login": d.userpass, "max_login_age": 0})
	d.turnedAway(t, through, "office", why)
	if refused := through.Read(t, d.path("creds/office")); refused.Data["required_login"] != d.userpass || refused.Data["max_login_age"] != nil {
		t.Errorf("the answer should name the login: %s", refused.Body)
	}
	c.ask(t, "office")
}

func (d *door) written(t *testing.T) {
	t.Helper()
	c := d.cast(t)
	for _, row := range []struct {
		fields map[string]any
		says   string
	}{
		{map[string]any{"max_login_age": "15m"}, "token_target: is required"},
		{map[string]any{"token_target": "nowhere"}, "token_target: does not exist"},
		{map[string]any{"token_target": d.target.Name, "max_login_age": 5}, "max_login_age: must be 0 or from 10s"},
		{map[string]any{"token_target": d.target.Name, "required_login": "userpass/"}, "required_login: must be the accessor"},
		{map[string]any{"token_target": d.target.Name, "required_login": d.accessor(t, "token")}, "required_login: is the accessor of the token store"},
	} {
		answer := c.role(t, "written", d.tokens(row.fields))
		answer.Refused(t, http.StatusBadRequest, "invalid input: ")
		if !strings.Contains(string(answer.Body), row.says) {
			t.Errorf("%v: %s", row.fields, answer.Body)
		}
	}
	d.guarded(t, c, "written", map[string]any{"max_login_age": "15m", "required_login": d.userpass})
	read := host.Root().Read(t, d.path("roles/written")).OK(t)
	if read.Data["token_target"] != d.target.Name || read.Data["max_login_age"] != 900.0 || read.Data["required_login"] != d.userpass {
		t.Errorf("the role reads %s", read.Body)
	}
}

func (d *door) policyIsEnough(t *testing.T) {
	t.Helper()
	s := newScene(t, nil, d.policy)
	c := s.cast(t)
	body := d.tokens(map[string]any{"token_target": s.target.Name, "max_login_age": "10m"})
	c.role(t, "checked", body).OK(t)
	c.alice.Write(t, c.path("request/checked"), map[string]any{"justification": "order 4711 is stuck"}).
		Refused(t, http.StatusForbidden, "access denied: log in again: this token could not be looked up")
	check := host.Root().Read(t, c.path("targets/"+s.target.Name+"/check")).OK(t)
	if missing := fmt.Sprint(check.Data["missing"]); !strings.Contains(missing, `path "sys/auth" { capabilities = ["read"] }`) {
		t.Errorf("the check does not miss it: %s", check.Body)
	}
	policy := host.Root().Read(t, "auth/approle/role/"+s.target.Login.Name).OK(t).Data["token_policies"]
	names, ok := policy.([]any)
	if !ok || len(names) != 1 {
		t.Fatalf("the login's policies are %v", policy)
	}
	host.Root().Write(t, fmt.Sprintf("sys/policies/acl/%v", names[0]), map[string]any{"policy": check.String(t, "required_policy")}).OK(t)
	c.access(t, "checked")
}
