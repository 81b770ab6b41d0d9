package kubernetes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// policyName names the roles of the printed policy.
const policyName = "vault-pim"

func compare(a, b string) int { return cmp.Compare(a, b) }

// policy gathers the minimal permissions of the roles in use.
type policy struct {
	subject rbacv1.Subject
	verbs   map[string]map[need][]string   // namespace, "" = cluster; need without verb
	rules   map[string][]rbacv1.PolicyRule // what must be held to be granted
}

func newPolicy(user string) *policy {
	p := &policy{
		subject: rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user},
		verbs:   map[string]map[need][]string{}, rules: map[string][]rbacv1.PolicyRule{},
	}
	parts := strings.Split(user, ":")
	if len(parts) == 4 && parts[0] == "system" && parts[1] == "serviceaccount" {
		p.subject = rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: parts[2], Name: parts[3]}
	}
	return p
}

func (p *policy) add(n need) {
	verb, ns := n.verb, n.namespace
	n.verb, n.namespace = "", ""
	if p.verbs[ns] == nil {
		p.verbs[ns] = map[need][]string{}
	}
	if !slices.Contains(p.verbs[ns][n], verb) {
		p.verbs[ns][n] = append(p.verbs[ns][n], verb)
	}
}

func (p *policy) grant(r role) {
	for _, ns := range r.scope() {
		p.rules[ns] = append(p.rules[ns], r.grants()...)
	}
}

// of lists the rules of one namespace or, for "", of the cluster.
func (p *policy) of(ns string) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for n, verbs := range p.verbs[ns] {
		slices.Sort(verbs)
		rule := rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{n.group}, Resources: []string{n.resources()}}
		if n.name != "" {
			rule.ResourceNames = []string{n.name}
		}
		out = append(out, rule)
	}
	slices.SortFunc(out, func(a, b rbacv1.PolicyRule) int { return compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return append(out, p.rules[ns]...)
}

// yaml prints the policy for kubectl apply -f -.
func (p *policy) yaml() (string, error) {
	scopes := map[string]bool{"": true}
	for ns := range p.verbs {
		scopes[ns] = true
	}
	for ns := range p.rules {
		scopes[ns] = true
	}
	var out []string
	for _, ns := range contract.SortedKeys(scopes) {
		for _, o := range p.objects(ns) {
			raw, err := yaml.Marshal(o)
			if err != nil {
				return "", fmt.Errorf("print policy: %w", err)
			}
			out = append(out, strings.ReplaceAll(string(raw), "  creationTimestamp: null\n", ""))
		}
	}
	return strings.Join(out, "---\n"), nil
}

func (p *policy) objects(ns string) []object {
	meta := metav1.ObjectMeta{Name: policyName, Namespace: ns}
	types := func(k kind) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: string(k)}
	}
	subjects := []rbacv1.Subject{p.subject}
	if ns == "" {
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: string(clusterRole), Name: policyName}
		return []object{
			&rbacv1.ClusterRole{TypeMeta: types(clusterRole), ObjectMeta: meta, Rules: p.of("")},
			&rbacv1.ClusterRoleBinding{TypeMeta: types(clusterRoleBinding), ObjectMeta: meta, Subjects: subjects, RoleRef: ref},
		}
	}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: string(roleObject), Name: policyName}
	return []object{
		&rbacv1.Role{TypeMeta: types(roleObject), ObjectMeta: meta, Rules: p.of(ns)},
		&rbacv1.RoleBinding{TypeMeta: types(roleBinding), ObjectMeta: meta, Subjects: subjects, RoleRef: ref},
	}
}
