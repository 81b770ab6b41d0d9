package kubernetes

import (
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestRolesAreRefusedWithTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	many := make([]string, maxNamespaces+1)
	for i := range many {
		many[i] = "team-" + string(rune('a'+i))
	}
	rules := func(text string) contract.Values { return with(generatedRole(), "generated_role_rules", text) }
	choose := []string{"namespace"}
	for _, row := range []struct {
		name   string
		fields contract.Values
		params []string
		field  string
	}{
		{name: "nothing at all", fields: contract.Values{}, field: "credential_type"},
		{name: "a service account without a namespace", fields: with(tokenRole(), "service_account_namespace", nil), field: "service_account_namespace"},
		{name: "a service account whose name is a path", fields: with(tokenRole(), "service_account_name", "../pim"), field: "service_account_name"},
		{name: "a service account in an upper-case namespace", fields: with(tokenRole(), "service_account_namespace", "Team"), field: "service_account_namespace"},
		{name: "a token with rules", fields: with(with(tokenRole(), "credential_type", kindToken), "generated_role_rules", podRules), field: "generated_role_rules"},
		{name: "a token with a principal", fields: with(with(tokenRole(), "credential_type", kindToken), "principal_source", "metadata:k8s"), field: "principal_source"},
		{name: "a fixed namespace and a chosen one for a token", fields: with(tokenRole(), "allowed_namespaces", []string{"team-a"}), params: choose, field: "service_account_namespace"},
		{name: "neither rules nor roles", fields: contract.Values{"credential_type": kindGenerated, "namespaces": []string{"team-a"}}, field: "generated_role_rules"},
		{name: "no namespace", fields: with(generatedRole(), "namespaces", nil), field: "namespaces"},
		{name: "namespaces and cluster_wide", fields: with(with(generatedRole(), "cluster_wide", true), "service_account_namespace", "team-a"), field: "namespaces"},
		{name: "a namespace twice", fields: with(generatedRole(), "namespaces", []string{"team-a", "team-a"}), field: "namespaces"},
		{name: "more namespaces than a handle holds", fields: with(generatedRole(), "namespaces", many), field: "namespaces"},
		{name: "a namespace with a slash", fields: with(generatedRole(), "namespaces", []string{"team-a/secrets"}), field: "namespaces"},
		{name: "an allow-list that no parameter uses", fields: with(generatedRole(), "allowed_namespaces", []string{"team-a"}), field: "allowed_namespaces"},
		{name: "a parameter without an allow-list", fields: with(generatedRole(), "namespaces", nil), params: choose, field: "allowed_namespaces"},
		{name: "a selector that is none", fields: with(with(generatedRole(), "namespaces", nil), "allowed_namespace_selector", "a in ("), params: choose, field: "allowed_namespace_selector"},
		{name: "a selector that selects everything", fields: with(with(generatedRole(), "namespaces", nil), "allowed_namespace_selector", " "), params: choose, field: "allowed_namespace_selector"},
		{name: "cluster_wide without a home for the account", fields: with(with(generatedRole(), "namespaces", nil), "cluster_wide", true), field: "service_account_namespace"},
		{name: "rules that are no YAML", fields: rules("{["), field: "generated_role_rules"},
		{name: "rules with a field twice", fields: rules(`[{verbs: [get], verbs: [list], apiGroups: [""], resources: [pods]}]`), field: "generated_role_rules"},
		{name: "rules with a field that is unknown", fields: rules(`[{verbs: [get], apiGroups: [""], resources: [pods], hosts: [x]}]`), field: "generated_role_rules"},
		{name: "rules without a verb", fields: rules(`[{apiGroups: [""], resources: [pods]}]`), field: "generated_role_rules"},
		{name: "rules without a group", fields: rules(`[{verbs: [get], resources: [pods]}]`), field: "generated_role_rules"},
		{name: "rules without a resource", fields: rules(`[{verbs: [get], apiGroups: [""]}]`), field: "generated_role_rules"},
		{name: "rules about URLs in a namespace", fields: rules(`[{verbs: [get], nonResourceURLs: [/metrics]}]`), field: "generated_role_rules"},
		{name: "an empty list of rules", fields: rules(`[]`), field: "generated_role_rules"},
		{name: "rules beyond all bounds", fields: rules(strings.Repeat(" ", maxRulesBytes) + podRules), field: "generated_role_rules"},
		{name: "an existing role without a kind", fields: with(bindingRole(), "kubernetes_roles", []string{"edit"}), field: "kubernetes_roles"},
		{name: "an existing role of another kind", fields: with(bindingRole(), "kubernetes_roles", []string{"Pod/edit"}), field: "kubernetes_roles"},
		{name: "an existing role whose name is a path", fields: with(bindingRole(), "kubernetes_roles", []string{"ClusterRole/../x"}), field: "kubernetes_roles"},
		{name: "an existing role twice", fields: with(bindingRole(), "kubernetes_roles", []string{"Role/x", "Role/x"}), field: "kubernetes_roles"},
		{name: "a Role for the whole cluster", fields: with(with(with(bindingRole(), "kubernetes_roles", []string{"Role/x"}), "namespaces", nil), "cluster_wide", true), field: "kubernetes_roles"},
		{name: "a principal without roles", fields: with(bindingRole(), "kubernetes_roles", nil), field: "kubernetes_roles"},
		{name: "a principal from nowhere", fields: with(with(bindingRole(), "credential_type", kindBinding), "principal_source", nil), field: "principal_source"},
		{name: "a principal from the entity's name", fields: with(bindingRole(), "principal_source", "name"), field: "principal_source"},
		{name: "a prefix that makes cluster users", fields: with(bindingRole(), "principal_prefix", "System:"), field: "principal_prefix"},
		{name: "an audience for a binding", fields: with(bindingRole(), "audiences", []string{"x"}), field: "audiences"},
		{name: "an audience with a blank", fields: with(tokenRole(), "audiences", []string{"a b"}), field: "audiences"},
		{name: "the engine's own account", fields: contract.Values{"service_account_name": "pim", "service_account_namespace": "pim-system"}, field: "service_account_name"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			report := b.p.Validate(t.Context(), contract.Spec{Role: "r", Fields: row.fields, Params: row.params}, true)
			if !slices.ContainsFunc(report.Problems, func(p contract.Problem) bool { return p.Field == row.field }) {
				t.Errorf("no problem with %s, but %v", row.field, report.Problems)
			}
		})
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	report := b.p.Validate(t.Context(), contract.Spec{Fields: contract.Values{
		"credential_type": kindBinding, "namespaces": []string{"A"}, "kubernetes_roles": []string{"x"}, "audiences": []string{"x"},
	}}, false)
	if got := report.Fields(); got != "audiences, kubernetes_roles, namespaces, principal_source" {
		t.Errorf("reported %s", got)
	}
}

