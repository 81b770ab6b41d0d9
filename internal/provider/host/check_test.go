package host_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *bench) check(roles ...contract.Values) contract.CheckReport {
	b.Helper()
	c, ok := b.p.(contract.Checker)
	if !ok {
		b.Fatal("the host checks")
	}
	var specs []contract.Spec
	for _, fields := range roles {
		specs = append(specs, contract.Spec{Fields: fields})
	}
	out, err := c.Check(b.Context(), specs)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func contains(list []string, part string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, part) })
}

func TestCheckOfALoginThatIsWell(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	out := b.check(leaseRole(), tokenRole())
	if len(out.Missing)+len(out.Unknown)+len(out.Warnings) != 0 {
		t.Errorf("missing %v, unknown %v, warnings %v", out.Missing, out.Unknown, out.Warnings)
	}
	if !slices.Equal(out.Entities, []string{"entity-of-login"}) || !strings.Contains(out.Identity, "entity-of-login") {
		t.Errorf("identity %q, entities %v", out.Identity, out.Entities)
	}
	if out.Quotas["login_seconds_left"] != 1200 {
		t.Errorf("quotas %v", out.Quotas)
	}
}

func TestRequiredPolicyIsNarrow(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	write := contract.Values{"path": "ldap/creds/ops", "method": "write", "token_role": "pim-ldap"}
	const want = `path "auth/token/create/pim" { capabilities = ["update"] }
path "auth/token/create/pim-ldap" { capabilities = ["update"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "sys/leases/revoke/database/creds/app/*" { capabilities = ["update"] }
path "sys/leases/revoke/ldap/creds/ops/*" { capabilities = ["update"] }
# To see more in targets/:name/check and at role writes, and to rotate the secret_id:
path "auth/approle/role/pim/secret-id" { capabilities = ["update", "list"] }
path "auth/approle/role/pim/secret-id-accessor/destroy" { capabilities = ["update"] }
path "auth/approle/role/pim/secret-id-accessor/lookup" { capabilities = ["update"] }
path "auth/approle/role/pim/secret-id/destroy" { capabilities = ["update"] }
path "auth/approle/role/pim/secret-id/lookup" { capabilities = ["update"] }
path "auth/token/roles/pim" { capabilities = ["read"] }
path "auth/token/roles/pim-ldap" { capabilities = ["read"] }
path "database/creds/app" { capabilities = ["list"] }
path "ldap/creds/ops" { capabilities = ["list"] }
path "sys/capabilities-self" { capabilities = ["update"] }
# The login itself never reads these. The allowed_policies of the token role must hold:
# pim-ldap: path "ldap/creds/ops" { capabilities = ["create", "update"] }
# pim: path "database/creds/app" { capabilities = ["read"] }
`
	if got := b.check(leaseRole(), leaseRole(), write).RequiredPolicy; got != want {
		t.Errorf("got:\n%s", got)
	}
}

func TestCheckNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, denied string
		see          func(contract.CheckReport) []string
		want         string
	}{
		{
			"a lease that could not be revoked", "sys/leases/revoke/database/creds/app",
			func(r contract.CheckReport) []string { return r.Missing }, `path "sys/leases/revoke/database/creds/app/*"`,
		},
		{
			"tokens that could not be made", "auth/token/create",
			func(r contract.CheckReport) []string { return r.Missing }, `path "auth/token/create/pim"`,
		},
		{
			"a token role that is not seen", "auth/token/roles",
			func(r contract.CheckReport) []string { return r.Warnings }, `path "auth/token/roles/pim"`,
		},
		{
			"a secret_id that is not seen", "auth/approle/role/pim/secret-id/lookup",
			func(r contract.CheckReport) []string { return r.Unknown }, "life of the secret_id",
		},
		{
			"permissions that are not seen", "sys/capabilities-self",
			func(r contract.CheckReport) []string { return r.Unknown }, "missing permissions",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.f.with(func(f *fakeHost) { f.denied = []string{row.denied} })
			if got := row.see(b.check(leaseRole())); !contains(got, row.want) {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestCheckWarnsBeforeTheSecretIDEnds(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		props map[string]any
		left  int
		warns string
	}{
		{"a fifth of its life is left", map[string]any{
			"creation_time": start.Add(-8 * time.Hour), "expiration_time": start.Add(2 * time.Hour),
		}, 7200, ""},
		{"less than a fifth is left", map[string]any{
			"creation_time": start.Add(-9 * time.Hour), "expiration_time": start.Add(time.Hour),
		}, 3600, "less than 20 %"},
		{"it never ends", map[string]any{"creation_time": start, "expiration_time": "0001-01-01T00:00:00Z"}, 0, ""},
		{"its uses are limited", map[string]any{"secret_id_num_uses": 7}, 0, "limited number of uses"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.f.with(func(f *fakeHost) { f.secrets[secretID] = row.props })
			out := b.check(leaseRole())
			if out.Quotas["secret_id_seconds_left"] != row.left {
				t.Errorf("quotas %v", out.Quotas)
			}
			if got := strings.Join(out.Warnings, "; "); (row.warns == "") != (got == "") || !strings.Contains(got, row.warns) {
				t.Errorf("warnings %q", got)
			}
		})
	}
}

func TestCheckOfOtherLogins(t *testing.T) {
	t.Parallel()
	root := newBench(t, tokenTarget)
	root.f.with(func(f *fakeHost) { f.tokens[rootToken].policies = []string{"root"} })
	if out := root.check(leaseRole()); !contains(out.Warnings, "the login is root") || !strings.Contains(out.RequiredPolicy, "lookup-self") {
		t.Errorf("warnings %v", out.Warnings)
	}
	nameless := newBench(t, func(f *fakeHost) contract.Target {
		target := appRoleTarget(f)
		delete(target.Fields, "role_name")
		return target
	})
	if out := nameless.check(leaseRole()); !contains(out.Unknown, "set role_name") || strings.Contains(out.RequiredPolicy, "secret-id") {
		t.Errorf("unknown %v", out.Unknown)
	}
	wrong := newBench(t, appRoleTarget)
	wrong.f.with(func(f *fakeHost) { f.role["orphan"] = false })
	if out := wrong.check(leaseRole()); !contains(out.Warnings, "token role pim must yield orphan tokens") {
		t.Errorf("warnings %v", out.Warnings)
	}
}
