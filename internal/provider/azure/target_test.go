package azure

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

func TestTargetFields(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	ambient := []string{Type}
	for _, row := range []struct {
		name   string
		env    contract.Env
		change contract.Values
		bare   bool // without a secret
		wrong  string
	}{
		{name: "tenant, client and secret are enough"},
		{name: "a tenant by its domain is refused", change: contract.Values{"tenant_id": "example.com"}, wrong: "tenant_id"},
		{name: "no secret and no permission for the machine's identity", bare: true, wrong: "client_secret"},
		{name: "the machine's identity where it is permitted", bare: true, env: contract.Env{AllowAmbient: ambient}},
		{
			name: "a token file where it is permitted", bare: true, env: contract.Env{AllowAmbient: ambient, FileRoot: "/run/pim"},
			change: contract.Values{"federated_token_file": "token"},
		},
		{
			name: "a token file without permission", bare: true, env: contract.Env{FileRoot: "/run/pim"},
			change: contract.Values{"federated_token_file": "token"}, wrong: "federated_token_file",
		},
		{
			name: "a token file outside of the root", bare: true, env: contract.Env{AllowAmbient: ambient, FileRoot: "/run/pim"},
			change: contract.Values{"federated_token_file": "/etc/shadow"}, wrong: "federated_token_file",
		},
		{
			name: "a secret and a token file", env: contract.Env{AllowAmbient: ambient, FileRoot: "/run/pim"},
			change: contract.Values{"federated_token_file": "token"}, wrong: "client_secret",
		},
		{name: "an endpoint on this machine", change: contract.Values{"endpoints": map[string]string{"graph": "https://127.0.0.1:1"}}, wrong: "endpoints"},
		{
			name: "an endpoint on this machine where it is permitted", env: contract.Env{AllowLocal: true},
			change: contract.Values{"endpoints": map[string]string{"graph": "https://127.0.0.1:1"}},
		},
		{
			name: "an endpoint without TLS", env: contract.Env{AllowLocal: true},
			change: contract.Values{"endpoints": map[string]string{"arm": "http://127.0.0.1:1"}}, wrong: "endpoints",
		},
		{name: "an endpoint of a service that is none", change: contract.Values{"endpoints": map[string]string{"mail": "https://a"}}, wrong: "endpoints"},
		{name: "a scope that is none", change: contract.Values{"managed_scopes": []string{"/"}}, wrong: "managed_scopes"},
	} {
		target := k.target(row.change)
		if row.bare {
			target.Secrets = nil
		}
		_, report := readTarget(row.env, target)
		found := slices.ContainsFunc(report.Problems, func(p contract.Problem) bool { return p.Field == row.wrong })
		if (row.wrong == "") != report.OK() || (row.wrong != "" && !found) {
			t.Errorf("%s: %v", row.name, report.Problems)
		}
	}
}

