package kubernetes

import (
	"context"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// systemPrefix begins the names of the cluster's own users and groups. None of
// them is anybody's own principal.
const systemPrefix = "system:"

// principalRule says where the requester's own subject comes from.
type principalRule struct {
	source remote.PrincipalSource
	kind   string // User or Group
	prefix string
}

func readPrincipalRule(v contract.Values, report *contract.Report) principalRule {
	p := principalRule{
		source: remote.ReadPrincipalSource(v, report), kind: v.String("principal_kind"), prefix: v.String("principal_prefix"),
	}
	if p.kind == "" {
		p.kind = rbacv1.UserKind
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
	if r.principal.source.Missing() {
		return "", contract.BadRole("resolve principal", report)
	}
	name, err := r.principal.source.Principal(who, "name for this cluster", "names for this cluster")
	if err != nil {
		return "", err
	}
	return checkPrincipal(r.principal.prefix + name)
}

func checkPrincipal(name string) (string, error) {
	if !plainText(name) || reserved(name) {
		return "", contract.Refused("resolve principal", "bad_principal", "your name for this cluster is not one that can be bound")
	}
	return name, nil
}
