package host_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// policies makes the fake host tell its policies.
func (b *bench) policies(all map[string]string) {
	b.f.on("LIST sys/policies/acl", func(w http.ResponseWriter, _ *http.Request) {
		replyData(w, map[string]any{"keys": append(contract.SortedKeys(all), "root")})
	})
	for name, text := range all {
		b.f.on("GET sys/policies/acl/"+name, func(w http.ResponseWriter, _ *http.Request) {
			replyData(w, map[string]any{"policy": text})
		})
	}
}

func TestCheckFindsWhatOpensABrokeredPathDirectly(t *testing.T) {
	t.Parallel()
	const rule = " by its rule for "
	opens := func(by string) []string {
		return []string{"policy p opens database/creds/app of role orders" + rule + by}
	}
	for _, row := range []struct {
		name, policy string
		want         []string // nil = it opens nothing
	}{
		{"the path itself", `path "database/creds/app" { capabilities = ["read"] }`, opens("database/creds/app")},
		{"everything below", `path "database/*" { capabilities = ["read", "list"] }`, opens("database/*")},
		{"everything", `path "*" { capabilities = ["read"] }`, opens("*")},
		{"any role of the engine", `path "database/creds/+" { capabilities = ["read"] }`, opens("database/creds/+")},
		{"any engine", `path "+/creds/ap*" { capabilities = ["read"] }`, opens("+/creds/ap*")},
		{"JSON", `{"path": {"database/creds/app": {"capabilities": ["read"]}}}`, opens("database/creds/app")},
		{"the old words", `path "database/creds/app" { policy = "write" }`, opens("database/creds/app")},
		{"a leading slash", `path "/database/creds/app" { capabilities = ["read"] }`, opens("database/creds/app")},
		{"two rules for one path", "path \"database/*\" { capabilities = [\"list\"] }\npath \"database/*\" { capabilities = [\"read\"] }", opens("database/*")},
		{"another role of the engine", `path "database/creds/other" { capabilities = ["read"] }`, nil},
		{"a longer path", `path "database/creds/app/more" { capabilities = ["read"] }`, nil},
		{"a shorter one", `path "database/creds" { capabilities = ["read"] }`, nil},
		{"the list alone", `path "database/creds/app" { capabilities = ["list"] }`, nil},
		{"what is denied", `path "database/creds/app" { capabilities = ["read", "deny"] }`, nil},
		{"denied by the more specific rule", "path \"database/*\" { capabilities = [\"read\"] }\npath \"database/creds/app\" { capabilities = [\"deny\"] }", nil},
		{"denied by the less specific rule", "path \"database/*\" { capabilities = [\"deny\"] }\npath \"database/creds/+\" { capabilities = [\"read\"] }", opens("database/creds/+")},
		{"a segment that only begins so", `path "database/cred/+" { capabilities = ["read"] }`, nil},
		{"nothing", ``, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.policies(map[string]string{"p": row.policy})
			out := b.checkNamed("orders", leaseRole())
			if !slices.Equal(out.Direct, row.want) || len(out.DirectUnknown) != 1 {
				t.Errorf("got %q, unknown %q", out.Direct, out.DirectUnknown)
			}
		})
	}
}

func (b *bench) checkNamed(role string, fields contract.Values) contract.CheckReport {
	b.Helper()
	c, ok := b.p.(contract.Checker)
	if !ok {
		b.Fatal("the host checks")
	}
	out, err := c.Check(b.Context(), []contract.Spec{{Role: role, Fields: fields}})
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func TestCheckSaysWhatItCannotKnowOfDirectAccess(t *testing.T) {
	t.Parallel()
	t.Run("the login may not look", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, appRoleTarget)
		out := b.check(leaseRole())
		if len(out.Direct) != 0 || !contains(out.DirectUnknown, `path "sys/policies/acl/*"`) || !contains(out.DirectUnknown, "root tokens") {
			t.Errorf("%q %q", out.Direct, out.DirectUnknown)
		}
	})
	t.Run("templates, and texts that are no policy", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, appRoleTarget)
		b.policies(map[string]string{
			"mine": `path "database/creds/{{identity.entity.name}}" { capabilities = ["read"] }`, "odd": `path "x" {`,
			"list": `path = ["x"]`, "words": `path "x" { capabilities = 1 }`,
		})
		out := b.check(leaseRole())
		for _, want := range []string{"the policy mine opens (it is a template", "the policy odd opens (its text cannot be read)", "the policy words opens"} {
			if !contains(out.DirectUnknown, want) {
				t.Errorf("%s: %q", want, out.DirectUnknown)
			}
		}
	})
	t.Run("the policy of pim's own tokens", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, appRoleTarget)
		b.policies(map[string]string{"db-app": `path "database/creds/app" { capabilities = ["read"] }`})
		if out := b.check(leaseRole()); len(out.Direct) != 1 || !strings.HasSuffix(out.Direct[0], "nobody else should hold it") {
			t.Errorf("%q", out.Direct)
		}
	})
	t.Run("roles that hand out tokens only", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, appRoleTarget)
		if out := b.check(tokenRole()); len(out.Direct)+len(out.DirectUnknown) != 0 {
			t.Errorf("%q %q", out.Direct, out.DirectUnknown)
		}
	})
}
