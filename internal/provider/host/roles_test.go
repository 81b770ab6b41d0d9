package host_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// fieldsOf lists the fields that have problems, sorted, each once.
func fieldsOf(r contract.Report) string {
	var out []string
	for _, p := range r.Problems {
		out = append(out, p.Field)
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ",")
}

func TestPathsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	for name, path := range map[string]string{
		"the host's system":               "sys/policies/acl/x",
		"the system in upper case":        "SYS/policies/acl/x",
		"the system of another namespace": "team1/sys/policies/acl/x",
		"identities":                      "identity/entity",
		"a login":                         "auth/approle/login",
		"token creation":                  "auth/token/create",
		"a cubbyhole":                     "cubbyhole/x",
		"two dots":                        "database/../sys/x",
		"a dot":                           "database/./creds",
		"dots at an end":                  "database/creds/x..",
		"an empty segment":                "database//creds",
		"a leading slash":                 "/database/creds/x",
		"a trailing slash":                "database/creds/",
		"a percent escape":                "database/creds/%2e%2e",
		"a query":                         "database/creds/x?wrap=1",
		"a fragment":                      "database/creds/x#y",
		"a backslash":                     `database\creds\x`,
		"a space":                         "database/creds/a b",
		"a control character":             "database/creds/a\n",
		"a wildcard":                      "database/creds/*",
		"a plus wildcard":                 "database/creds/+",
		"a template":                      "database/creds/{{params.x}}",
		"a mount alone":                   "database",
		"a letter beyond ASCII":           "database/creds/\u0441",
		"a very long path":                "database/" + strings.Repeat("x", 600),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			role := contract.Values{"path": path}
			if got := fieldsOf(b.p.Validate(t.Context(), contract.Spec{Fields: role}, false)); got != "path" {
				t.Errorf("problems with %q", got)
			}
			fresh := newBench(t, appRoleTarget)
			if _, _, err := fresh.issue(t.Context(), role); codeOf(err) != "bad_role" || fresh.left() != 0 {
				t.Errorf("issued: %v, %d things left", err, fresh.left())
			}
		})
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	data := func(k, v string) map[string]string { return map[string]string{k: v} }
	for _, row := range []struct {
		name string
		role contract.Values
		want string // fields with problems
	}{
		{"neither path nor policies", contract.Values{}, "path"},
		{"a credential type that is none", contract.Values{"credential_type": "x", "path": "database/creds/x"}, "credential_type"},
		{"a path alone", leaseRole(), ""},
		{"policies alone", tokenRole(), ""},
		{"both", contract.Values{"path": "database/creds/x", "token_policies": []string{"a"}}, "token_policies"},
		{"a token with fields of a lease", contract.Values{"credential_type": "token", "token_policies": []string{"a"}, "method": "write", "path": "database/creds/x"}, "method,path"},
		{"a lease without path", contract.Values{"credential_type": "lease"}, "path"},
		{"a token without policies", contract.Values{"credential_type": "token"}, "token_policies"},
		{"root", contract.Values{"token_policies": []string{"root"}}, "token_policies"},
		{"default", contract.Values{"token_policies": []string{"a", "default"}}, "token_policies"},
		{"a policy in upper case", contract.Values{"token_policies": []string{"Admin"}}, "token_policies"},
		{"an empty policy", contract.Values{"token_policies": []string{""}}, "token_policies"},
		{"data without write", contract.Values{"path": "database/creds/x", "data": data("a", "b")}, "data"},
		{"data with write", contract.Values{"path": "database/creds/x", "method": "write", "data": data("a", "b")}, ""},
		{"a declared parameter", contract.Values{"path": "database/creds/x", "method": "write", "data": data("a", "{{params.run}}")}, ""},
		{"an undeclared parameter", contract.Values{"path": "database/creds/x", "method": "write", "data": data("a", "{{params.other}}")}, "data"},
		{"a parameter inside a value", contract.Values{"path": "database/creds/x", "method": "write", "data": data("a", "x-{{params.run}}")}, "data"},
		{"a template of another kind", contract.Values{"path": "database/creds/x", "method": "write", "data": data("a", "{{identity.entity.id}}")}, "data"},
		{"a key that is a template", contract.Values{"path": "database/creds/x", "method": "write", "data": data("{{params.run}}", "a")}, "data"},
		{"a token role that is a path", contract.Values{"path": "database/creds/x", "token_role": "../x"}, "token_role"},
		{"sessions of an engine that has none", contract.Values{"path": "aws/creds/x", "ends_sessions": true}, "ends_sessions"},
		{"pim as an engine", contract.Values{"path": "access/creds/x", "engine": "pim"}, "engine"},
		{"an engine that is no name", contract.Values{"path": "access/creds/x", "engine": "Data base"}, "engine"},
		{"a class that AWS cannot keep", contract.Values{"path": "aws/creds/x", "revocation": "immediate"}, "revocation"},
		{"a class that a database cannot keep alone", contract.Values{"path": "database/creds/x", "revocation": "immediate"}, "revocation"},
		{"a class that a database keeps by its statements", contract.Values{"path": "database/creds/x", "revocation": "immediate", "ends_sessions": true}, ""},
		{"everything wrong at once", contract.Values{"path": "sys/x", "data": data("a", "b"), "token_role": "/", "ends_sessions": true}, "data,ends_sessions,path,token_role"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			spec := contract.Spec{Role: "r", Fields: row.role, Params: []string{"run"}}
			if got := fieldsOf(b.p.Validate(t.Context(), spec, false)); got != row.want {
				t.Errorf("problems with %q, not with %q", got, row.want)
			}
		})
	}
	if b.f.count("")-b.f.count("GET sys/health") != 0 {
		t.Error("an offline validation called the host")
	}
}

