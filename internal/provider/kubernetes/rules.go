package kubernetes

import (
	"encoding/json"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

const (
	maxRulesBytes = 16 << 10
	maxRules      = 64
)

// readRules reads the rules of a generated role. A list, and a mapping with
// the one key rules, are both taken: both stand in manifests.
func readRules(text string, clusterWide bool, report *contract.Report) []rbacv1.PolicyRule {
	if text == "" {
		return nil
	}
	const field = "generated_role_rules"
	rules, ok := parseRules(text)
	if !ok {
		report.Addf(field, "must be a list of RBAC rules in YAML or JSON, with no fields but those of a PolicyRule")
		return nil
	}
	if len(rules) == 0 || len(rules) > maxRules {
		report.Addf(field, "must have 1 to %d rules", maxRules)
	}
	for i, rule := range rules {
		if problem := badRule(rule, clusterWide); problem != "" {
			report.Addf(field, "rule %d %s", i+1, problem)
		}
	}
	if lasting(rules) {
		report.Warnf("generated_role_rules let the holder make access that outlives the credential " +
			"(tokens, bindings, certificates, pods or impersonation)")
	}
	return rules
}

func parseRules(text string) ([]rbacv1.PolicyRule, bool) {
	if len(text) > maxRulesBytes {
		return nil, false
	}
	raw, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, false
	}
	var wrapped struct {
		Rules []rbacv1.PolicyRule `json:"rules"`
	}
	var into any = &wrapped.Rules
	if strings.HasPrefix(string(raw), "{") {
		into = &wrapped
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return nil, false
	}
	return wrapped.Rules, true
}

// badRule applies the API server's own rules (ValidatePolicyRule), so that
// they are known when the role is written.
func badRule(rule rbacv1.PolicyRule, clusterWide bool) string {
	urls := len(rule.NonResourceURLs) > 0
	switch {
	case len(rule.Verbs) == 0:
		return "has no verbs"
	case urls && !clusterWide:
		return "names URLs, which only cluster_wide roles can"
	case urls && (len(rule.APIGroups)+len(rule.Resources)+len(rule.ResourceNames) > 0):
		return "names URLs and resources; it can only name one of them"
	case !urls && len(rule.APIGroups) == 0:
		return "has no apiGroups (the core group is \"\")"
	case !urls && len(rule.Resources) == 0:
		return "has no resources"
	}
	return ""
}

// lastingResources are those whose creation makes access that nobody can take
// back by ending the credential.
func lastingResources() []string {
	return []string{
		"*", "serviceaccounts/token", "*/token", "secrets", "rolebindings", "clusterrolebindings", "roles", "clusterroles",
		"certificatesigningrequests", "certificatesigningrequests/approval", "pods", "pods/exec", "deployments", "daemonsets",
		"statefulsets", "replicasets", "jobs", "cronjobs", "replicationcontrollers", "mutatingwebhookconfigurations",
		"validatingwebhookconfigurations",
	}
}

func lasting(rules []rbacv1.PolicyRule) bool {
	makes, resources := []string{"*", "create", "update", "patch"}, lastingResources()
	return slices.ContainsFunc(rules, func(rule rbacv1.PolicyRule) bool {
		for _, verb := range rule.Verbs {
			if verb == "bind" || verb == "escalate" || verb == "impersonate" {
				return true
			}
			if slices.Contains(makes, verb) && slices.ContainsFunc(rule.Resources, func(res string) bool {
				return slices.Contains(resources, res)
			}) {
				return true
			}
		}
		return false
	})
}
