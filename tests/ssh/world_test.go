package ssh

import (
	"context"
	"crypto/rand"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// principal is the login name that certificates are for; sshd maps it to
// whoever runs the test.
const principal = "deploy"

// site is a mount of pim with a role whose credentials are SSH certificates,
// and the engine that signs them.
type site struct {
	pim        *harness.Mount
	tap        *harness.Tap
	alice, bob *harness.Person
	engine     string // mount path of the SSH engine
	ca         string // its public key
	role       string // of pim: approved by itself
	asked      string // of pim: bob approves
	targetPath string
}

func short() string { return strings.ToLower(rand.Text()[:8]) }

func newSite(t *testing.T, p harness.Plugin) *site {
	t.Helper()
	root := host.Root()
	s := &site{engine: "ssh-" + short(), role: "shell", asked: "shell-asked", tap: harness.NewTap(t, host, "signed_key", isSigning), pim: host.Mount(t, p)}
	root.Write(t, "sys/mounts/"+s.engine, map[string]any{"type": "ssh"}).OK(t)
	t.Cleanup(func() {
		gone, err := root.Do(context.Background(), http.MethodDelete, "sys/mounts/"+s.engine, nil, nil)
		if err != nil || gone.Status != http.StatusNoContent {
			t.Errorf("unmounting the SSH engine: %d %v", gone.Status, err)
		}
	})
	s.newCA(t)
	s.writeEngineRole(t, nil)
	sign := host.Policy(t, "sign", `path "`+s.engine+`/sign/prod" { capabilities = ["create", "update"] }`)
	target := s.pim.HostTarget(t, s.tap.URL, map[string]string{
		s.engine + "/roles/prod": `"read"`, s.engine + "/config/ca": `"read"`,
	}, sign)
	s.targetPath = s.path("targets/" + target.Name)
	root.Write(t, s.targetPath, map[string]any{"public_krl": true}).OK(t)
	person := s.pim.PersonPolicy(t)
	s.alice, s.bob = host.Person(t, "alice", person), host.Person(t, "bob", person)
	eng, leads := host.Group(t, "eng", s.alice).Name, host.Group(t, "leads", s.bob).Name
	s.writeRole(t, s.role, map[string]any{"auto_approve": true, "approvals": 0, "eligible_groups": eng, "approver_groups": ""})
	s.writeRole(t, s.asked, map[string]any{"eligible_groups": eng, "approver_groups": leads})
	return s
}

func (s *site) path(below string) string { return s.pim.Path + "/" + below }

// newCA makes the engine's CA, or a new one in its place.
func (s *site) newCA(t *testing.T) {
	t.Helper()
	root := host.Root()
	root.Delete(t, s.engine+"/config/ca").OK(t)
	root.Write(t, s.engine+"/config/ca", map[string]any{"generate_signing_key": true, "key_type": "ed25519"}).OK(t)
	s.ca = strings.TrimSpace(root.Read(t, s.engine+"/config/ca").OK(t).String(t, "public_key"))
}

// writeEngineRole writes the engine's role: as it should be, but for overrides.
func (s *site) writeEngineRole(t *testing.T, overrides map[string]any) {
	t.Helper()
	role := map[string]any{
		"key_type": "ca", "allow_user_certificates": true, "allow_user_key_ids": true, "allowed_users": principal + ",root",
		"allowed_extensions": "permit-pty,permit-agent-forwarding", "default_extensions": map[string]string{}, "ttl": "1h", "max_ttl": "24h",
	}
	maps.Copy(role, overrides)
	host.Root().Write(t, s.engine+"/roles/prod", role).OK(t)
}

func (s *site) writeRole(t *testing.T, name string, with map[string]any) {
	t.Helper()
	host.Root().Write(t, s.path("roles/"+name), s.roleWith(with)).OK(t)
}

// roleWith is a role that works, but for with.
func (s *site) roleWith(with map[string]any) map[string]any {
	role := map[string]any{
		"target": "local", "credential_type": "ssh", "path": s.engine + "/sign/prod", "valid_principals": principal,
		"extensions": "permit-pty", "ca_public_key": s.ca, "require_justification": false, "min_ttl": 1, "ttl": "10m",
		"params":          map[string]any{"public_key": map[string]any{"pattern": ".+", "required": true}},
		"eligible_groups": "nobody", "approver_groups": "nobody",
	}
	maps.Copy(role, with)
	return role
}

// key is a key pair of a person, and once it is signed a certificate.
type key struct {
	file   string
	public string
	lease  string
	grant  string
	serial string
}

func newKey(t *testing.T) *key {
	t.Helper()
	k := &key{file: filepath.Join(t.TempDir(), "id")}
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice@laptop", "-f", k.file)
	k.public = read(t, k.file+".pub")
	return k
}

// sign has pim sign a new key of alice's.
func (s *site) sign(t *testing.T, with map[string]any) *key {
	t.Helper()
	k := newKey(t)
	ask := map[string]any{"params": map[string]string{"public_key": k.public}}
	maps.Copy(ask, with)
	k.take(t, s.alice.Write(t, s.path("creds/"+s.role), ask).OK(t))
	return k
}

// take keeps an answer of creds.
func (k *key) take(t *testing.T, a harness.Answer) {
	t.Helper()
	k.lease, k.grant, k.serial = a.LeaseID, a.String(t, "pim_request_id"), a.String(t, "serial_number")
	write(t, k.file+"-cert.pub", a.String(t, "signed_key"))
}

func (s *site) revokeLease(t *testing.T, k *key) {
	t.Helper()
	host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": k.lease, "sync": true}).OK(t)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func read(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// isSigning tells whether a call makes a certificate.
func isSigning(path string) bool { return strings.Contains(path, "/sign/") }