func TestRolesThatLastAreWarnedOf(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, rules string
		warned      bool
	}{
		{name: "reading pods", rules: podRules},
		{name: "making pods, which can have any account", rules: `[{verbs: [create], apiGroups: [""], resources: [pods]}]`, warned: true},
		{name: "asking for tokens", rules: `[{verbs: [create], apiGroups: [""], resources: [serviceaccounts/token]}]`, warned: true},
		{name: "impersonating", rules: `[{verbs: [impersonate], apiGroups: [""], resources: [users]}]`, warned: true},
		{name: "everything", rules: `{rules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"]}]}`, warned: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, report := readRole(with(generatedRole(), "generated_role_rules", row.rules), nil)
			if !report.OK() || (len(report.Warnings) > 0) != row.warned {
				t.Errorf("problems %v, warnings %v", report.Problems, report.Warnings)
			}
		})
	}
}

func TestRevocationIsWhatTheFieldsCanKeep(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		fields  contract.Values
		class   domain.Class
		seconds int
		offline bool
	}{
		{name: "a binding", fields: bindingRole(), class: domain.Immediate, seconds: 5},
		{name: "a token", fields: tokenRole(), class: domain.Immediate, seconds: 15, offline: true},
		{name: "a generated role", fields: generatedRole(), class: domain.Immediate, seconds: 15, offline: true},
		{name: "a token for others", fields: with(tokenRole(), "audiences", []string{"registry"}), class: domain.ExpiryOnly, offline: true},
		{name: "a generated role for others", fields: with(generatedRole(), "audiences", []string{"registry"}), class: domain.ExpiryOnly, offline: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got := revocation(row.fields)
			if got.Class != row.class || got.Seconds != row.seconds ||
				slices.Contains(got.Survives, domain.OfflineVerifiers) != row.offline || !slices.Contains(got.Survives, domain.OpenSessions) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestPrincipalIsOneNameFromOneSource(t *testing.T) {
	t.Parallel()
	alice := domain.Entity{
		Metadata: map[string]string{"k8s": "alice", "system": "system:masters", "blank": "alice b", "empty": ""},
		Aliases: []domain.Alias{
			{MountAccessor: "auth_oidc_1", Name: "alice@example.com"},
			{MountAccessor: "auth_ldap_1", Name: "alice"},
			{MountAccessor: "auth_ldap_1", Name: "alice2"},
		},
	}
	for _, row := range []struct{ name, source, prefix, want, code string }{
		{name: "entity metadata", source: "metadata:k8s", want: "alice"},
		{name: "an alias", source: "alias:auth_oidc_1", want: "alice@example.com"},
		{name: "with the cluster's prefix", source: "metadata:k8s", prefix: "oidc:", want: "oidc:alice"},
		{name: "two aliases at one mount", source: "alias:auth_ldap_1", code: "no_principal"},
		{name: "no alias at the mount", source: "alias:auth_oidc_2", code: "no_principal"},
		{name: "empty metadata", source: "metadata:empty", code: "no_principal"},
		{name: "a name of the cluster's own", source: "metadata:system", code: "bad_principal"},
		{name: "a name with a blank", source: "metadata:blank", code: "bad_principal"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			fields := with(with(bindingRole(), "principal_source", row.source), "principal_prefix", row.prefix)
			got, err := newBench(t, nil).p.ResolvePrincipal(t.Context(), alice, fields)
			if row.code != "" {
				wantCode(t, err, row.code)
				return
			}
			if err != nil || got != row.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if got, err := newBench(t, nil).p.ResolvePrincipal(t.Context(), alice, tokenRole()); err != nil || got != "" {
		t.Errorf("a role without a principal has none: %q, %v", got, err)
	}
}
