package gcp

import (
	"context"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// Validate implements contract.Provider. With probe Google itself says whether
// the engine may do what the role needs.
func (p *Provider) Validate(ctx context.Context, spec contract.Spec, probe bool) contract.Report {
	r, report := p.config.readRole(spec.Fields)
	if !report.OK() {
		return report
	}
	p.checkSelf(r, &report)
	if !probe || !report.OK() {
		return report
	}
	p.guard(ctx, r, &report)
	out := contract.CheckReport{}
	p.ask(ctx, p.needs(r), &out)
	for _, m := range out.Missing {
		report.Warnf("the engine's own identity lacks %s", m)
	}
	for _, u := range out.Unknown {
		report.Warnf("could not be found out: %s", u)
	}
	return report
}

// GuardSelf implements contract.SelfGuard: permissions of roles that are not
// known by name are read from Google.
func (p *Provider) GuardSelf(ctx context.Context, spec contract.Spec) contract.Report {
	var out contract.Report
	if r, report := p.config.readRole(spec.Fields); report.OK() {
		p.guard(ctx, r, &out)
	}
	return out
}

func (p *Provider) guard(ctx context.Context, r role, report *contract.Report) {
	err := p.refuseSelf(ctx, "check role", r)
	switch {
	case err == nil:
	case remote.IsOwnIdentity(err) && r.existing != "":
		report.Addf("service_account_email", "%s", publicOf(err))
	case remote.IsOwnIdentity(err):
		report.Addf("iam_roles", "%s", publicOf(err))
	default:
		report.Warnf("whether the role reaches the engine's own identity could not be found out: %s", err.Error())
	}
}

// Check implements contract.Checker. It changes nothing at Google.
func (p *Provider) Check(ctx context.Context, roles []contract.Spec) (contract.CheckReport, error) {
	out := contract.CheckReport{Quotas: map[string]int{}}
	place, err := p.Place(ctx)
	if err != nil {
		return out, err
	}
	if p.target.Place != "" && place != p.target.Place {
		return out, contract.PlaceError("check")
	}
	selves, err := p.identities(ctx)
	if err != nil {
		return out, failure("read our own identity", err)
	}
	out.Identity = p.describeIdentity(selves)
	wanted := p.base()
	granted := map[resource][]string{}
	for _, spec := range roles {
		r, report := p.config.readRole(spec.Fields)
		if !report.OK() {
			out.Warnings = append(out.Warnings, "role "+spec.Role+" is not valid: "+report.Fields())
			continue
		}
		wanted.add(p.needs(r))
		for _, res := range r.resources {
			granted[res] = append(granted[res], r.roles...)
		}
	}
	p.ask(ctx, wanted, &out)
	p.quotas(ctx, &out, wanted)
	out.RequiredPolicy = p.required(wanted, granted, selves)
	if !p.config.credentials.Empty() {
		out.Warnings = append(out.Warnings,
			"the engine's credential is a key that ends only when rotate-root replaces it; federation or an attached account needs none")
	}
	slices.Sort(out.Missing)
	slices.Sort(out.Unknown)
	return out, nil
}

// describeIdentity names whom the engine acts as: the last of the chain.
func (p *Provider) describeIdentity(selves []string) string {
	switch {
	case len(p.config.chain) > 0:
		return p.config.chain[len(p.config.chain)-1]
	case len(selves) > 0:
		return selves[len(selves)-1]
	}
	return "a federated identity"
}

// ask has Google test every permission where it is needed.
func (p *Provider) ask(ctx context.Context, wanted needs, out *contract.CheckReport) {
	compare := func(where string, list, have []string, err error) {
		switch {
		case err != nil:
			out.Unknown = append(out.Unknown, "permissions on "+where+": "+failure("test permissions", err).Error())
		default:
			for _, permission := range list {
				if !slices.Contains(have, permission) {
					out.Missing = append(out.Missing, permission+" on "+where)
				}
			}
		}
	}
	for _, r := range contract.SortedKeys(texts(wanted.resources)) {
		list := wanted.resources[resource(r)]
		have, err := p.api.allowed(ctx, resource(r), list, noToken())
		compare(resource(r).String(), list, have, err)
	}
	for _, email := range contract.SortedKeys(wanted.accounts) {
		have, err := p.api.allowedOnAccount(ctx, email, wanted.accounts[email])
		compare("service account "+email, wanted.accounts[email], have, err)
	}
}

// quotas counts what Google limits.
func (p *Provider) quotas(ctx context.Context, out *contract.CheckReport, wanted needs) {
	total, ours := 0, 0
	err := p.api.accounts(ctx, p.config.project, func(a account) error {
		total++
		if strings.HasPrefix(a.Email, accountPrefix) && described.MatchString(a.Description) {
			ours++
		}
		return nil
	})
	if err != nil {
		out.Unknown = append(out.Unknown, "how many service accounts there are: "+failure("list service accounts", err).Error())
	} else {
		out.Quotas["service_accounts"], out.Quotas["service_accounts_of_pim"] = total, ours
	}
	for _, r := range p.config.managed {
		policy, err := p.api.policy(ctx, r)
		if err != nil {
			out.Unknown = append(out.Unknown, "principals on "+r.String()+": "+failure("read policy", err).Error())
			continue
		}
		c := policy.counts()
		out.Quotas["principals:"+r.String()], out.Quotas["groups:"+r.String()] = c.principals, c.groups
	}
	for email, list := range wanted.accounts {
		if !slices.Contains(list, "iam.serviceAccountKeys.list") {
			continue
		}
		keys, err := p.api.keys(ctx, email)
		if err != nil {
			out.Unknown = append(out.Unknown, "keys of "+email+": "+failure("list keys", err).Error())
			continue
		}
		out.Quotas["keys:"+email] = len(keys)
	}
}
