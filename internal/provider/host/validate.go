package host

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Validate implements contract.Provider.
func (p *Provider) Validate(ctx context.Context, spec contract.Spec, probe bool) contract.Report {
	var r contract.Report
	role := normalize(spec.Fields)
	name := role.String("credential_type")
	k, ok := kindOf(name)
	switch {
	case name == "":
		r.Addf("path", "is required, or token_policies for a token of the host")
		return r
	case !ok:
		r.Addf("credential_type", "is none of %s", strings.Join(kindNames(), ", "))
		return r
	}
	k.validate(&r, role, spec.Params)
	foreignFields(&r, role, k)
	if name := role.String("token_role"); name != "" && roleNameProblem(name) != "" {
		r.Addf("token_role", "%s", roleNameProblem(name))
	}
	if probe && r.OK() {
		p.probe(ctx, &r, role, k)
	}
	return r
}

// foreignFields reports fields that belong to another credential type.
func foreignFields(r *contract.Report, role contract.Values, k kind) {
	for _, other := range kinds() {
		for _, name := range other.fields {
			if slices.Contains(k.fields, name) || isUnset(role[name]) {
				continue
			}
			r.Addf(name, "belongs to credential_type=%s", other.name)
		}
	}
}

func isUnset(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case string:
		return x == ""
	case bool:
		return !x
	case []string:
		return len(x) == 0
	case map[string]string:
		return len(x) == 0
	}
	return false
}

// probe asks the host whether the role can work. What the login may not see is
// a warning: it is checked again at every issue.
func (p *Provider) probe(ctx context.Context, r *contract.Report, role contract.Values, k kind) {
	ctx, cancel := context.WithTimeout(ctx, revokeBudget)
	defer cancel()
	p.probeTokenRole(ctx, r, role, k)
	if k.probe != nil {
		k.probe(ctx, p, r, role)
	}
	if k.name != kindLease {
		return
	}
	l, err := p.login(ctx)
	if err != nil {
		return // said above
	}
	found, err := p.mountType(ctx, l.token, role.String("path"))
	switch {
	case err != nil:
		r.Warnf("the mount of path could not be looked up now; it is checked at every issue")
	case found == "":
		r.Warnf("the login cannot see the mount of path (list on the path is enough); it is checked at every issue")
	default:
		if problem := p.mountProblem(found, role); problem != "" {
			r.Addf("path", "%s", problem)
		}
	}
}

// probeTokenRole reads the token role and reports what would make every issue
// fail.
func (p *Provider) probeTokenRole(ctx context.Context, r *contract.Report, role contract.Values, k kind) {
	name := p.tokenRole(role)
	a, err := p.asLogin(ctx, call{op: "read token role", method: http.MethodGet, path: "auth/token/roles/" + name})
	switch {
	case hasStatus(err, http.StatusNotFound):
		r.Addf("token_role", "does not exist on the host")
		return
	case err != nil:
		r.Warnf("the token role could not be read now (%s); what it yields is checked at every issue", publicText(err))
		return
	}
	got := a.Data
	if got["orphan"] != true {
		r.Addf("token_role", "must yield orphan tokens (orphan=true)")
	}
	if number(got["token_period"]) > 0 || number(got["period"]) > 0 {
		r.Addf("token_role", "must not yield periodic tokens (token_period=0)")
	}
	if kind, _ := got["token_type"].(string); strings.Contains(kind, "batch") {
		r.Addf("token_role", "must yield service tokens (token_type=service)")
	}
	if number(got["token_num_uses"]) > 0 {
		r.Addf("token_role", "must not limit the uses of its tokens (token_num_uses=0)")
	}
	p.probePolicies(r, role, k, got)
}

func (p *Provider) probePolicies(r *contract.Report, role contract.Values, k kind, tokenRole map[string]any) {
	allowed, globs := texts(tokenRole["allowed_policies"]), texts(tokenRole["allowed_policies_glob"])
	switch {
	case len(allowed) == 0 && len(globs) == 0:
		r.Addf("token_role", "must name its allowed_policies: without them its tokens get the login's own")
	case slices.Contains(allowed, "root"):
		r.Addf("token_role", "must not allow root")
	case len(allowed) == 0 && k.policies(role) == nil:
		r.Addf("token_role", "must name allowed_policies: patterns alone give its tokens none")
	case overlap(allowed, p.logins.policies()) && k.policies(role) == nil:
		r.Addf("token_role", "must not allow the policies of the engine's own login")
	}
	for _, name := range k.policies(role) {
		if !slices.Contains(allowed, name) && !matchesGlob(globs, name) {
			r.Addf("token_policies", "holds a policy that the token role does not allow")
		}
	}
	if overlap(k.policies(role), p.logins.policies()) {
		r.Addf("token_policies", "holds a policy of the engine's own login, which no role may hand out")
	}
}

// matchesGlob matches as the host does: a star at either end.
func matchesGlob(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		front, back := strings.HasSuffix(glob, "*"), strings.HasPrefix(glob, "*")
		core := strings.Trim(glob, "*")
		switch {
		case front && back:
			return strings.Contains(name, core)
		case front:
			return strings.HasPrefix(name, core)
		case back:
			return strings.HasSuffix(name, core)
		}
		return glob == name
	})
}