func TestProbedRoles(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		role      contract.Values
		tokenRole map[string]any
		change    func(*fakeHost)
		want      string
		warns     bool
	}{
		{name: "a role that works", role: leaseRole()},
		{name: "a token that works", role: tokenRole()},
		{name: "tokens that are no orphans", role: leaseRole(), tokenRole: map[string]any{"orphan": false}, want: "token_role"},
		{name: "periodic tokens", role: leaseRole(), tokenRole: map[string]any{"token_period": 60}, want: "token_role"},
		{name: "batch tokens", role: leaseRole(), tokenRole: map[string]any{"token_type": "default-batch"}, want: "token_role"},
		{name: "tokens with limited uses", role: leaseRole(), tokenRole: map[string]any{"token_num_uses": 1}, want: "token_role"},
		{name: "a token role without policies", role: leaseRole(), tokenRole: map[string]any{"allowed_policies": []string{}}, want: "token_role"},
		{name: "a token role with patterns alone", role: leaseRole(), tokenRole: map[string]any{"allowed_policies": []string{}, "allowed_policies_glob": []string{"db-*"}}, want: "token_role"},
		{name: "a token role that allows root", role: tokenRole(), tokenRole: map[string]any{"allowed_policies": []string{"root", "prod-read"}}, want: "token_role"},
		{name: "a token role with the engine's own policy", role: leaseRole(), tokenRole: map[string]any{"allowed_policies": []string{"pim-login"}}, want: "token_role"},
		{name: "a policy that is not allowed", role: contract.Values{"token_policies": []string{"other"}}, want: "token_policies"},
		{name: "a policy that a pattern allows", role: contract.Values{"token_policies": []string{"team-a-read"}}, tokenRole: map[string]any{"allowed_policies_glob": []string{"team-a-*"}}},
		{name: "a policy that a pattern does not allow", role: contract.Values{"token_policies": []string{"team-b-read"}}, tokenRole: map[string]any{"allowed_policies_glob": []string{"team-a-*", "*-write", "*admin*"}}, want: "token_policies"},
		{name: "the engine's own policy", role: contract.Values{"token_policies": []string{"pim-login"}}, tokenRole: map[string]any{"allowed_policies": []string{"pim-login"}}, want: "token_policies"},
		{name: "a token role that does not exist", role: leaseRole(), change: func(f *fakeHost) {
			f.answer["GET auth/token/roles/pim"] = status(http.StatusNotFound)
		}, want: "token_role"},
		{name: "a token role that may not be read", role: leaseRole(), change: func(f *fakeHost) { f.denied = []string{"auth/token/roles"} }, warns: true},
		{name: "a mount of another type", role: leaseRole(), change: func(f *fakeHost) { f.mounts["database/"] = "kv" }, want: "path"},
		{name: "a mount that the login cannot see", role: leaseRole(), change: func(f *fakeHost) { delete(f.mounts, "database/") }, warns: true},
		{name: "mounts that cannot be looked up", role: leaseRole(), change: func(f *fakeHost) {
			f.answer["GET sys/internal/ui/mounts"] = status(http.StatusInternalServerError)
		}, warns: true},
		{name: "a host that is down", role: leaseRole(), change: func(f *fakeHost) { f.broken = true }, warns: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.f.with(func(f *fakeHost) {
				maps.Copy(f.role, row.tokenRole)
				if row.change != nil {
					row.change(f)
				}
			})
			report := b.p.Validate(t.Context(), contract.Spec{Fields: row.role}, true)
			if got := fieldsOf(report); got != row.want {
				t.Errorf("problems with %q: %v", got, report.Problems)
			}
			if (len(report.Warnings) > 0) != row.warns {
				t.Errorf("warnings: %v", report.Warnings)
			}
		})
	}
}

