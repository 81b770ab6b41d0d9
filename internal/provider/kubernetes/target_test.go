package kubernetes

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

func TestTargetsAreRefusedWithTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		fields contract.Values
		token  string
		env    contract.Env
		field  string // "" = nothing is wrong
	}{
		{name: "an address and a token", fields: contract.Values{"host": "https://k8s.example.com:6443"}, token: "t"},
		{name: "no address", token: "t", field: "host"},
		{name: "plain HTTP", fields: contract.Values{"host": "http://k8s.example.com"}, token: "t", field: "host"},
		{name: "an address with a user", fields: contract.Values{"host": "https://alice@k8s.example.com"}, token: "t", field: "host"},
		{name: "an address with a query", fields: contract.Values{"host": "https://k8s.example.com?x"}, token: "t", field: "host"},
		{name: "this machine", fields: contract.Values{"host": "https://127.0.0.1:6443"}, token: "t", field: "host"},
		{name: "this machine by name", fields: contract.Values{"host": "https://localhost:6443"}, token: "t", field: "host"},
		{name: "the metadata service", fields: contract.Values{"host": "https://169.254.169.254"}, token: "t", field: "host"},
		{name: "this machine as an IPv6 address", fields: contract.Values{"host": "https://[::ffff:127.0.0.1]"}, token: "t", field: "host"},
		{name: "this machine where it is permitted", fields: contract.Values{"host": "https://127.0.0.1:6443"}, token: "t", env: contract.Env{AllowLocal: true}},
		{name: "no token", fields: contract.Values{"host": "https://k8s.example.com"}, field: "token"},
		{name: "a token of two lines", fields: contract.Values{"host": "https://k8s.example.com"}, token: "a\nb", field: "token"},
		{name: "a token and a file", fields: contract.Values{"host": "https://k8s.example.com", "token_file": "x"}, token: "t", env: contract.Env{FileRoot: "/secrets"}, field: "token_file"},
		{name: "a file without a root", fields: contract.Values{"host": "https://k8s.example.com", "token_file": "x"}, field: "token_file"},
		{name: "a file outside the root", fields: contract.Values{"host": "https://k8s.example.com", "token_file": "../x"}, env: contract.Env{FileRoot: "/secrets"}, field: "token_file"},
		{name: "an absolute file outside the root", fields: contract.Values{"host": "https://k8s.example.com", "token_file": "/etc/shadow"}, env: contract.Env{FileRoot: "/secrets"}, field: "token_file"},
		{name: "an absolute file below the root", fields: contract.Values{"host": "https://k8s.example.com", "token_file": "/secrets/k8s"}, env: contract.Env{FileRoot: "/secrets"}},
		{name: "a certificate that is none", fields: contract.Values{"host": "https://k8s.example.com", "ca_cert": "x"}, token: "t", field: "ca_cert"},
		{name: "a server name with a blank", fields: contract.Values{"host": "https://k8s.example.com", "tls_server_name": "a b"}, token: "t", field: "tls_server_name"},
		{name: "a root token of a minute", fields: contract.Values{"host": "https://k8s.example.com", "root_token_ttl": 60}, token: "t", field: "root_token_ttl"},
		{name: "a managed namespace that is none", fields: contract.Values{"host": "https://k8s.example.com", "managed_namespaces": []string{"*"}}, token: "t", field: "managed_namespaces"},
		{name: "a token namespace that is none", fields: contract.Values{"host": "https://k8s.example.com", "token_namespaces": []string{"A"}}, token: "t", field: "token_namespaces"},
		{name: "the plugin's own cluster where that is not permitted", env: contract.Env{AllowAmbient: []string{"aws"}}, field: "host"},
		{name: "the plugin's own cluster", env: contract.Env{AllowAmbient: []string{Type}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			target := contract.Target{Fields: row.fields, Secrets: map[string]secret.String{}}
			if row.token != "" {
				target.Secrets["token"] = secret.New(row.token)
			}
			report := describe(inPod(t.TempDir())).CheckTarget(row.env, target)
			if row.field == "" {
				if !report.OK() {
					t.Errorf("refused: %v", report.Problems)
				}
				return
			}
			if !slices.ContainsFunc(report.Problems, func(p contract.Problem) bool { return p.Field == row.field }) {
				t.Errorf("no problem with %s, but %v", row.field, report.Problems)
			}
		})
	}
}

// inPod are the surroundings of a plugin that runs in a cluster.
func inPod(dir string) surroundings {
	env := map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
	w := machine()
	w.getenv, w.accountDir = func(name string) string { return env[name] }, dir
	return w
}

func TestAPodWithoutAClusterHasNone(t *testing.T) {
	t.Parallel()
	w := machine()
	w.getenv = func(string) string { return "" }
	report := describe(w).CheckTarget(contract.Env{AllowAmbient: []string{Type}}, contract.Target{})
	if report.Fields() != "host, token" {
		t.Errorf("got %v", report.Problems)
	}
}

func TestTokenFilesAreReadAnewAndStayBelowTheRoot(t *testing.T) {
	t.Parallel()
	root, outside := t.TempDir(), t.TempDir()
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := secretFile{File: remote.File{Root: root, Path: "token"}}
	for _, want := range []string{"first", "second"} {
		write(filepath.Join(root, "token"), want+"\n")
		if got, err := f.read(); err != nil || got.Reveal() != want {
			t.Errorf("read %q, %v", got.Reveal(), err)
		}
	}
	write(filepath.Join(outside, "secret"), "x")
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if got, err := (secretFile{File: remote.File{Root: root, Path: "link"}}).read(); err == nil || !got.Empty() {
		t.Error("a link led out of the root")
	}
	if _, err := (secretFile{File: remote.File{Root: root, Path: "absent"}}).read(); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}

func TestAnOpenTargetHasNoProblem(t *testing.T) {
	t.Parallel()
	_, err := Descriptor().New(contract.Env{Clock: clock.System{}}, contract.Target{Name: "prod"})
	e := failureWith(t, err, "bad_target")
	if !e.Refused {
		t.Error("trying again will not help")
	}
}