// TestTheRealWayLeadsNowhereElse goes through the provider's own transport.
func TestTheRealWayLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	elsewhere := httptest.NewUnstartedServer(http.NotFoundHandler())
	elsewhere.Config.ErrorLog = log.New(io.Discard, "", 0)
	elsewhere.StartTLS()
	t.Cleanup(elsewhere.Close)
	for name, address := range map[string]string{
		"nobody listens": "https://127.0.0.1:1", "a certificate that nobody vouches for": elsewhere.URL,
	} {
		target := k.target(contract.Values{"endpoints": map[string]string{"login": address, "graph": address, "arm": address}})
		p, err := open(machine(), contract.Env{Clock: clock.System{}, AllowLocal: true}, target)
		if err != nil {
			t.Fatal(name, err)
		}
		_, err = p.Place(t.Context())
		if failed, ok := errors.AsType[*contract.Error](err); !ok || failed.Code != remote.CodeUnreachable || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEachCloudHasItsOwnAddresses(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	for cloud, parts := range map[string][]string{
		cloudPublic:     {"login.microsoftonline.com", "graph.microsoft.com", "management.azure.com", "core.windows.net"},
		cloudGovernment: {"login.microsoftonline.us", "graph.microsoft.us", "management.usgovcloudapi.net", "usgovcloudapi.net"},
		cloudChina:      {"login.chinacloudapi.cn", "microsoftgraph.chinacloudapi.cn", "management.chinacloudapi.cn", "chinacloudapi.cn"},
	} {
		c, report := readTarget(contract.Env{}, k.target(contract.Values{"cloud": cloud}))
		got := []string{c.endpoints[svcLogin], c.endpoints[svcGraph], c.endpoints[svcARM], c.audience()}
		for i, part := range parts {
			if !report.OK() || !strings.Contains(got[i], part) {
				t.Errorf("%s: %q has no %q", cloud, got[i], part)
			}
		}
	}
}

func TestAWorkloadsTokenIsReadBelowTheRootAtEveryLogin(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.home.AppOf(engineClient).Certificate = true
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "token"), []byte("workload-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	target := k.target(contract.Values{"federated_token_file": "token"})
	target.Secrets, target.Place = nil, ""
	p, err := open(k.surroundings(), contract.Env{Clock: k.clk, FileRoot: root, AllowAmbient: []string{Type}}, target)
	if err != nil {
		t.Fatal(err)
	}
	if place, err := p.Place(t.Context()); err != nil || place != homeTenant {
		t.Errorf("place %q, %v", place, err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := (targetConfig{token: remote.File{Root: root, Path: "out"}}).readToken(); err == nil {
		t.Error("a link led out of the root")
	}
}

func TestACertificateAndTheMachinesOwnIdentityLogInToo(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.home.AppOf(engineClient).Certificate = true
	certificate := k.target(nil)
	certificate.Secrets = map[string]secret.String{"client_certificate": newCertificate(t)}
	managed := k.target(nil)
	managed.Secrets = nil
	for name, target := range map[string]contract.Target{"certificate": certificate, "managed identity": managed} {
		p, err := open(k.surroundings(), contract.Env{Clock: k.clk, AllowAmbient: []string{Type}}, target)
		if err != nil {
			t.Fatal(name, err)
		}
		if place, err := p.Place(t.Context()); err != nil || place != homeTenant {
			t.Errorf("%s: place %q, %v", name, place, err)
		}
		if _, err := p.StageRoot(t.Context(), string(k.input(t, nil).Credential)); err == nil {
			t.Errorf("%s was rotated", name)
		}
	}
	broken := k.target(nil)
	broken.Secrets = map[string]secret.String{"client_certificate": secret.New("-----BEGIN NOTHING-----")}
	if _, report := readTarget(k.env(), broken); report.OK() {
		t.Error("a certificate that is none was taken")
	}
}

// newCertificate is a certificate and its key in PEM.
func newCertificate(t *testing.T) secret.String {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sample := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: start.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, sample, sample, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
}

func TestThePlaceIsTheTenantAndTheSubscriptionItIsBoundTo(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	for subscriptionID, want := range map[string]string{
		"": homeTenant, subscription: homeTenant + "/" + subscription, guid("somebody else's subscription"): "",
	} {
		p := k.open(t, k.target(contract.Values{"subscription_id": subscriptionID}))
		if place, err := p.Place(t.Context()); place != want || (err == nil) != (want != "") {
			t.Errorf("place %q instead of %q (%v)", place, want, err)
		}
	}
}

func TestRoleFields(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	for _, row := range []struct {
		name   string
		fields contract.Values
		wrong  string
	}{
		{"a service principal with a role", contract.Values{"azure_roles": []string{"Reader@" + scopeAll}}, ""},
		{"a role by the id of its definition", contract.Values{"azure_roles": []string{builtIn()["reader"] + "@" + scopeGroup}}, ""},
		{"nothing at all", contract.Values{}, "credential_type"},
		{"a role by an unknown name", contract.Values{"azure_roles": []string{"Boss@" + scopeAll}}, "azure_roles"},
		{"a role without a scope", contract.Values{"azure_roles": []string{"Reader"}}, "azure_roles"},
		{"a scope that the target does not manage", contract.Values{"azure_roles": []string{"Reader@/subscriptions/" + guid("other")}}, "azure_roles"},
		{"the same twice", contract.Values{"azure_roles": []string{"Reader@" + scopeAll, "reader@" + scopeAll}}, "azure_roles"},
		{"a group by its name", contract.Values{"azure_groups": []string{"admins"}}, "azure_groups"},
		{"two roles for one's own account", contract.Values{
			"principal_source": "metadata:oid", "azure_roles": []string{"Reader@" + scopeAll, "Reader@" + scopeGroup},
		}, "azure_roles"},
		{"an account from nowhere", contract.Values{"credential_type": kindAssignment, "azure_roles": []string{"Reader@" + scopeAll}}, "principal_source"},
		{"a group membership with roles", contract.Values{
			"principal_source": "metadata:oid", "azure_groups": []string{admins}, "azure_roles": []string{"Reader@" + scopeAll},
		}, "azure_roles"},
		{"the engine's own client id as an application", contract.Values{"application_object_id": engineClient}, "application_object_id"},
		{"a password that is purged", contract.Values{"application_object_id": guid("x"), "permanently_delete": true}, "permanently_delete"},
	} {
		report := p.Validate(t.Context(), contract.Spec{Fields: row.fields}, false)
		found := slices.ContainsFunc(report.Problems, func(p contract.Problem) bool { return p.Field == row.wrong })
		if (row.wrong == "") != report.OK() || (row.wrong != "" && !found) {
			t.Errorf("%s: %v", row.name, report.Problems)
		}
	}
	owner := p.Validate(t.Context(), contract.Spec{Fields: contract.Values{"azure_roles": []string{"Owner@" + scopeAll}}}, true)
	if !owner.OK() || len(owner.Warnings) != 1 {
		t.Errorf("a role that can assign roles needs one warning: %+v", owner)
	}
}

func TestTheLargestRoleFitsIntoAHandle(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	var roles, groups []string
	for i := range maxRoles {
		id := guid("role", string(rune('a'+i)))
		scope := scopeGroup + "/providers/Microsoft.Compute"
		for len(scope) < maxScopeLength-90 {
			scope += "/" + strings.Repeat("x", 80)
		}
		roles = append(roles, id+"@"+scope)
	}
	for i := range maxGroups {
		groups = append(groups, guid("group", string(rune('a'+i))))
	}
	h, err := p.Plan(t.Context(), k.input(t, contract.Values{"azure_roles": roles, "azure_groups": groups, "permanently_delete": true}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := h.Encode()
	if err != nil || len(text) > domain.MaxHandleBytes-400 {
		t.Errorf("%d bytes leave no room for what is learnt on the way (%v)", len(text), err)
	}
}

func TestRevocationClasses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		fields  contract.Values
		class   domain.Class
		seconds int
	}{
		{"a service principal", contract.Values{"azure_roles": []string{"a"}}, domain.Propagating, 1800},
		{"a service principal in a group", contract.Values{"azure_roles": []string{"a"}, "azure_groups": []string{"b"}}, domain.ExpiryOnly, 0},
		{"a password", contract.Values{"application_object_id": "a"}, domain.Propagating, 86400},
		{"a role of one's own", contract.Values{"principal_source": "a", "azure_roles": []string{"a"}}, domain.Propagating, 1800},
		{"a group of one's own", contract.Values{"principal_source": "a", "azure_groups": []string{"a"}}, domain.ExpiryOnly, 0},
	} {
		if r := revocation(row.fields); r.Class != row.class || r.Seconds != row.seconds {
			t.Errorf("%s: %s %d", row.name, r.Class, r.Seconds)
		}
	}
}

func TestTheRootSecretIsReplacedInTwoSteps(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	engine := k.home.AppOf(engineClient)
	old := k.open(t, k.target(nil))
	id := string(k.input(t, nil).Credential)
	if _, err := old.StageRoot(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	k.clk.Advance(usualLag)
	staged, err := old.StageRoot(t.Context(), id) // again: the answer of the first was lost
	if err != nil || len(engine.Passwords) != 2 {
		t.Fatalf("one password beside the old one expected, %d are there (%v)", len(engine.Passwords), err)
	}
	k.clk.Advance(usualLag)
	if err := old.AbandonRoot(t.Context(), id, staged); err != nil || len(engine.Passwords) != 1 {
		t.Fatalf("abandoned, and %d are there (%v)", len(engine.Passwords), err)
	}
	if staged, err = old.StageRoot(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	target := k.target(nil)
	before := target.Secrets
	target.Secrets = staged
	if err := k.open(t, target).CommitRoot(t.Context(), id, before); err == nil || len(engine.Passwords) != 2 {
		t.Fatal("the old secret was removed before the new one was proven")
	}
	k.clk.Advance(usualLag)
	fresh := k.open(t, target)
	for range 2 {
		if err := fresh.CommitRoot(t.Context(), id, before); err != nil {
			t.Fatal(err)
		}
	}
	if len(engine.Passwords) != 1 || engine.Passwords[0].Text != staged["client_secret"].Reveal() {
		t.Error("the new secret alone should be left")
	}
	if _, err := oldKey([]password{{KeyID: guid("a"), Hint: "eng"}, {KeyID: guid("b"), Hint: "eng"}}, "x", secret.New(engineSecret)); err == nil {
		t.Error("one of two that begin alike was chosen")
	}
}

func TestCheckSaysWhoWhatIsMissingAndHowMuchIsUsed(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(contract.Values{"subscription_id": subscription}))
	p.target.Place = homeTenant + "/" + subscription
	specs := []contract.Spec{{Fields: readerRole()}}
	report, err := p.Check(t.Context(), specs)
	if err != nil || !strings.Contains(report.Identity, engineClient) || !slices.Contains(report.Missing, assignRight+" on "+scopeAll) {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := p.arm.assign(t.Context(), assignment{Scope: scopeAll, Role: builtIn()["user access administrator"], Name: guid("engine")},
		k.engine.ID, principalService, "by hand"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		k.mustIssue(t, p, readerRole())
	}
	_, h := k.mustIssue(t, p, readerRole())
	k.mustEnd(t, p, h)
	report, err = p.Check(t.Context(), specs)
	if err != nil || len(report.Missing) != 0 || len(report.Unknown) != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	for name, want := range map[string]int{"role_assignments": 4, "owned_directory_objects": 3, "deleted_applications": 1} {
		if report.Quotas[name] != want {
			t.Errorf("%s: %d instead of %d", name, report.Quotas[name], want)
		}
	}
	if !strings.Contains(report.RequiredPolicy, "Application.ReadWrite.OwnedBy") || !strings.Contains(report.RequiredPolicy, scopeAll) {
		t.Errorf("the policy lacks something: %s", report.RequiredPolicy)
	}
}
