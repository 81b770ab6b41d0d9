package pki

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// site is a mount of pim with a role whose credentials are certificates, and
// the engine that issues them.
type site struct {
	pim    *harness.Mount
	alice  *harness.Person
	engine string // mount path of the PKI engine
	dir    string
	ca     string // file
	tap    *harness.Tap
}

const roleName = "web"

func short() string { return strings.ToLower(rand.Text()[:8]) }

func newSite(t *testing.T) *site {
	t.Helper()
	root := host.Root()
	s := &site{engine: "pki-" + short(), dir: t.TempDir(), pim: host.Mount(t, harness.Plugin{}), tap: harness.NewTap(t, host, "certificate", isIssue)}
	s.ca = filepath.Join(s.dir, "ca.pem")
	root.Write(t, "sys/mounts/"+s.engine, map[string]any{"type": "pki", "config": map[string]any{"max_lease_ttl": "87600h"}}).OK(t)
	t.Cleanup(func() {
		gone, err := root.Do(context.Background(), http.MethodDelete, "sys/mounts/"+s.engine, nil, nil)
		if err != nil || gone.Status != http.StatusNoContent {
			t.Errorf("unmounting the PKI engine: %d %v", gone.Status, err)
		}
	})
	made := root.Write(t, s.engine+"/root/generate/internal", map[string]any{"common_name": "test CA", "ttl": "8760h", "key_type": "ec"}).OK(t)
	s.write(t, s.ca, made.String(t, "certificate"))
	s.writeEngineRole(t, nil)
	issue := host.Policy(t, "issue", fmt.Sprintf(`path "%s/issue/web" { capabilities = ["update"] } path "%s/sign/web" { capabilities = ["update"] }`, s.engine, s.engine))
	// The login's policy is exactly what the target's check asks for.
	s.pim.HostTarget(t, s.tap.URL, map[string]string{
		s.engine + "/roles/web": `"read"`, s.engine + "/config/crl": `"read"`, s.engine + "/revoke": `"update"`,
		s.engine + "/crl/rotate": `"read"`, s.engine + "/certs": `"list"`,
	}, issue)
	s.alice = host.Person(t, "alice", s.pim.PersonPolicy(t))
	s.writeRole(t, map[string]any{"eligible_groups": host.Group(t, "eng", s.alice).Name})
	return s
}

func (s *site) path(below string) string { return s.pim.Path + "/" + below }

func (s *site) write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeEngineRole writes the engine's role: as it should be, but for overrides.
func (s *site) writeEngineRole(t *testing.T, overrides map[string]any) {
	t.Helper()
	role := map[string]any{
		"allow_any_name": true, "enforce_hostnames": false, "allow_ip_sans": true, "allowed_uri_sans": "*", "key_type": "ec", "key_bits": 256, "max_ttl": "24h",
		"no_store": false, "generate_lease": false, "use_csr_common_name": false, "use_csr_sans": false,
		"organization": "Example", "ou": "", "require_cn": true,
	}
	maps.Copy(role, overrides)
	host.Root().Write(t, s.engine+"/roles/web", role).OK(t)
}

// writeRole writes pim's role: one that works, but for with.
func (s *site) writeRole(t *testing.T, with map[string]any) {
	t.Helper()
	role := map[string]any{
		"target": "local", "credential_type": "pki", "path": s.engine + "/issue/web", "common_name": "{{params.name}}",
		"alt_names": "ops@example.com,app.prod.example", "ip_sans": "10.0.0.7", "uri_sans": "spiffe://prod/app", "subject": "O=Example",
		"auto_approve": true, "approvals": 0, "require_justification": false, "min_ttl": 1, "ttl": "10m",
		"params": map[string]any{"name": map[string]any{"pattern": ".+"}, "csr": map[string]any{"pattern": ".+"}},
	}
	maps.Copy(role, with)
	host.Root().Write(t, s.path("roles/"+roleName), role).OK(t)
}

// forCSR makes the role one that has the requester's own request signed.
func (s *site) forCSR(t *testing.T) {
	t.Helper()
	host.Root().Write(t, s.path("roles/"+roleName), map[string]any{"path": s.engine + "/sign/web"}).OK(t)
}

// cert is a certificate that alice got.
type cert struct {
	file, lease, grant, serial string
	answer                     harness.Answer
}

func (s *site) ask(t *testing.T, with map[string]any) harness.Answer {
	t.Helper()
	ask := map[string]any{"params": map[string]string{"name": "www.prod.example"}}
	maps.Copy(ask, with)
	return s.alice.Write(t, s.path("creds/"+roleName), ask)
}

func (s *site) issue(t *testing.T, with map[string]any) *cert {
	t.Helper()
	return s.keep(t, s.ask(t, with).OK(t))
}

func (s *site) keep(t *testing.T, a harness.Answer) *cert {
	t.Helper()
	c := &cert{
		file: filepath.Join(s.dir, short()+".pem"), lease: a.LeaseID, grant: a.String(t, "pim_request_id"),
		serial: a.String(t, "serial_number"), answer: a,
	}
	s.write(t, c.file, a.String(t, "certificate"))
	return c
}

func (s *site) revokeLease(t *testing.T, c *cert) {
	t.Helper()
	host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": c.lease, "sync": true}).OK(t)
}

// verify has openssl judge a certificate under the CRL as everybody can fetch
// it now. The error is what openssl says.
func (s *site) verify(t *testing.T, file string) error {
	t.Helper()
	crl := filepath.Join(s.dir, "crl.pem")
	s.write(t, crl, string(host.Anonymous().Read(t, s.engine+"/crl/pem").OK(t).Body))
	out, err := exec.CommandContext(t.Context(), "openssl", "verify", "-crl_check", "-CAfile", s.ca, "-CRLfile", crl, file).CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return errors.New(string(out))
	}
	if err != nil {
		t.Fatal(err)
	}
	return nil
}

func (s *site) valid(t *testing.T, file string) {
	t.Helper()
	if err := s.verify(t, file); err != nil {
		t.Fatalf("openssl should accept it: %v", err)
	}
}

func (s *site) revoked(t *testing.T, file string) {
	t.Helper()
	if err := s.verify(t, file); err == nil || !strings.Contains(err.Error(), "certificate revoked") {
		t.Fatalf("openssl should call it revoked: %v", err)
	}
}

// csr is a certificate request of openssl's, as it is sent. Its names mean
// nothing.
func (s *site) csr(t *testing.T) string {
	t.Helper()
	file := filepath.Join(s.dir, short()+".csr")
	out, err := exec.CommandContext(t.Context(), "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", file+".key", "-subj", "/CN=admin.prod.example/O=Admins", "-addext", "subjectAltName=DNS:evil.example", "-outform", "DER", "-out", file).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v %s", err, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// isIssue tells whether a call makes a certificate.
func isIssue(path string) bool {
	return strings.HasSuffix(path, "/issue/web") || strings.HasSuffix(path, "/sign/web")
}

// last is the certificate that the engine issued last, in a file.
func (s *site) last(t *testing.T) string {
	t.Helper()
	file := filepath.Join(s.dir, short()+".pem")
	s.write(t, file, s.tap.Last(t))
	return file
}
