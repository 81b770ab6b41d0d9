package gcp

import (
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestRoles(t *testing.T) {
	t.Parallel()
	compute := []string{"roles/compute.viewer"}
	for name, row := range map[string]struct {
		fields contract.Values
		wrong  string // the field that is wrong; "" = none
	}{
		"roles on the project":                        {contract.Values{"iam_roles": compute}, ""},
		"roles on a bucket and a folder":              {contract.Values{"iam_roles": compute, "resources": []string{bucket, "folders/77"}}, ""},
		"a custom role of the project":                {contract.Values{"iam_roles": []string{"projects/prod-access/roles/reader"}}, ""},
		"a custom role of the organization":           {contract.Values{"iam_roles": []string{"organizations/42/roles/networkObserver"}}, ""},
		"an existing account":                         {contract.Values{"service_account_email": robot}, ""},
		"a key of an existing account":                {existingKey(), ""},
		"one's own user":                              {ownUser(), ""},
		"nothing at all":                              {contract.Values{}, "credential_type"},
		"no roles":                                    {contract.Values{"credential_type": kindToken}, "iam_roles"},
		"one role twice":                              {contract.Values{"iam_roles": []string{compute[0], compute[0]}}, "iam_roles"},
		"a role that is no name":                      {contract.Values{"iam_roles": []string{"roles/../x"}}, "iam_roles"},
		"eleven roles":                                {contract.Values{"iam_roles": manyRoles(11)}, "iam_roles"},
		"owner, which takes no condition":             {contract.Values{"iam_roles": []string{"roles/owner"}}, "iam_roles"},
		"roles for an existing account":               {contract.Values{"iam_roles": compute, "service_account_email": robot}, "iam_roles"},
		"a resource that is not managed":              {contract.Values{"iam_roles": compute, "resources": []string{"projects/elsewhere-1"}}, "resources"},
		"a resource that takes no conditions":         {contract.Values{"iam_roles": compute, "resources": []string{"//pubsub.googleapis.com/projects/p/topics/t"}}, "resources"},
		"a resource twice":                            {contract.Values{"iam_roles": compute, "resources": []string{bucket, bucket}}, "resources"},
		"a user's address as service account":         {contract.Values{"service_account_email": "alice@example.com"}, "service_account_email"},
		"an own principal with a service account":     {contract.Values{"credential_type": kindBinding, "principal_source": "metadata:m", "iam_roles": compute, "service_account_email": robot}, "service_account_email"},
		"an own principal without a source":           {contract.Values{"credential_type": kindBinding, "iam_roles": compute}, "principal_source"},
		"an own principal from nowhere":               {contract.Values{"principal_source": "token:x", "iam_roles": compute}, "principal_source"},
		"scopes for an own principal":                 {contract.Values{"principal_source": "metadata:m", "iam_roles": compute, "token_scopes": []string{"https://www.googleapis.com/auth/logging.read"}}, "token_scopes"},
		"the default scope for an own principal":      {contract.Values{"principal_source": "metadata:m", "iam_roles": compute, "token_scopes": []string{cloudPlatform}, "member_type": "user"}, ""},
		"a group without a source":                    {contract.Values{"iam_roles": compute, "member_type": "group"}, "member_type"},
		"a scope that is none":                        {contract.Values{"iam_roles": compute, "token_scopes": []string{"everything"}}, "token_scopes"},
		"a permission that is none":                   {contract.Values{"iam_roles": compute, "wait_for_permissions": []string{"*"}}, "wait_for_permissions"},
		"permissions to wait for on an existing one":  {contract.Values{"service_account_email": robot, "wait_for_permissions": []string{"a.b.c"}}, "wait_for_permissions"},
		"a condition":                                 {contract.Values{"iam_roles": compute, "condition": `resource.type == "x" && !(resource.name.startsWith('a)b'))`}, ""},
		"a condition that leaves its parentheses":     {contract.Values{"iam_roles": compute, "condition": `true) || (true`}, "condition"},
		"a condition that ends in a comment":          {contract.Values{"iam_roles": compute, "condition": `true // `}, "condition"},
		"a condition with a text that does not end":   {contract.Values{"iam_roles": compute, "condition": `a == "b`}, "condition"},
		"a condition whose text hides a parenthesis":  {contract.Values{"iam_roles": compute, "condition": `a == r"\" || true) || ("" == ""`}, "condition"},
		"a condition with an escaped quote":           {contract.Values{"iam_roles": compute, "condition": `a == "\") || (" && (b)`}, ""},
		"a condition with triple quotes":              {contract.Values{"iam_roles": compute, "condition": `a == """x"""`}, "condition"},
		"a condition over two lines":                  {contract.Values{"iam_roles": compute, "condition": "true\n|| true"}, "condition"},
		"a condition with too many operators":         {contract.Values{"iam_roles": compute, "condition": "a" + strings.Repeat(" || a", 12)}, "condition"},
		"a condition with brackets that do not match": {contract.Values{"iam_roles": compute, "condition": `a in [b)`}, "condition"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			report := k.open(t, k.target(nil)).Validate(t.Context(), contract.Spec{Role: "r", Fields: row.fields}, false)
			if row.wrong == "" && !report.OK() {
				t.Errorf("refused: %v", report.Problems)
			}
			if row.wrong != "" && !slices.ContainsFunc(report.Problems, func(p contract.Problem) bool { return p.Field == row.wrong }) {
				t.Errorf("field %s was taken: %v", row.wrong, report.Problems)
			}
		})
	}
}

