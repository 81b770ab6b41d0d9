package gcp

import (
	"context"
	"regexp"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
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
	source remote.PrincipalSource
	member string // user or group
}

func readPrincipalRule(v contract.Values, report *contract.Report) principalRule {
	p := principalRule{source: remote.ReadPrincipalSource(v, report), member: v.String("member_type")}
	if p.member == "" {
		p.member = memberUser
	}
	if p.member == memberGroup {
		report.Warnf("member_type is group: approving one person's request raises everybody in that group")
	}
	return p
}

// ResolvePrincipal implements contract.PrincipalResolver. E-mail addresses are
// lower-cased, as Google does.
func (p *Provider) ResolvePrincipal(_ context.Context, who domain.Entity, fields contract.Values) (string, error) {
	r, report := p.config.readRole(fields)
	if r.kind != kindBinding {
		return "", nil
	}
	if r.principal.source.Missing() {
		return "", contract.BadRole("resolve principal", report)
	}
	name, err := r.principal.source.Principal(who, "address at Google", "addresses at Google")
	if err != nil {
		return "", err
	}
	return checkPrincipal(r.principal.member + ":" + strings.ToLower(name))
}

// checkPrincipal holds a principal to the form user:EMAIL or group:EMAIL.
// Service accounts are nobody's own.
func checkPrincipal(text string) (string, error) {
	member, email, _ := strings.Cut(text, ":")
	if (member != memberUser && member != memberGroup) || !emailForm.MatchString(email) || len(email) > 254 ||
		strings.HasSuffix(email, "gserviceaccount.com") {
		return "", contract.Refused("resolve principal", "bad_principal", "your address at Google is not one that can be bound")
	}
	return text, nil
}
