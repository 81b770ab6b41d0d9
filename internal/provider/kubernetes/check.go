package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	authzv1 "k8s.io/api/authorization/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// expirySoon is when a root token's end becomes a warning.
const expirySoon = 14 * 24 * time.Hour

// Validate implements contract.Provider. With probe the API server itself says
// whether the role's rules may be granted, by a dry run.
func (p *Provider) Validate(ctx context.Context, spec contract.Spec, probe bool) contract.Report {
	r, report := readRole(spec.Fields, spec.Params)
	if !report.OK() {
		return report
	}
	p.checkReach(r, &report)
	p.checkSelf(r, &report)
	if !probe || !report.OK() {
		return report
	}
	for _, d := range p.dryRun(ctx, spec.Role, r) {
		switch {
		case d.escalates():
			report.Addf(d.field, "%s", d.err.Public)
		case d.err != nil:
			report.Warnf("%s: %s (%s)", d.what, d.err.Public, d.err.Code)
		}
	}
	return report
}

// checkReach holds the role to what the target declares.
func (p *Provider) checkReach(r role, report *contract.Report) {
	c := p.config
	if r.kind == kindToken {
		for _, ns := range r.scope() {
			if (ns == "" && !c.issuesIn(everyNamespace)) || (ns != "" && !c.issuesIn(ns)) {
				report.Addf("service_account_name", "the target's token_namespaces does not have the namespace of the service account")
				break
			}
		}
	}
	if len(c.managed) == 0 {
		return
	}
	if r.clusterWide {
		report.Addf("cluster_wide", "the target's managed_namespaces leaves no room for it")
	}
	for field, list := range map[string][]string{
		"namespaces": r.namespaces, "allowed_namespaces": r.allowed, "service_account_namespace": nonEmpty(r.home),
	} {
		if slices.ContainsFunc(list, func(ns string) bool { return !c.manages(ns) }) {
			report.Addf(field, "the target's managed_namespaces does not have all of them")
		}
	}
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// checkSelf refuses a role for the engine's own service account, and warns of
// one that reaches into the namespace where that lives.
func (p *Provider) checkSelf(r role, report *contract.Report) {
	token, err := p.config.token.read()
	if err != nil {
		report.Warnf("the engine's own token could not be read from its file")
		return
	}
	c, err := readClaims(token)
	if err != nil {
		return // not a service account's; issue asks the API server who we are
	}
	home, account := c.identity()
	if r.kind == kindToken && r.account == account && slices.Contains(r.scope(), home) {
		report.Addf("service_account_name", "is the engine's own identity, which no role may use")
	}
	if r.kind != kindToken && (r.clusterWide || slices.Contains(r.scope(), home)) {
		report.Warnf("the role reaches into the namespace of the engine's own service account")
	}
}

// GuardSelf implements contract.SelfGuard: where our token does not say who we
// are, unlike Validate it asks the API server.
func (p *Provider) GuardSelf(ctx context.Context, spec contract.Spec) contract.Report {
	var out contract.Report
	r, report := readRole(spec.Fields, spec.Params)
	if !report.OK() || r.kind != kindToken {
		return out
	}
	self, err := p.self(ctx)
	switch {
	case err != nil:
		out.Warnf("whether the role reaches the engine's own identity could not be found out: %s", err.Error())
	case slices.ContainsFunc(r.scope(), func(ns string) bool { return username(ns, r.account) == self }):
		out.Addf("service_account_name", "is the engine's own identity, which no role may use")
	}
	return out
}

// dryRunResult is what the API server says about one object of a role.
type dryRunResult struct {
	field, what string
	err         *contract.Error
}

func (d dryRunResult) escalates() bool { return d.err != nil && d.err.Public == publicEscalation }

// dryRun has the API server check every kind of object that the role makes, in
// every namespace that the role names. Nothing is kept.
func (p *Provider) dryRun(ctx context.Context, name string, r role) []dryRunResult {
	sum := sha256.Sum256([]byte(p.target.Name + "/" + name))
	id := domain.CredentialID("check-" + hex.EncodeToString(sum[:8]))
	m := maker{
		in:   contract.Input{Credential: id, Principal: objectName(id), Role: name, NotAfter: p.env.Clock.Now()},
		role: r, target: p.target.Tag(), names: names{Account: "default"},
	}
	var objects []dryRunObject
	for _, ns := range r.scope() {
		if ns == "" && !r.clusterWide {
			continue // only the request names a namespace
		}
		objects = append(objects, m.trial(ns)...)
	}
	var (
		mu  sync.Mutex
		out []dryRunResult
	)
	fail := each(ctx, objects, func(ctx context.Context, o dryRunObject) error {
		_, err := p.api.Create(ctx, o.key, o.object, true)
		result := dryRunResult{field: o.field, what: "would-be " + o.key.String()}
		if err = failure("check "+string(o.key.kind), err); err != nil && !errors.As(err, &result.err) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		out = append(out, result)
		return nil
	})
	if fail != nil {
		out = append(out, dryRunResult{what: "dry run", err: &contract.Error{Op: "check", Code: remote.CodeUnreachable, Public: "was not finished"}})
	}
	slices.SortFunc(out, func(a, b dryRunResult) int { return compare(a.what, b.what) })
	return out
}

type dryRunObject struct {
	field  string
	key    key
	object object
}

// trial lists the objects of one namespace whose creation the API server
// checks for escalation.
func (m maker) trial(ns string) []dryRunObject {
	binds, makes := key{kind: roleBinding, namespace: ns}, key{kind: roleObject, namespace: ns}
	if m.role.clusterWide {
		binds, makes = key{kind: clusterRoleBinding}, key{kind: clusterRole}
	}
	var out []dryRunObject
	if len(m.role.rules) > 0 {
		makes.name = objectName(m.in.Credential)
		out = append(out, dryRunObject{"generated_role_rules", makes, m.generated(makes, nil)})
	}
	for i, ref := range m.role.bound {
		binds.name = boundName(m.in.Credential, i)
		out = append(out, dryRunObject{"kubernetes_roles", binds, m.binding(binds, ref, nil)})
	}
	return out
}

// Check implements contract.Checker: it asks the API server, permission by
// permission, for whatever the roles in use need.
func (p *Provider) Check(ctx context.Context, roles []contract.Spec) (contract.CheckReport, error) {
	var out contract.CheckReport
	// Without the permission to read the place the review below still says so.
	if place, err := p.Place(ctx); err == nil && p.target.Place != "" && place != p.target.Place {
		return out, contract.PlaceError("check")
	}
	info, err := p.api.Self(ctx)
	if err != nil {
		return out, failure("read our own identity", err)
	}
	out.Identity = info.Username
	policy := newPolicy(info.Username)
	wanted := map[need]bool{}
	for _, n := range p.base() {
		wanted[n] = true
	}
	for _, spec := range roles {
		r, report := readRole(spec.Fields, spec.Params)
		if !report.OK() {
			out.Warnings = append(out.Warnings, "role "+spec.Role+" is not valid: "+report.Fields())
			continue
		}
		for _, n := range r.needs() {
			wanted[n] = true
		}
		policy.grant(r)
		p.checkGrants(ctx, spec.Role, r, &out)
	}
	p.checkRoot(&out, wanted)
	for n := range wanted {
		policy.add(n)
	}
	p.ask(ctx, wanted, &out)
	p.checkExcess(ctx, &out)
	slices.Sort(out.Missing)
	slices.Sort(out.Unknown)
	out.RequiredPolicy, err = policy.yaml()
	return out, err
}

// checkGrants notes what of a role the API server would refuse, in its own
// reasons.
func (p *Provider) checkGrants(ctx context.Context, name string, r role, out *contract.CheckReport) {
	if r.selector != nil {
		out.Unknown = append(out.Unknown, "role "+name+": whether its rules may be granted where its selector matches shows at issue")
	}
	for _, d := range p.dryRun(ctx, name, r) {
		if d.err != nil {
			out.Missing = append(out.Missing, fmt.Sprintf("role %s: %s: %s (%s)", name, d.what, d.err.Public, d.err.Code))
		}
	}
}

// ask reviews each permission by itself: only that answer is the
// authorizer's own.
func (p *Provider) ask(ctx context.Context, wanted map[need]bool, out *contract.CheckReport) {
	list := make([]need, 0, len(wanted))
	for n := range wanted {
		list = append(list, n)
	}
	var mu sync.Mutex
	if err := each(ctx, list, func(ctx context.Context, n need) error {
		allowed, err := p.api.Allowed(ctx, n.attributes())
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			out.Unknown = append(out.Unknown, n.String())
		case !allowed:
			out.Missing = append(out.Missing, n.String())
		}
		return nil
	}); err != nil {
		out.Unknown = append(out.Unknown, "some permissions could not be reviewed")
	}
}