func TestRevocationClasses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		role     contract.Values
		class    domain.Class
		survives []domain.Survivor
	}{
		{"a token", tokenRole(), domain.Immediate, []domain.Survivor{domain.CreatedObjects}},
		{"a database", leaseRole(), domain.Propagating, []domain.Survivor{domain.OpenSessions}},
		{"a database that ends sessions", contract.Values{"path": "database/creds/x", "ends_sessions": true}, domain.Immediate, nil},
		{"a database at another path", contract.Values{"path": "pg/creds/x", "engine": "database", "ends_sessions": true}, domain.Immediate, nil},
		{"a database that claims too much", contract.Values{"path": "database/creds/x", "revocation": "immediate"}, domain.Propagating, []domain.Survivor{domain.OpenSessions}},
		{"a database that claims less", contract.Values{"path": "database/creds/x", "ends_sessions": true, "revocation": "expiry_only"}, domain.ExpiryOnly, nil},
		{"an engine nobody knows", contract.Values{"path": "custom/creds/x"}, domain.ExpiryOnly, nil},
		{"an engine nobody knows, declared", contract.Values{"path": "custom/creds/x", "revocation": "immediate"}, domain.Immediate, nil},
		{"aws", contract.Values{"path": "aws/sts/x"}, domain.ExpiryOnly, []domain.Survivor{domain.OpenSessions, domain.IdentityProofs, domain.CreatedObjects}},
		{"aws with users", contract.Values{"path": "aws/creds/x", "revocation": "propagating"}, domain.Propagating, []domain.Survivor{domain.OpenSessions, domain.IdentityProofs, domain.CreatedObjects}},
		{"kubernetes with accounts of its own", contract.Values{"path": "kubernetes/creds/x", "revocation": "immediate"}, domain.Immediate, []domain.Survivor{domain.OpenSessions, domain.OfflineVerifiers}},
		{"no credential type", contract.Values{}, domain.ExpiryOnly, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got := host.Descriptor().Revocation(row.role)
			if got.Class != row.class || !slices.Equal(got.Survives, row.survives) || (got.Class == domain.Immediate) != (got.Seconds > 0) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		fields  contract.Values // on top of a good target
		secrets map[string]string
		want    string
	}{
		{name: "a good target"},
		{name: "no address", fields: contract.Values{"address": ""}, want: "address"},
		{name: "an address that is no URL", fields: contract.Values{"address": "::"}, want: "address"},
		{name: "an address of another scheme", fields: contract.Values{"address": "ftp://bao.internal"}, want: "address"},
		{name: "an address without host", fields: contract.Values{"address": "https://:8200"}, want: "address"},
		{name: "an address with user", fields: contract.Values{"address": "https://a:b@bao.internal"}, want: "address"},
		{name: "an address with path", fields: contract.Values{"address": "https://bao.internal/v1"}, want: "address"},
		{name: "an address with query", fields: contract.Values{"address": "https://bao.internal?x=1"}, want: "address"},
		{name: "an address with fragment", fields: contract.Values{"address": "https://bao.internal#x"}, want: "address"},
		{name: "an address with a bad name", fields: contract.Values{"address": "https://bao_internal"}, want: "address"},
		{name: "an unencrypted address elsewhere", fields: contract.Values{"address": "http://bao.internal:8200"}, want: "address"},
		{name: "an unencrypted address on loopback", fields: contract.Values{"address": "http://localhost:8200"}},
		{name: "an unencrypted address on IPv6 loopback", fields: contract.Values{"address": "http://[::1]:8200/"}},
		{name: "a certificate for an unencrypted address", fields: contract.Values{"address": "http://127.0.0.1:8200", "tls_server_name": "x"}, want: "tls_server_name"},
		{name: "a certificate that is none", fields: contract.Values{"ca_cert": "x"}, want: "ca_cert"},
		{name: "a server name that is none", fields: contract.Values{"tls_server_name": "a b"}, want: "tls_server_name"},
		{name: "a namespace", fields: contract.Values{"namespace": "team1/dev"}},
		{name: "a namespace that climbs", fields: contract.Values{"namespace": "team1/../x"}, want: "namespace"},
		{name: "a namespace with a header in it", fields: contract.Values{"namespace": "a\r\nX-Y: z"}, want: "namespace"},
		{name: "no token role", fields: contract.Values{"token_role": ""}, want: "token_role"},
		{name: "a token role that is a path", fields: contract.Values{"token_role": "a/b"}, want: "token_role"},
		{name: "an auth mount that climbs", fields: contract.Values{"auth_mount": "approle/../token"}, want: "auth_mount"},
		{name: "an auth mount with slashes at its end", fields: contract.Values{"auth_mount": "approle/"}, want: "auth_mount"},
		{name: "a role name that is a path", fields: contract.Values{"role_name": "a/b"}, want: "role_name"},
		{name: "no login at all", fields: contract.Values{"role_id": ""}, secrets: map[string]string{}, want: "role_id"},
		{name: "a role id without secret id", secrets: map[string]string{}, want: "secret_id"},
		{name: "a secret id without role id", fields: contract.Values{"role_id": ""}, want: "role_id"},
		{name: "two ways to log in", secrets: map[string]string{"secret_id": "s", "token": "t"}, want: "token"},
		{name: "a token", fields: contract.Values{"role_id": ""}, secrets: map[string]string{"token": "t"}},
		{name: "an engine type of one's own", fields: contract.Values{"allowed_mount_types": []string{"snowflake"}}},
		{name: "pim as engine type", fields: contract.Values{"allowed_mount_types": []string{"vault-plugin-secrets-pim"}}, want: "allowed_mount_types"},
		{name: "the host's system as engine type", fields: contract.Values{"allowed_mount_types": []string{"system", "identity", "token"}}, want: "allowed_mount_types"},
		{name: "something that is no engine type", fields: contract.Values{"allowed_mount_types": []string{"A b"}}, want: "allowed_mount_types"},
		{name: "everything at once", fields: contract.Values{"address": "x", "token_role": "", "role_id": ""}, secrets: map[string]string{}, want: "address,role_id,token_role"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			target := contract.Target{
				Fields:  contract.Values{"address": "https://bao.internal:8200", "token_role": "pim", "role_id": "r"},
				Secrets: map[string]secret.String{"secret_id": secret.New("s")},
			}
			maps.Copy(target.Fields, row.fields)
			if row.secrets != nil {
				target.Secrets = map[string]secret.String{}
				for k, v := range row.secrets {
					target.Secrets[k] = secret.New(v)
				}
			}
			report := host.Descriptor().CheckTarget(contract.Env{}, target)
			if got := fieldsOf(report); got != row.want {
				t.Errorf("problems with %q: %v", got, report.Problems)
			}
			if _, err := host.Descriptor().New(contract.Env{}, target); (err == nil) != (row.want == "") {
				t.Errorf("opened: %v", err)
			}
		})
	}
}

func TestBudgetsKeepToTheDesign(t *testing.T) {
	t.Parallel()
	if l := host.Descriptor().Limits(leaseRole()); l.IssueTimeout > 10*time.Second || l.Slow {
		t.Errorf("all calls of one issue together take at most 10 s, not %s", l.IssueTimeout)
	}
}
