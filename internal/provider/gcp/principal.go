package gcp

import (
	"context"
	"regexp"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// What a principal is at Google.
const (
	memberUser    = "user"
	memberGroup   = "group"
	memberAccount = "serviceAccount"
)

var emailForm = regexp.MustCompile(`^[a-z0-9.!#$%&'*+/=?^_{|}~-]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$`)

// principalRule says where the requester's own principal comes from.
type principalRule struct {
	accessor string // one of accessor and key is set
	key      string
	member   string // user or group
}

func readPrincipalRule(v contract.Values, report *contract.Report) principalRule {
	p := principalRule{member: v.String("member_type")}
	if p.member == "" {
		p.member = memberUser
	}
	source, value, _ := strings.Cut(v.String("principal_source"), ":")
	switch {
	case value == "" || len(value) > 256 || strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		report.Addf("principal_source", "must be alias:<mount accessor> or metadata:<key>")
	case source == "alias":
		p.accessor = value
	case source == "metadata":
		p.key = value
	default:
		report.Addf("principal_source", "must be alias:<mount accessor> or metadata:<key>")
	}
	if p.member == memberGroup {
		report.Warnf("member_type is group: approving one person's request raises everybody in that group")
	}
	return p
}

// ResolvePrincipal implements contract.PrincipalResolver. E-mail addresses are
// lower-cased, as Google does.
func (p *Provider) ResolvePrincipal(_ context.Context, who domain.Entity, fields contract.Values) (string, error) {
	const op = "resolve principal"
	r, report := p.config.readRole(fields)
	if r.kind != kindBinding {
		return "", nil
	}
	if r.principal.accessor == "" && r.principal.key == "" {
		return "", badRole(op, report)
	}
	var names []string
	if v := who.Metadata[r.principal.key]; r.principal.key != "" && v != "" {
		names = append(names, v)
	}
	for _, alias := range who.Aliases {
		if r.principal.accessor != "" && alias.MountAccessor == r.principal.accessor {
			names = append(names, alias.Name)
		}
	}
	switch len(names) {
	case 0:
		return "", refused(op, "no_principal", "your identity has no address at Google: log in the way the role's principal_source names")
	case 1:
		return checkPrincipal(r.principal.member + ":" + strings.ToLower(names[0]))
	}
	return "", refused(op, "no_principal", "your identity has several addresses at Google, and nothing says which one is meant")
}

// checkPrincipal holds a principal to the form user:EMAIL or group:EMAIL.
// Service accounts are nobody's own.
func checkPrincipal(text string) (string, error) {
	member, email, _ := strings.Cut(text, ":")
	if (member != memberUser && member != memberGroup) || !emailForm.MatchString(email) || len(email) > 254 ||
		strings.HasSuffix(email, "gserviceaccount.com") {
		return "", refused("resolve principal", "bad_principal", "your address at Google is not one that can be bound")
	}
	return text, nil
}

func badRole(op string, report contract.Report) error {
	return refused(op, "bad_role", "the role's fields are not valid: %s", badFields(report))
}
