package kubernetes

import (
	"context"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// systemPrefix begins the names of the cluster's own users and groups. None of
// them is anybody's own principal.
const systemPrefix = "system:"

// principalRule says where the requester's own subject comes from.
type principalRule struct {
	accessor string // one of accessor and key is set
	key      string
	kind     string // User or Group
	prefix   string
}

func readPrincipalRule(v contract.Values, report *contract.Report) principalRule {
	p := principalRule{kind: v.String("principal_kind"), prefix: v.String("principal_prefix")}
	if p.kind == "" {
		p.kind = rbacv1.UserKind
	}
	source, value, _ := strings.Cut(v.String("principal_source"), ":")
	switch {
	case !plainText(value):
		report.Addf("principal_source", "must be alias:<mount accessor> or metadata:<key>")
	case source == "alias":
		p.accessor = value
	case source == "metadata":
		p.key = value
	default:
		report.Addf("principal_source", "must be alias:<mount accessor> or metadata:<key>")
	}
	if p.prefix != "" && (!plainText(p.prefix) || reserved(p.prefix)) {
		report.Addf("principal_prefix", "must be plain text and not begin as the cluster's own names do")
	}
	if p.kind == rbacv1.GroupKind {
		report.Warnf("principal_kind is Group: approving one person's request raises everybody in that group")
	}
	return p
}

func reserved(name string) bool { return strings.HasPrefix(strings.ToLower(name), systemPrefix) }

// ResolvePrincipal implements contract.PrincipalResolver. Nothing is folded:
// RBAC compares names byte by byte.
func (p *Provider) ResolvePrincipal(_ context.Context, who domain.Entity, fields contract.Values) (string, error) {
	r, report := readRole(fields, []string{namespaceParam})
	if r.kind != kindBinding {
		return "", nil
	}
	if r.principal.accessor == "" && r.principal.key == "" {
		return "", badRole("resolve principal", report)
	}
	name, matches := "", 0
	if r.principal.key != "" && who.Metadata[r.principal.key] != "" {
		name, matches = who.Metadata[r.principal.key], 1
	}
	for _, alias := range who.Aliases {
		if r.principal.accessor != "" && alias.MountAccessor == r.principal.accessor {
			name = alias.Name
			matches++
		}
	}
	switch {
	case matches == 0:
		return "", refused("resolve principal", "no_principal", "your identity has no name for this cluster: log in the way the role's principal_source names")
	case matches > 1:
		return "", refused("resolve principal", "no_principal", "your identity has several names for this cluster, and nothing says which one is meant")
	}
	return checkPrincipal(r.principal.prefix + name)
}

func checkPrincipal(name string) (string, error) {
	if !plainText(name) || reserved(name) {
		return "", refused("resolve principal", "bad_principal", "your name for this cluster is not one that can be bound")
	}
	return name, nil
}
