package host

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// maxPolicies bounds how many policies of the host are read for one check.
const maxPolicies = 500

// aclRule is one path of a policy with what it allows.
type aclRule struct {
	path string
	caps []string
}

// checkDirect looks for policies that open what the roles hand out, past pim:
// what was granted before pim came, and is still there.
func (p *Provider) checkDirect(ctx context.Context, out *contract.CheckReport, roles []contract.Spec) {
	brokered := p.brokered(roles)
	if len(brokered) == 0 {
		return
	}
	out.DirectUnknown = append(out.DirectUnknown,
		"who holds these policies; tokens that were made with them; root tokens; policies of other namespaces")
	names, err := p.policyNames(ctx)
	if err != nil {
		out.DirectUnknown = append(out.DirectUnknown, "which policies open the paths of the roles ("+publicText(err)+"): to find out, "+
			`give the login path "sys/policies/acl" { capabilities = ["list"] } and path "sys/policies/acl/*" { capabilities = ["read"] }`)
		return
	}
	if len(names) > maxPolicies {
		out.DirectUnknown = append(out.DirectUnknown, fmt.Sprintf("%d further policies: only the first %d were read", len(names)-maxPolicies, maxPolicies))
		names = names[:maxPolicies]
	}
	own := p.ownPolicies(ctx, roles)
	for _, name := range names {
		rules, err := p.policyRules(ctx, name)
		if err != nil {
			out.DirectUnknown = append(out.DirectUnknown, "what the policy "+name+" opens ("+publicText(err)+")")
			continue
		}
		out.Direct = append(out.Direct, opened(name, rules, brokered, slices.Contains(own, name))...)
	}
}

// brokered are the paths that the roles' own tokens use, each with the roles.
func (p *Provider) brokered(roles []contract.Spec) map[string][]brokeredBy {
	out := map[string][]brokeredBy{}
	for _, spec := range roles {
		role := normalize(spec.Fields)
		k, ok := kindOf(role.String("credential_type"))
		if !ok {
			continue
		}
		for _, g := range k.childGrants(role) {
			out[g.path] = append(out[g.path], brokeredBy{role: spec.Role, need: g.need})
		}
	}
	return out
}

type brokeredBy struct {
	role string
	need []string
}

// opened says which of the paths a policy opens.
func opened(name string, rules []aclRule, brokered map[string][]brokeredBy, own bool) []string {
	var out []string
	for _, path := range contract.SortedKeys(brokered) {
		rule, ok := ruleFor(rules, path)
		if !ok || slices.Contains(rule.caps, "deny") {
			continue
		}
		var by []string
		for _, b := range brokered[path] {
			if slices.ContainsFunc(b.need, func(n string) bool { return slices.Contains(rule.caps, n) }) {
				by = append(by, b.role)
			}
		}
		if len(by) == 0 {
			continue
		}
		slices.Sort(by)
		text := fmt.Sprintf("policy %s opens %s of role %s by its rule for %s", name, path, strings.Join(slices.Compact(by), ", "), rule.path)
		if own {
			text += "; pim's own tokens need it, nobody else should hold it"
		}
		out = append(out, text)
	}
	return out
}

func (p *Provider) policyNames(ctx context.Context) ([]string, error) {
	a, err := p.asLogin(ctx, call{op: "list policies", method: "LIST", path: "sys/policies/acl"})
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(texts(a.Data["keys"]), func(n string) bool { return n == "root" })
	slices.Sort(names)
	return names, nil
}

func (p *Provider) policyRules(ctx context.Context, name string) ([]aclRule, error) {
	a, err := p.asLogin(ctx, call{op: "read policy", method: http.MethodGet, path: "sys/policies/acl/" + url.PathEscape(name)})
	if err != nil {
		return nil, err
	}
	text, _ := a.Data["policy"].(string)
	return parseACL(text)
}

var (
	errPolicyText     = &contract.Error{Op: "read policy", Public: "its text cannot be read"}
	errPolicyTemplate = &contract.Error{Op: "read policy", Public: "it is a template, and depends on who holds it"}
)

// parseACL reads the rules of a policy, in either of the two languages that
// hosts take.
func parseACL(text string) ([]aclRule, error) {
	file, err := hcl.Parse(text)
	if err != nil {
		return nil, errPolicyText
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, errPolicyText
	}
	var out []aclRule
	for _, item := range list.Filter("path").Items {
		if len(item.Keys) == 0 {
			return nil, errPolicyText
		}
		path, _ := item.Keys[0].Token.Value().(string)
		if strings.Contains(path, "{{") {
			return nil, errPolicyTemplate
		}
		var body struct {
			Capabilities []string `hcl:"capabilities"`
			Policy       string   `hcl:"policy"`
		}
		if err := hcl.DecodeObject(&body, item.Val); err != nil {
			return nil, errPolicyText
		}
		out = append(out, aclRule{path: strings.TrimPrefix(path, "/"), caps: append(body.Capabilities, oldStyle(body.Policy)...)})
	}
	return out, nil
}

// oldStyle is what the words of the first policy language allow.
func oldStyle(word string) []string {
	switch word {
	case "deny":
		return []string{"deny"}
	case "read":
		return []string{"read", "list"}
	case "write", "sudo":
		return []string{"create", "read", "update", "delete", "list"}
	}
	return nil
}

// ruleFor picks the rule that a host would go by: rules for the same path count
// together; among others the most specific wins.
func ruleFor(rules []aclRule, path string) (aclRule, bool) {
	var best aclRule
	found := false
	for _, r := range rules {
		switch {
		case !ruleMatches(r.path, path):
		case found && r.path == best.path:
			best.caps = append(slices.Clone(best.caps), r.caps...)
		case !found || moreSpecific(r.path, best.path, path):
			best, found = r, true
		}
	}
	return best, found
}

// ruleMatches tells whether a rule covers a path: + is one segment, * at the
// end is anything.
func ruleMatches(rule, path string) bool {
	prefix := strings.HasSuffix(rule, "*")
	rule = strings.TrimSuffix(rule, "*")
	want, have := strings.Split(rule, "/"), strings.Split(path, "/")
	if !prefix && len(want) != len(have) || len(want) > len(have) {
		return false
	}
	for i, w := range want {
		last := prefix && i == len(want)-1
		if w != "+" && w != have[i] && (!last || !strings.HasPrefix(have[i], w)) {
			return false
		}
	}
	return true
}

// moreSpecific orders two rules that both cover a path as hosts do.
func moreSpecific(a, b, path string) bool {
	if (a == path) != (b == path) {
		return a == path
	}
	wild := func(s string) int {
		if i := strings.IndexAny(s, "+*"); i >= 0 {
			return i
		}
		return len(s)
	}
	if wild(a) != wild(b) {
		return wild(a) > wild(b)
	}
	if ga, gb := strings.HasSuffix(a, "*"), strings.HasSuffix(b, "*"); ga != gb {
		return gb
	}
	if na, nb := strings.Count(a, "+"), strings.Count(b, "+"); na != nb {
		return na < nb
	}
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a > b
}

// ownPolicies are those that the token roles give to pim's own tokens.
func (p *Provider) ownPolicies(ctx context.Context, roles []contract.Spec) []string {
	var out []string
	for _, name := range p.tokenRoles(roles) {
		a, err := p.asLogin(ctx, call{op: "read token role", method: http.MethodGet, path: "auth/token/roles/" + name})
		if err == nil {
			out = append(out, texts(a.Data["allowed_policies"])...)
		}
	}
	return out
}
