package aws

import (
	"context"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

var _ contract.Checker = (*Provider)(nil)

// Check implements contract.Checker. It changes nothing at AWS.
func (p *Provider) Check(ctx context.Context, roles []contract.Spec) (contract.CheckReport, error) {
	who, err := p.identify(ctx, 0)
	if err != nil {
		return contract.CheckReport{}, err
	}
	if p.target.Place != "" && p.target.Place != who.Account {
		return contract.CheckReport{}, contract.PlaceError("check")
	}
	out := contract.CheckReport{Identity: who.ARN, Quotas: map[string]int{}}
	list := p.needs(roles, who)
	separate := p.set.RevokerRole != ""
	out.RequiredPolicy, err = requiredPolicy(list, func(by needBy) bool { return !separate || by != byRevoker })
	if err != nil {
		return out, err
	}
	if separate {
		text, err := requiredPolicy(list, func(by needBy) bool { return by == byRevoker })
		if err != nil {
			return out, err
		}
		out.Warnings = append(out.Warnings, "revoker_role_arn needs a policy of its own: "+text)
	}
	p.simulate(ctx, &out, list, who)
	p.quotas(ctx, &out, roles)
	if len(out.Missing) == 0 && len(list) > 0 {
		out.Unknown = append(out.Unknown,
			"whether the trust policies of roles, service control policies and permissions boundaries allow it too: IAM does not simulate these")
	}
	return out, nil
}

// simulate asks IAM which of the needed actions our own policies allow.
func (p *Provider) simulate(ctx context.Context, out *contract.CheckReport, list []need, who identity) {
	for _, n := range list {
		source := policySource(who, p.set.BaseRole)
		switch {
		case n.by == byRevoker && p.set.RevokerRole != "":
			source = p.set.RevokerRole
		case n.by == byRoot && p.set.BaseRole != "":
			continue // rotation is the root user's; its ARN is not who we are here
		}
		api := p.cloud.Issuer
		if source == "" {
			out.Unknown = append(out.Unknown, "permissions on "+n.resource+": our own identity cannot be simulated")
			continue
		}
		denied, err := api.Simulate(ctx, source, n.actions, n.resource)
		if err != nil {
			out.Unknown = append(out.Unknown, "permissions on "+n.resource+": "+failed("simulate", err).Error())
			continue
		}
		for _, action := range denied {
			out.Missing = append(out.Missing, action+" on "+n.resource)
		}
	}
}

// policySource is the user or role whose policies IAM simulates.
func policySource(who identity, baseRole string) string {
	a, ok := parseARN(who.ARN)
	if !ok {
		return ""
	}
	if isUserARN(a) {
		return who.ARN
	}
	name, ok := a.sessionRole()
	if !ok {
		return ""
	}
	if strings.HasSuffix(baseRole, "/"+name) {
		return baseRole
	}
	return "arn:" + a.partition + ":iam::" + a.account + ":role/" + name
}

// quotas tells how much of what AWS allows is used.
func (p *Provider) quotas(ctx context.Context, out *contract.CheckReport, roles []contract.Spec) {
	summary, err := p.cloud.Issuer.AccountSummary(ctx)
	if err != nil {
		out.Unknown = append(out.Unknown, "quotas of the account: "+failed("read account summary", err).Error())
	}
	for name, key := range map[string]string{
		"users": "Users", "users_quota": "UsersQuota", "policies": "Policies", "policies_quota": "PoliciesQuota",
	} {
		if v, ok := summary[key]; ok {
			out.Quotas[name] = v
		}
	}
	for _, spec := range roles {
		f := normalize(spec.Fields)
		if f.String("credential_type") != kindRole || !revocable(f) {
			continue
		}
		for _, text := range append(f.Strings("role_arns"), f.Strings("allow_chaining")...) {
			a, _ := parseARN(text)
			name, ok := a.roleName()
			if !ok {
				continue
			}
			free, err := p.denier.room(ctx, holder{roleHolder, name}, keySourceIdentity)
			if err != nil {
				out.Unknown = append(out.Unknown, "room for revocations at role "+name+": "+err.Error())
				continue
			}
			out.Quotas["revocations_free:"+name] = free
		}
	}
}
