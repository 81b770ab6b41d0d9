package kubernetes

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// version of the handle's data.
const version = 1

// namePrefix and the credential's id name everything a credential makes. The
// id has 80 random bits that nobody saw before the plan: whatever has such a
// name is ours, whatever its labels say, and is deleted by name alone.
const namePrefix = "pim-"

// names is the provider's part of a handle: where there is something named
// after the credential.
type names struct {
	// Account is the namespace of a service account that was made.
	Account string `json:"a,omitempty"`
	// Secret is the namespace of a Secret that tokens are bound to.
	Secret string `json:"s,omitempty"`
	// Namespaces have a Role if Generated, and bindings.
	Namespaces []string `json:"n,omitempty"`
	// Cluster says the same of the cluster itself.
	Cluster bool `json:"c,omitempty"`
	// Generated says that there is a role, and a binding to it.
	Generated bool `json:"g,omitempty"`
	// Bound is how many existing roles are bound.
	Bound int `json:"b,omitempty"`
}

func objectName(id domain.CredentialID) string { return namePrefix + string(id) }

// boundName names the binding to the i-th existing role.
func boundName(id domain.CredentialID, i int) string { return objectName(id) + "-" + strconv.Itoa(i) }

// bindings, accounts and roles list what the handle names, in the order in
// which it ends.
func (n names) bindings(id domain.CredentialID) []key {
	var out []key
	for _, at := range n.places(clusterRoleBinding, roleBinding) {
		if n.Generated {
			out = append(out, key{at.kind, at.namespace, objectName(id)})
		}
		for i := range n.Bound {
			out = append(out, key{at.kind, at.namespace, boundName(id, i)})
		}
	}
	return out
}

func (n names) accounts(id domain.CredentialID) []key {
	var out []key
	if n.Secret != "" {
		out = append(out, key{secretObject, n.Secret, objectName(id)})
	}
	if n.Account != "" {
		out = append(out, key{serviceAccount, n.Account, objectName(id)})
	}
	return out
}

func (n names) roles(id domain.CredentialID) []key {
	var out []key
	if n.Generated {
		for _, at := range n.places(clusterRole, roleObject) {
			out = append(out, key{at.kind, at.namespace, objectName(id)})
		}
	}
	return out
}

// places lists the cluster and the namespaces, with the kind that each has.
func (n names) places(cluster, namespaced kind) []key {
	var out []key
	if n.Cluster {
		out = append(out, key{kind: cluster})
	}
	for _, ns := range n.Namespaces {
		out = append(out, key{kind: namespaced, namespace: ns})
	}
	return out
}

// Plan implements contract.Provider. Everything can be named before it exists.
// No key is shared: bindings of several credentials stand beside each other at
// the cluster, and access lasts until the last of them is deleted.
func (p *Provider) Plan(_ context.Context, in contract.Input) (domain.Handle, error) {
	if p.target.Place == "" {
		return domain.Handle{}, contract.Refused("plan", "no_place", "the target has no pinned place yet")
	}
	r, err := readInput(in)
	if err != nil {
		return domain.Handle{}, err
	}
	n, err := r.names(in)
	if err != nil {
		return domain.Handle{}, err
	}
	return remote.WithData(p.blank(in.Credential), n)
}

// blank is a handle of this target that names nothing yet.
func (p *Provider) blank(id domain.CredentialID) domain.Handle {
	return domain.Handle{Provider: Type, V: version, Target: p.target.Name, Place: p.target.Place, Credential: id}
}

// readInput reads the role that an issue is for.
func readInput(in contract.Input) (role, error) {
	r, report := readRole(in.Fields, contract.SortedKeys(in.Params))
	if !report.OK() {
		return role{}, contract.BadRole("plan", report)
	}
	if !domain.ValidID(string(in.Credential)) {
		return role{}, contract.BadHandle("plan", "names no credential")
	}
	return r, nil
}

// names says what will be there for one credential of the role.
func (r role) names(in contract.Input) (names, error) {
	chosen, err := r.chosen(in.Params)
	if err != nil {
		return names{}, err
	}
	n := names{Namespaces: chosen, Cluster: r.clusterWide, Generated: len(r.rules) > 0, Bound: len(r.bound)}
	switch r.kind {
	case kindToken:
		n = names{Secret: r.home}
		if n.Secret == "" {
			if len(chosen) != 1 {
				return names{}, contract.Refused("plan", "namespace", "the role yields one service account, so exactly one namespace must be chosen")
			}
			n.Secret = chosen[0]
		}
	case kindGenerated:
		n.Account = r.home
		if n.Account == "" {
			n.Account = chosen[0]
		}
	case kindBinding:
		if _, err := checkPrincipal(in.Principal); err != nil {
			return names{}, err
		}
	}
	return n, nil
}

// read checks that a handle is one of ours and decodes its data.
func (p *Provider) read(op string, h domain.Handle) (names, error) {
	return remote.ReadData(op, p.blank(""), h, names.sane)
}

func (n names) sane() bool {
	if n.Bound < 0 || n.Bound > maxBound || len(n.Namespaces) > maxNamespaces {
		return false
	}
	if n.Account == "" && n.Secret == "" && len(n.Namespaces) == 0 && !n.Cluster {
		return false
	}
	return !slices.ContainsFunc(append([]string{n.Account, n.Secret}, n.Namespaces...), func(ns string) bool {
		return strings.ContainsAny(ns, "/?#%.") // never a path of another kind
	})
}
