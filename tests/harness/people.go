package harness

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Person is somebody with an entity, who logs in with a password (userpass) and
// so counts as a human.
type Person struct {
	Actor
	EntityID string
	Login    string // user name, which is the entity's name too
	Password string
}

// Group is an internal identity group.
type Group struct{ ID, Name string }

// short is a random name part. It keeps the names of one test apart from those of
// all others on the same host, also when a test is repeated with -count.
func short() string { return strings.ToLower(rand.Text()[:8]) }

// authMount enables an auth method once per host and returns its accessor.
func (h *Host) authMount(t testing.TB, path, kind string) string {
	t.Helper()
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	if accessor, ok := h.site.auth[path]; ok {
		return accessor
	}
	root := h.Root()
	root.Write(t, "sys/auth/"+path, map[string]any{"type": kind}).OK(t)
	mounts := root.Read(t, "sys/auth").OK(t)
	mount, ok := mounts.Data[path+"/"].(map[string]any)
	if !ok {
		t.Fatalf("%s: no mount %s/ in %s", mounts.Request, path, mounts.Body)
	}
	h.site.auth[path] = fmt.Sprint(mount["accessor"])
	return h.site.auth[path]
}

// Policy writes an ACL policy for this test and returns its name.
func (h *Host) Policy(t testing.TB, name, hcl string) string {
	t.Helper()
	name += "-" + short()
	h.Root().Write(t, "sys/policies/acl/"+name, map[string]any{"policy": hcl}).OK(t)
	return name
}

// Person creates somebody whose name begins with name, with these ACL policies,
// and logs in.
func (h *Host) Person(t testing.TB, name string, policies ...string) *Person {
	t.Helper()
	accessor := h.authMount(t, "userpass", "userpass")
	p := &Person{Login: name + "-" + short(), Password: short()}
	root := h.Root()
	root.Write(t, "auth/userpass/users/"+p.Login, map[string]any{
		"password": p.Password, "token_policies": policies,
	}).OK(t)
	p.EntityID = h.Entity(t, p.Login, map[string]string{accessor: p.Login}, nil)
	p.Actor = Actor{Name: name, host: h}
	p.LogIn(t)
	return p
}

// Entity creates an identity entity with one alias per auth mount (accessor →
// alias name) and returns its id.
func (h *Host) Entity(t testing.TB, name string, aliases, metadata map[string]string) string {
	t.Helper()
	root := h.Root()
	id := root.Write(t, "identity/entity", map[string]any{"name": name, "metadata": metadata}).OK(t).String(t, "id")
	for accessor, alias := range aliases {
		root.Write(t, "identity/entity-alias", map[string]any{
			"name": alias, "canonical_id": id, "mount_accessor": accessor,
		}).OK(t)
	}
	return id
}

// LogIn replaces the person's token by that of a new login.
func (p *Person) LogIn(t testing.TB) {
	t.Helper()
	p.Token = p.host.login(t, "userpass/login/"+p.Login, map[string]any{"password": p.Password})
}

// login returns the token of a login below auth/.
func (h *Host) login(t testing.TB, path string, data map[string]any) string {
	t.Helper()
	answer := h.Anonymous().Write(t, "auth/"+path, data).OK(t)
	token, ok := answer.Auth["client_token"].(string)
	if !ok {
		t.Fatalf("%s: no token in the answer", answer.Request)
	}
	return token
}

// Group creates an internal group of these people.
func (h *Host) Group(t testing.TB, name string, members ...*Person) *Group {
	t.Helper()
	ids := make([]string, 0, len(members))
	for _, m := range members {
		ids = append(ids, m.EntityID)
	}
	g := &Group{Name: name + "-" + short()}
	g.ID = h.Root().Write(t, "identity/group", map[string]any{"name": g.Name, "member_entity_ids": ids}).
		OK(t).String(t, "id")
	return g
}

// SetMembers replaces who is in the group.
func (h *Host) SetMembers(t testing.TB, g *Group, members ...*Person) {
	t.Helper()
	ids := make([]string, 0, len(members))
	for _, m := range members {
		ids = append(ids, m.EntityID)
	}
	h.Root().Write(t, "identity/group/id/"+g.ID, map[string]any{"name": g.Name, "member_entity_ids": ids}).OK(t)
}

// Disable disables or enables a person's entity, as an operator does when
// somebody leaves.
func (h *Host) Disable(t testing.TB, p *Person, disabled bool) {
	t.Helper()
	h.Root().Write(t, "identity/entity/id/"+p.EntityID, map[string]any{"disabled": disabled}).OK(t)
}

// AppRole is a machine that logs in with a role id and a secret id.
type AppRole struct {
	Name, RoleID, SecretID string
	host                   *Host
}

// AppRole creates a machine login with these ACL policies and without the default
// policy. ttl is that of its tokens, such as "20m".
func (h *Host) AppRole(t testing.TB, name, ttl string, policies ...string) *AppRole {
	t.Helper()
	h.authMount(t, "approle", "approle")
	r := &AppRole{Name: name + "-" + short(), host: h}
	root, path := h.Root(), "auth/approle/role/"+r.Name
	root.Write(t, path, map[string]any{
		"token_policies": policies, "token_ttl": ttl, "token_no_default_policy": true,
	}).OK(t)
	r.RoleID = root.Read(t, path+"/role-id").OK(t).String(t, "role_id")
	r.SecretID = root.Write(t, path+"/secret-id", nil).OK(t).String(t, "secret_id")
	return r
}

// LogIn returns the machine with the token of a new login.
func (r *AppRole) LogIn(t testing.TB) Actor {
	t.Helper()
	token := r.host.login(t, "approle/login", map[string]any{"role_id": r.RoleID, "secret_id": r.SecretID})
	return Actor{Name: r.Name, Token: token, host: r.host}
}

// Secret puts a value into the KV store (version 2 at secret/) for the time of
// the test; path is below secret/data/.
func (h *Host) Secret(t testing.TB, path string, data map[string]string) {
	t.Helper()
	h.Root().Write(t, "secret/data/"+path, map[string]any{"data": data}).OK(t)
	t.Cleanup(func() {
		if err := h.admin(http.MethodDelete, "secret/metadata/"+path, nil); err != nil {
			t.Errorf("removing a secret: %v", err)
		}
	})
}

// PersonPolicy is what everybody needs to ask, decide and read at this mount; it
// gives no right that a role of pim has not given. It returns the policy's name.
func (m *Mount) PersonPolicy(t testing.TB) string {
	t.Helper()
	rules := map[string]string{}
	for path, capabilities := range map[string]string{
		"eligible/*":        `"read", "list"`,
		"request/*":         `"update"`,
		"requests/mine/":    `"list"`,
		"requests/*":        `"read", "delete"`,
		"requests/+/extend": `"update"`,
		"approvals/*":       `"read", "update", "list"`,
		"creds/*":           `"read", "update"`,
		"grants/*":          `"read", "list"`,
		"grants/+/revoke":   `"update"`,
		"break-glass/*":     `"update"`,
		"reviews/*":         `"read", "update", "list"`,
	} {
		rules[m.Path+"/"+path] = capabilities
	}
	return m.Host.Policy(t, "person", policyText(rules))
}