func manyRoles(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "roles/r" + strings.Repeat("x", i+1)
	}
	return out
}

func TestTheConditionAlwaysEndsTheAccess(t *testing.T) {
	t.Parallel()
	got := conditionFor("01jqzv5t8n0000000000000000", "d", `resource.type == "x" || true`, start)
	want := `request.time < timestamp("2026-03-01T12:00:00Z") && (resource.type == "x" || true)`
	if got.Expression != want || got.Title != "pim-01jqzv5t8n0000000000000000" {
		t.Errorf("%+v", got)
	}
}

func TestRevocationClasses(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fields  contract.Values
		class   domain.Class
		seconds int
		slow    bool
	}{
		"token of an own account":      {ownToken(), domain.Propagating, 0, true},
		"key of an own account":        {ownKey(), domain.Propagating, 0, true},
		"key of an existing account":   {existingKey(), domain.Propagating, 3600, true},
		"token of an existing account": {contract.Values{"service_account_email": robot}, domain.ExpiryOnly, 0, false},
		"own principal":                {ownUser(), domain.Propagating, 420, false},
	} {
		r := revocation(row.fields)
		if r.Class != row.class || r.Seconds != row.seconds || len(r.Survives) == 0 || limits(row.fields).Slow != row.slow {
			t.Errorf("%s: %+v, %+v", name, r, limits(row.fields))
		}
	}
}

func TestPrincipals(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	alias := func(accessor, name string) domain.Alias { return domain.Alias{MountAccessor: accessor, Name: name} }
	group := contract.Values{"principal_source": "metadata:team", "member_type": "group", "iam_roles": []string{"roles/compute.viewer"}}
	byAlias := contract.Values{"principal_source": "alias:oidc_1", "iam_roles": []string{"roles/compute.viewer"}}
	for name, row := range map[string]struct {
		fields contract.Values
		who    domain.Entity
		want   string
		code   string
	}{
		"the one alias of the mount": {
			byAlias, domain.Entity{Aliases: []domain.Alias{alias("ldap_1", "x"), alias("oidc_1", "Alice@Example.com")}}, "user:alice@example.com", "",
		},
		"two aliases of the mount": {
			byAlias, domain.Entity{Aliases: []domain.Alias{alias("oidc_1", "alice@example.com"), alias("oidc_1", "bob@example.com")}}, "", "no_principal",
		},
		"no alias of the mount":        {byAlias, domain.Entity{Aliases: []domain.Alias{alias("ldap_1", "alice@example.com")}}, "", "no_principal"},
		"an alias that is no address":  {byAlias, domain.Entity{Aliases: []domain.Alias{alias("oidc_1", "alice")}}, "", "bad_principal"},
		"an address with a second one": {byAlias, domain.Entity{Aliases: []domain.Alias{alias("oidc_1", "a@b.co,user:bob@b.co")}}, "", "bad_principal"},
		"a service account":            {byAlias, domain.Entity{Aliases: []domain.Alias{alias("oidc_1", robot)}}, "", "bad_principal"},
		"everybody":                    {byAlias, domain.Entity{Aliases: []domain.Alias{alias("oidc_1", "allUsers")}}, "", "bad_principal"},
		"a group from metadata":        {group, domain.Entity{Metadata: map[string]string{"team": "ops@example.com"}}, "group:ops@example.com", ""},
		"no metadata":                  {group, domain.Entity{}, "", "no_principal"},
		"a role without principals":    {ownToken(), domain.Entity{}, "", ""},
	} {
		got, err := p.ResolvePrincipal(t.Context(), row.who, row.fields)
		if got != row.want || (err == nil) != (row.code == "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if row.code != "" {
			wantError(t, err, row.code, "address")
		}
	}
}
