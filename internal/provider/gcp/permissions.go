package gcp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// needs are permissions that the engine must have, by where.
type needs struct {
	resources map[resource][]string
	accounts  map[string][]string // on existing service accounts
}

func newNeeds() needs {
	return needs{resources: map[resource][]string{}, accounts: map[string][]string{}}
}

func (n needs) on(r resource, list ...string) { n.resources[r] = union(n.resources[r], list) }

func (n needs) onAccount(email string, list ...string) {
	n.accounts[email] = union(n.accounts[email], list)
}

func (n needs) add(other needs) {
	for r, list := range other.resources {
		n.on(r, list...)
	}
	for email, list := range other.accounts {
		n.onAccount(email, list...)
	}
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

func texts(m map[resource][]string) map[string][]string {
	out := map[string][]string{}
	for r, list := range m {
		out[string(r)] = list
	}
	return out
}

func noToken() secret.String { return secret.String{} }

func (p *Provider) home() resource {
	return resource(string(svcProjects) + ".googleapis.com/" + projectsPrefix + p.config.project)
}

// base is what is needed whatever the roles are: to tell which project it is,
// and to find what is left there.
func (p *Provider) base() needs {
	n := newNeeds()
	n.on(p.home(), "resourcemanager.projects.get", "iam.serviceAccounts.list")
	for _, r := range p.config.managed {
		n.on(r, r.permissions("getIamPolicy")...)
	}
	return n
}

// needs is what a role needs.
func (p *Provider) needs(r role) needs {
	n := newNeeds()
	n.on(p.home(), "resourcemanager.projects.get")
	for _, res := range r.resources {
		n.on(res, res.permissions("getIamPolicy", "setIamPolicy")...)
	}
	keys := []string{"iam.serviceAccountKeys.create", "iam.serviceAccountKeys.delete", "iam.serviceAccountKeys.get", "iam.serviceAccountKeys.list"}
	switch {
	case r.own():
		n.on(p.home(), "iam.serviceAccounts.create", "iam.serviceAccounts.delete", "iam.serviceAccounts.disable", "iam.serviceAccounts.get")
		if r.kind == kindKey {
			n.on(p.home(), keys...)
		} else {
			n.on(p.home(), "iam.serviceAccounts.getAccessToken")
		}
	case r.kind == kindKey:
		n.onAccount(r.existing, append(keys, "iam.serviceAccounts.get")...)
	case r.kind == kindToken:
		n.onAccount(r.existing, "iam.serviceAccounts.getAccessToken")
	}
	return n
}

// required prints the minimal custom roles and their bindings as commands.
func (p *Provider) required(wanted needs, granted map[resource][]string, selves []string) string {
	who := "principal://… (the federated identity)"
	if len(selves) > 0 {
		who = memberAccount + ":" + p.describeIdentity(selves)
	}
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("# One custom role per place, and its binding to %s.", who)
	for _, name := range contract.SortedKeys(texts(wanted.resources)) {
		r := resource(name)
		line("# %s", r)
		line("includedPermissions: [%s]", strings.Join(wanted.resources[r], ", "))
		if roles := union(nil, granted[r]); len(roles) > 0 {
			quoted := make([]string, len(roles))
			for i, role := range roles {
				quoted[i] = "'" + role + "'"
			}
			line("# condition of the binding, so that the engine can grant nothing else:")
			line("condition: api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([%s])", strings.Join(quoted, ", "))
		}
	}
	for _, email := range contract.SortedKeys(wanted.accounts) {
		line("# service account %s", email)
		line("includedPermissions: [%s]", strings.Join(wanted.accounts[email], ", "))
	}
	return out.String()
}
