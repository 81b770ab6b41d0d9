package host_test

import (
	"net/http"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// appRoleTarget is a target at a fake host with an AppRole login.
func appRoleTarget(f *fakeHost) contract.Target {
	return contract.Target{
		Name:    "local",
		Fields:  contract.Values{"address": f.URL, "token_role": "pim", "role_id": roleID, "role_name": "pim"},
		Secrets: map[string]secret.String{"secret_id": secret.New(secretID)},
	}
}

// tokenTarget is a target at a fake host with a configured token.
func tokenTarget(f *fakeHost) contract.Target {
	return contract.Target{
		Name:    "local",
		Fields:  contract.Values{"address": f.URL, "token_role": "pim", "namespace": "team1"},
		Secrets: map[string]secret.String{"token": secret.New(rootToken)},
	}
}

func worldOf(target func(*fakeHost) contract.Target) func(t *testing.T) *providertest.World {
	return func(t *testing.T) *providertest.World {
		t.Helper()
		f, elsewhere := newFakeHost(t, "cluster-one"), newFakeHost(t, "cluster-two")
		return &providertest.World{
			Descriptor: host.Descriptor(), Env: contract.Env{Clock: f.clk},
			Target: target(f), Elsewhere: target(elsewhere),
			Exists: f.exists, Works: f.works, Advance: f.clk.Advance, Watch: f.setWatch, Break: f.breakAll,
			Published: f.published,
			Markers:   []string{upstream, rootToken, secretID, "fake-login-token", "fake-child-token"},
			Public: []string{
				"username", "accessor", "policies", "key_id", "serial_number", "valid_principals",
			},
		}
	}
}

// exists lists what there is for a handle's credential.
func (f *fakeHost) exists(t testing.TB, h domain.Handle) []providertest.Object {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := kindOf(h)
	if kind == "" {
		return nil // a handle that was damaged on purpose
	}
	var out []providertest.Object
	for _, token := range f.tokens {
		if token.meta["pim_credential"] != string(h.Credential) || !f.clk.Now().Before(token.until) {
			continue
		}
		out = append(out, providertest.Object{
			What: "token " + token.accessor, Usable: kind == "token", Inert: !token.used, Until: token.until,
		})
		for _, l := range f.leases {
			if l.token == token.id {
				out = append(out, providertest.Object{What: "lease " + l.id, Usable: f.clk.Now().Before(l.until), Until: l.until})
			}
		}
	}
	return append(append(out, f.ssh.exists(f, h)...), f.pki.exists(f, h)...)
}

func (f *fakeHost) works(t testing.TB, issued contract.Issued) bool {
	t.Helper()
	data := issued.Data.Reveal()
	if token, ok := data["token"].(string); ok {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.URL+"/v1/secret/prod", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode == http.StatusOK
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if signed, ok := data["signed_key"].(string); ok {
		return f.ssh.works(f, signed)
	}
	if serial, ok := data["serial_number"].(string); ok {
		return f.pki.works(f, serial)
	}
	for _, l := range f.leases {
		if l.password == data["password"] {
			return true
		}
	}
	return false
}

const inert = "the answer that held a new token, or a new certificate with its key, was lost: " +
	"it is unused, unknown to everybody, and ends by its ttl"

func TestConformance(t *testing.T) {
	t.Parallel()
	cases := []providertest.Case{
		{Name: "a lease that is read", Fields: contract.Values{"path": "database/creds/app"}},
		{
			Name: "a lease that is written with a parameter",
			Fields: contract.Values{
				"path": "database/creds/app", "method": "write", "data": map[string]string{"ttl": "5m", "run": "{{params.run}}"},
			},
			Params: map[string]string{"run": "17"},
		},
		{Name: "a token", Fields: contract.Values{"token_policies": []string{"prod-read"}}},
		{Name: "an SSH certificate", Fields: sshRole(), Params: map[string]string{"public_key": userLine()}},
		{Name: "an X.509 certificate", Fields: pkiRole(), Params: map[string]string{"name": "www.prod.example"}},
		{Name: "an X.509 certificate for the requester's own key", Fields: csrRole(), Params: map[string]string{"csr": csrLine(newKey())}},
	}
	for name, target := range map[string]func(*fakeHost) contract.Target{
		"with an AppRole login": appRoleTarget, "with a configured token": tokenTarget,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, providertest.Suite{Open: worldOf(target), Cases: cases, InertRemainder: inert})
		})
	}
}