// checkExcess warns of an identity that may do everything.
func (p *Provider) checkExcess(ctx context.Context, out *contract.CheckReport) {
	rules, err := p.api.Rules(ctx, placeNamespace)
	if err != nil {
		out.Unknown = append(out.Unknown, "what the engine's identity may do besides")
		return
	}
	all := func(r authzv1.ResourceRule) bool {
		return slices.Contains(r.Verbs, "*") && slices.Contains(r.APIGroups, "*") && slices.Contains(r.Resources, "*")
	}
	if slices.ContainsFunc(rules.ResourceRules, all) {
		out.Warnings = append(out.Warnings, "the engine's identity may do everything in this cluster; the required policy is enough")
	}
}

// checkRoot looks at the engine's own token: when it ends, and whether
// rotate-root can end it.
func (p *Provider) checkRoot(out *contract.CheckReport, wanted map[need]bool) {
	token, err := p.config.token.read()
	if err != nil {
		out.Warnings = append(out.Warnings, "the engine's own token could not be read from its file")
		return
	}
	c, err := readClaims(token)
	if err != nil {
		out.Unknown = append(out.Unknown, "when the engine's own token ends")
		return
	}
	if left := time.Unix(c.Expiry, 0).Sub(p.env.Clock.Now()); c.Expiry != 0 && left < expirySoon && p.config.token.Path == "" {
		out.Warnings = append(out.Warnings, fmt.Sprintf("the engine's own token ends at %s: rotate-root, or write a new one",
			time.Unix(c.Expiry, 0).UTC().Format(time.RFC3339)))
	}
	if p.config.token.Path != "" {
		return // whoever writes the file renews it
	}
	if _, err := c.boundSecret(); err != nil {
		out.Warnings = append(out.Warnings, "the engine's own token is bound to no Secret, so rotate-root could not end it")
		return
	}
	home, account := c.identity()
	for _, n := range on(secretObject, home, "create", "delete") {
		wanted[n] = true
	}
	wanted[need{verb: "create", resource: "serviceaccounts", sub: "token", namespace: home, name: account}] = true
}
