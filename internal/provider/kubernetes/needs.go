package kubernetes

import (
	"slices"
	"strings"

	authzv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// need is one permission that we must have. An empty namespace means all of
// them, or that the kind has none; an empty name means any.
type need struct {
	verb, group, resource, sub, namespace, name string
}

func (n need) attributes() authzv1.ResourceAttributes {
	return authzv1.ResourceAttributes{
		Verb: n.verb, Group: n.group, Resource: n.resource, Subresource: n.sub, Namespace: n.namespace, Name: n.name,
	}
}

func (n need) resources() string {
	if n.sub != "" {
		return n.resource + "/" + n.sub
	}
	return n.resource
}

// String prints the need as kubectl auth can-i takes it.
func (n need) String() string {
	out := n.verb + " " + n.resource
	if n.group != "" {
		out += "." + n.group
	}
	if n.sub != "" {
		out += "/" + n.sub
	}
	if n.name != "" {
		out += " " + n.name
	}
	switch {
	case n.namespace != "":
		out += " in namespace " + n.namespace
	case !n.clusterScoped():
		out += " in every namespace"
	}
	return out
}

func (n need) clusterScoped() bool {
	return n.resource == "namespaces" || strings.HasPrefix(n.resource, "cluster")
}

// on gives one need per verb on a kind.
func on(k kind, namespace string, verbs ...string) []need {
	out := make([]need, len(verbs))
	for i, verb := range verbs {
		out[i] = need{verb: verb, group: k.info().group, resource: k.info().resource, namespace: namespace}
	}
	return out
}

// scope lists the namespaces that a role can reach; "" stands for all of them,
// or for the cluster itself.
func (r role) scope() []string {
	switch {
	case r.clusterWide, r.selector != nil:
		return []string{""}
	case r.choose:
		return r.allowed
	case r.kind == kindToken:
		return []string{r.home}
	}
	return r.namespaces
}

// base lists what the engine's identity must be allowed whatever the roles
// are: to tell where it is, and to find what is left there.
func (p *Provider) base() []need {
	out := []need{{verb: "get", resource: "namespaces", name: placeNamespace}}
	for _, look := range p.looks() {
		out = append(out, on(look.kind, look.namespace, "list")...)
	}
	return out
}

// needs lists what the engine's identity must be allowed for a role.
func (r role) needs() []need {
	var out []need
	if r.selector != nil {
		out = append(out, need{verb: "get", resource: "namespaces"})
	}
	switch r.kind {
	case kindToken:
		for _, ns := range r.scope() {
			out = append(out, on(secretObject, ns, "create", "delete")...)
			out = append(out, need{verb: "create", resource: "serviceaccounts", sub: "token", namespace: ns, name: r.account})
		}
		return out
	case kindGenerated:
		homes := []string{r.home}
		if r.home == "" {
			homes = r.scope()
			if !r.choose {
				homes = homes[:1]
			}
		}
		for _, ns := range homes {
			out = append(out, on(serviceAccount, ns, "create", "get", "delete")...)
			out = append(out, need{verb: "create", resource: "serviceaccounts", sub: "token", namespace: ns})
		}
	}
	binds, makes := roleBinding, roleObject
	if r.clusterWide {
		binds, makes = clusterRoleBinding, clusterRole
	}
	for _, ns := range r.scope() {
		out = append(out, on(binds, ns, "create", "get", "delete")...)
		if len(r.rules) > 0 {
			out = append(out, on(makes, ns, "create", "get", "delete")...)
		}
	}
	return out
}

// grants lists the rules that the API server wants us to hold before it lets
// us give them: the generated rules themselves, and the verb bind on each
// existing role.
func (r role) grants() []rbacv1.PolicyRule {
	out := slices.Clone(r.rules)
	for _, ref := range r.bound {
		out = append(out, rbacv1.PolicyRule{
			Verbs: []string{"bind"}, APIGroups: []string{rbacv1.GroupName},
			Resources: []string{kind(ref.Kind).info().resource}, ResourceNames: []string{ref.Name},
		})
	}
	return out
}
