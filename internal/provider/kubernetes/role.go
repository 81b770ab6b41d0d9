package kubernetes

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Bounds of a role. A handle names every namespace and must stay below
// domain.MaxHandleBytes.
const (
	maxNamespaces = 20
	maxBound      = 10
	maxAudiences  = 8
	maxText       = 256
)

// role is what a role's fields say, in types.
type role struct {
	kind        string
	account     string // existing service account
	home        string // namespace of the service account; "" = the first namespace
	namespaces  []string
	clusterWide bool
	choose      bool            // the request's parameter names the namespaces
	allowed     []string        // what it may name
	selector    labels.Selector // what it may name besides; nil = nothing
	rules       []rbacv1.PolicyRule
	bound       []rbacv1.RoleRef
	audiences   []string
	principal   principalRule
}

// belongs says which credential types have which fields.
func belongs() map[string][]string {
	return map[string][]string{
		"service_account_name":       {kindToken},
		"service_account_namespace":  {kindToken, kindGenerated},
		"namespaces":                 {kindGenerated, kindBinding},
		"allowed_namespaces":         {kindToken, kindGenerated, kindBinding},
		"allowed_namespace_selector": {kindToken, kindGenerated, kindBinding},
		"cluster_wide":               {kindGenerated, kindBinding},
		"generated_role_rules":       {kindGenerated},
		"kubernetes_roles":           {kindGenerated, kindBinding},
		"audiences":                  {kindToken, kindGenerated},
		"principal_source":           {kindBinding},
		"principal_prefix":           {kindBinding},
	}
}

// readRole reads a role's fields and reports everything that is wrong with
// them. params are the names of the request parameters that the role declares.
func readRole(fields contract.Values, params []string) (role, contract.Report) {
	var report contract.Report
	v := normalize(fields)
	r := role{
		kind: v.String("credential_type"), account: v.String("service_account_name"),
		home: v.String("service_account_namespace"), namespaces: v.Strings("namespaces"),
		clusterWide: v.Bool("cluster_wide"), choose: slices.Contains(params, namespaceParam),
		allowed: v.Strings("allowed_namespaces"), audiences: v.Strings("audiences"),
	}
	if r.kind == "" {
		report.Addf("credential_type", "is required: nothing else says what to issue")
		return r, report
	}
	owners := belongs()
	for _, name := range contract.SortedKeys(owners) {
		if isSet(v, name) && !slices.Contains(owners[name], r.kind) {
			report.Addf(name, "belongs to credential_type=%s", strings.Join(owners[name], " or "))
		}
	}
	r.rules = readRules(v.String("generated_role_rules"), r.clusterWide, &report)
	r.bound = readBound(v.Strings("kubernetes_roles"), r.clusterWide, &report)
	r.selector = readSelector(v.String("allowed_namespace_selector"), &report)
	r.checkAccount(&report)
	r.checkNamespaces(&report)
	r.checkAudiences(&report)
	switch r.kind {
	case kindGenerated:
		if len(r.rules) == 0 && len(r.bound) == 0 && report.OK() {
			report.Addf("generated_role_rules", "is required unless kubernetes_roles names existing roles")
		}
	case kindBinding:
		if len(r.bound) == 0 && report.OK() {
			report.Addf("kubernetes_roles", "is required: it names what the principal is bound to")
		}
		r.principal = readPrincipalRule(v, &report)
	}
	return r, report
}

func isSet(v contract.Values, name string) bool {
	switch x := v[name].(type) {
	case string:
		return x != ""
	case []string:
		return len(x) > 0
	case bool:
		return x
	}
	return false
}

func (r *role) checkAccount(report *contract.Report) {
	if r.home != "" {
		checkNamespace(r.home, "service_account_namespace", report)
	}
	switch r.kind {
	case kindToken:
		if len(validation.IsDNS1123Subdomain(r.account)) > 0 {
			report.Addf("service_account_name", "must be the name of an existing service account")
		}
		if r.choose == (r.home != "") {
			report.Addf("service_account_namespace", "is required, unless the role declares the parameter %s", namespaceParam)
		}
	case kindGenerated:
		if r.clusterWide && r.home == "" {
			report.Addf("service_account_namespace", "is required with cluster_wide: the service account must live somewhere")
		}
	}
}

// checkNamespaces sees to it that exactly one thing says where: a fixed list,
// the request, or cluster_wide.
func (r *role) checkNamespaces(report *contract.Report) {
	for name, list := range map[string][]string{"namespaces": r.namespaces, "allowed_namespaces": r.allowed} {
		if len(list) > maxNamespaces && name == "namespaces" {
			report.Addf(name, "has more than %d entries", maxNamespaces)
		}
		for _, ns := range list {
			checkNamespace(ns, name, report)
		}
		if hasTwins(list) {
			report.Addf(name, "names one namespace twice")
		}
	}
	ways := 0
	for _, way := range []bool{len(r.namespaces) > 0, r.choose, r.clusterWide} {
		if way {
			ways++
		}
	}
	if r.kind != kindToken && ways != 1 {
		report.Addf("namespaces", "exactly one of namespaces, cluster_wide and a declared parameter %s says where", namespaceParam)
	}
	if r.choose != (len(r.allowed) > 0 || r.selector != nil) {
		report.Addf("allowed_namespaces", "this or allowed_namespace_selector is required if the role declares the parameter %s, "+
			"and only then", namespaceParam)
	}
}

func checkNamespace(ns, field string, report *contract.Report) {
	if len(validation.IsDNS1123Label(ns)) > 0 {
		report.Addf(field, "must be lower-case namespace names")
	}
}

func hasTwins(list []string) bool {
	sorted := slices.Sorted(slices.Values(list))
	return len(slices.Compact(sorted)) != len(list)
}

func (r *role) checkAudiences(report *contract.Report) {
	if len(r.audiences) > maxAudiences || hasTwins(r.audiences) {
		report.Addf("audiences", "at most %d, each once", maxAudiences)
	}
	for _, a := range r.audiences {
		if !plainText(a) {
			report.Addf("audiences", "must be plain text of at most %d bytes", maxText)
		}
	}
}

// plainText tells whether s is printable, without blanks, and not too long.
func plainText(s string) bool {
	return s != "" && len(s) <= maxText && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

func readSelector(text string, report *contract.Report) labels.Selector {
	if text == "" {
		return nil
	}
	s, err := labels.Parse(text)
	if err != nil || len(text) > 4*maxText || s.Empty() {
		report.Addf("allowed_namespace_selector", "must be a label selector as kubectl -l takes it")
		return nil
	}
	return s
}

// readBound reads names of existing roles: ClusterRole/view, Role/deployer.
func readBound(names []string, clusterWide bool, report *contract.Report) []rbacv1.RoleRef {
	var out []rbacv1.RoleRef
	for _, text := range names {
		kind, name, _ := strings.Cut(text, "/")
		if (kind != "ClusterRole" && kind != "Role") || name == "" || !plainText(name) || len(content.IsPathSegmentName(name)) > 0 {
			report.Addf("kubernetes_roles", "must be ClusterRole/<name> or Role/<name>")
			continue
		}
		if kind == "Role" && clusterWide {
			report.Addf("kubernetes_roles", "a Role cannot be bound cluster_wide, only a ClusterRole")
		}
		if text == "ClusterRole/cluster-admin" {
			report.Warnf("kubernetes_roles has cluster-admin: whoever gets it can also undo what ends the access")
		}
		out = append(out, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name})
	}
	if len(names) > maxBound || hasTwins(names) {
		report.Addf("kubernetes_roles", "at most %d, each once", maxBound)
	}
	return out
}
