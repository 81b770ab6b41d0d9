package aws

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

const (
	mostRoles      = 16
	mostChain      = 4
	mostUserGroups = 10
	mostOwnTags    = 5 // that pim puts on a user
)

var (
	userPathForm  = regexp.MustCompile(`^/pim/([A-Za-z0-9_.+=,@-]+/)*$`)
	groupForm     = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
	guardrailForm = regexp.MustCompile(`^p-[0-9a-z_]{8,128}$`)
)

// fieldsOf names, for each credential type, the fields that belong to it.
//
//nolint:gochecknoglobals // constant table
var fieldsOf = map[string][]string{
	kindRole: {
		"role_arns", "external_id", "policy_document", "policy_arns", "session_tags", "transitive_tags", "allow_chaining",
		"can_persist", "revocation", "console",
	},
	kindUser: {
		"user_path", "permissions_boundary_arn", "iam_groups", "iam_tags", "policy_document", "policy_arns", "can_persist", "revocation",
		"key_probes",
	},
	kindFederation: {"policy_document", "policy_arns", "session_tags", "can_persist", "revocation", "console"},
	kindCenter:     {"permission_set_arn", "account_id", "principal_source", "principal_attribute", "scp_deny"},
}

// Validate implements contract.Provider.
func (p *Provider) Validate(ctx context.Context, spec contract.Spec, probe bool) contract.Report {
	var r contract.Report
	spec.Fields = normalize(spec.Fields)
	kind := spec.Fields.String("credential_type")
	if kind == "" {
		r.Addf("credential_type", "is required: assumed_role, iam_user, federation_token or identity_center")
		return r
	}
	checkForeign(&r, kind, spec.Fields)
	switch kind {
	case kindRole:
		p.validateRole(&r, spec)
	case kindUser:
		p.validateUser(&r, spec)
	case kindFederation:
		p.validateFederation(&r, spec)
	case kindCenter:
		p.validateCenter(&r, spec.Fields)
	}
	if spec.Fields.Bool("can_persist") {
		r.Warnf("can_persist: a holder can make users, keys and roles that outlive the credential and its revocation")
	}
	if probe && r.OK() {
		p.probe(ctx, &r, spec)
	}
	return r
}

// checkForeign reports fields that belong to other credential types.
func checkForeign(r *contract.Report, kind string, v contract.Values) {
	for _, f := range roleFields() {
		if f.Name == "credential_type" || contains(fieldsOf[kind], f.Name) || isUnset(v[f.Name]) {
			continue
		}
		r.Addf(f.Name, "does not belong to credential_type=%s", kind)
	}
}

func isUnset(x any) bool {
	switch v := x.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case int:
		return v == 0
	case []string:
		return len(v) == 0
	case map[string]string:
		return len(v) == 0
	}
	return false
}

func (p *Provider) validateRole(r *contract.Report, spec contract.Spec) {
	f := spec.Fields
	arns := f.Strings("role_arns")
	switch {
	case len(arns) == 0:
		r.Addf("role_arns", "is required for assumed_role")
	case len(arns) > mostRoles:
		r.Addf("role_arns", "has more than %d entries", mostRoles)
	case len(arns) > 1 && !contains(spec.Params, paramRole):
		r.Addf("role_arns", "has several entries, so the role must declare the request parameter role_arn")
	}
	for _, a := range arns {
		p.checkRoleARN(r, "role_arns", a)
		if a != "" && (a == p.set.BaseRole || a == p.set.RevokerRole) {
			r.Addf("role_arns", "has the engine's own identity, which no role may use")
		}
	}
	if v := f.String("external_id"); v != "" && !validExternalID(v) {
		r.Addf("external_id", "has a form that STS does not take")
	}
	chain := f.Strings("allow_chaining")
	if len(chain) > mostChain {
		r.Addf("allow_chaining", "has more than %d entries", mostChain)
	}
	for _, a := range chain {
		p.checkRoleARN(r, "allow_chaining", a)
	}
	p.checkPolicies(r, spec)
	checkTags(r, "session_tags", f.Map("session_tags"), spec.Params, maxTags)
	for _, key := range f.Strings("transitive_tags") {
		if _, ok := f.Map("session_tags")[key]; !ok {
			r.Addf("transitive_tags", "has a key that session_tags does not have")
		}
	}
}

// checkRoleARN checks a role of the target's own account: denies can be written
// nowhere else.
func (p *Provider) checkRoleARN(r *contract.Report, field, value string) {
	a, ok := parseARN(value)
	name, isRole := a.roleName()
	switch {
	case !ok || !isRole || !accountForm.MatchString(a.account) || len(name) > 64:
		r.Addf(field, "has an entry that is not the ARN of an IAM role")
	case p.target.Place != "" && a.account != p.target.Place:
		r.Addf(field, "has a role of another account than the target's: make a target for that account")
	case strings.HasPrefix(name, "AWSReservedSSO_"), strings.HasPrefix(a.resource, "role/aws-service-role/"):
		r.Addf(field, "has a role that AWS keeps to itself and lets nobody put a revocation on")
	}
}

// checkPolicies checks a session's or user's policies, with the size that they
// will have.
func (p *Provider) checkPolicies(r *contract.Report, spec contract.Spec) {
	f := spec.Fields
	for _, a := range f.Strings("policy_arns") {
		if pa, ok := parseARN(a); !ok || pa.service != "iam" || !strings.HasPrefix(pa.resource, "policy/") {
			r.Addf("policy_arns", "has an entry that is not the ARN of a managed policy")
		}
	}
	own := f.String("policy_document")
	if own != "" {
		if _, err := readDocument(own); err != nil {
			r.Addf("policy_document", "%s", err.Error())
			return
		}
	}
	// The longest of the roles gives the longest policy.
	d := handleData{Kind: f.String("credential_type"), End: time.Unix(0, 0).Unix(), Chain: f.Strings("allow_chaining")}
	for _, a := range f.Strings("role_arns") {
		if len(a) > len(d.ARN) {
			d.ARN = a
		}
	}
	g := p.guardOf(contract.Input{Fields: f}, d, identity{})
	if d.Kind == kindUser {
		if text, err := guardedPolicy(own, false, g); err == nil && policySize(text) > maxUserPolicies {
			r.Addf("policy_document", "has with what pim adds more than the %d characters that IAM takes", maxUserPolicies)
		}
		return
	}
	if _, err := sessionPolicy(own, f.Strings("policy_arns"), g); err != nil {
		r.Addf("policy_document", "%s", err.Error())
	}
}

func (p *Provider) validateUser(r *contract.Report, spec contract.Spec) {
	f := spec.Fields
	if !userPathForm.MatchString(f.String("user_path")) || len(f.String("user_path")) > 512 {
		r.Addf("user_path", "must be a path below /pim/ that ends with a slash")
	}
	if b := f.String("permissions_boundary_arn"); b != "" {
		if a, ok := parseARN(b); !ok || a.service != "iam" || !strings.HasPrefix(a.resource, "policy/") {
			r.Addf("permissions_boundary_arn", "is not the ARN of a managed policy")
		}
	}
	groups := f.Strings("iam_groups")
	if len(groups) > mostUserGroups {
		r.Addf("iam_groups", "has more than %d entries", mostUserGroups)
	}
	for _, g := range groups {
		if !groupForm.MatchString(g) {
			r.Addf("iam_groups", "has an entry that is not the name of an IAM group")
		}
	}
	if len(f.Strings("policy_arns")) > attachedQuota {
		r.Addf("policy_arns", "has more than %d entries", attachedQuota)
	}
	if f.String("policy_document") == "" && len(f.Strings("policy_arns")) == 0 && len(groups) == 0 {
		r.Addf("policy_document", "a user needs a policy_document, policy_arns or iam_groups to be allowed anything")
	}
	if f.String("revocation") == string(domain.ExpiryOnly) {
		r.Addf("revocation", "a user is always deleted: expiry_only does not belong to iam_user")
	}
	checkProbes(r, f)
	p.checkPolicies(r, spec)
	checkTags(r, "iam_tags", f.Map("iam_tags"), spec.Params, maxTags-mostOwnTags)
}

func checkProbes(r *contract.Report, f contract.Values) {
	switch n := probesOf(f); {
	case n < 0, n > mostKeyProbes:
		r.Addf("key_probes", "must be from 0 to %d", mostKeyProbes)
	case n == 0:
		r.Warnf("key_probes: a key is handed out before all of AWS knows it; whoever reads it must try again for some seconds")
	}
}

func (p *Provider) validateFederation(r *contract.Report, spec contract.Spec) {
	f := spec.Fields
	if p.set.Source != sourceStatic || p.set.BaseRole != "" {
		r.Addf("credential_type", "federation_token needs a target with access keys of an IAM user and without base_role_arn")
	}
	if f.String("policy_document") == "" && len(f.Strings("policy_arns")) == 0 {
		r.Addf("policy_document", "a federation token needs a policy_document or policy_arns to be allowed anything")
	}
	p.checkPolicies(r, spec)
	checkTags(r, "session_tags", f.Map("session_tags"), spec.Params, maxTags)
}

func (p *Provider) validateCenter(r *contract.Report, f contract.Values) {
	if p.set.Center == "" {
		r.Addf("credential_type", "identity_center needs a target with identity_center_arn")
	}
	if a, ok := parseARN(f.String("permission_set_arn")); !ok || a.service != "sso" || !strings.HasPrefix(a.resource, "permissionSet/") {
		r.Addf("permission_set_arn", "is required and must be the ARN of a permission set")
	}
	if !accountForm.MatchString(f.String("account_id")) {
		r.Addf("account_id", "is required and must be 12 digits")
	}
	if !sourceForm.MatchString(f.String("principal_source")) {
		r.Addf("principal_source", "is required and must be alias:<mount accessor> or metadata:<key>")
	}
	if v := f.String("scp_deny"); v != "" && !guardrailForm.MatchString(v) {
		r.Addf("scp_deny", "is not the id of a service control policy")
	}
}

var _ contract.SelfGuard = (*Provider)(nil)

// GuardSelf implements contract.SelfGuard. Validate knows the roles that the
// target names; this asks AWS as which role we run.
func (p *Provider) GuardSelf(ctx context.Context, spec contract.Spec) contract.Report {
	var r contract.Report
	arns := spec.Fields.Strings("role_arns")
	if len(arns) == 0 {
		return r
	}
	who, err := p.identify(ctx, identityAge)
	if err != nil {
		r.Warnf("whether the role reaches the engine's own identity could not be found out: %s", err.Error())
		return r
	}
	for _, a := range arns {
		if p.notOurselves(a, who) != nil {
			r.Addf("role_arns", "has the engine's own identity, which no role may use")
			break
		}
	}
	return r
}

// probe asks AWS what can be asked without changing anything.
func (p *Provider) probe(ctx context.Context, r *contract.Report, spec contract.Spec) {
	who, err := p.identify(ctx, identityAge)
	if err != nil {
		r.Warnf("AWS could not be asked who the target is")
		return
	}
	f := spec.Fields
	switch f.String("credential_type") {
	case kindRole:
		for _, a := range f.Strings("role_arns") {
			if p.notOurselves(a, who) != nil {
				r.Addf("role_arns", "has the engine's own identity, which no role may use")
				continue
			}
			p.probeRole(ctx, r, f, a)
		}
	case kindFederation:
		if own, _ := parseARN(who.ARN); !isUserARN(own) {
			r.Addf("credential_type", "federation_token needs a root credential that is an IAM user")
		}
	case kindCenter:
		p.probeCenter(ctx, r, f)
	}
}

func isUserARN(a arn) bool {
	_, ok := a.userName()
	return ok
}

// probeRole reads a role and the room for its revocations.
func (p *Provider) probeRole(ctx context.Context, r *contract.Report, f contract.Values, roleARN string) {
	a, _ := parseARN(roleARN)
	name, _ := a.roleName()
	info, err := p.cloud.Revoker.GetRole(ctx, name)
	switch {
	case isAbsent(err):
		r.Addf("role_arns", "has a role that does not exist")
		return
	case err != nil:
		r.Warnf("a role could not be read, so it is not known whether it exists and how long its sessions may be")
	case info.ARN != roleARN:
		r.Addf("role_arns", "has a role whose path is not the one at AWS")
	}
	if !revocable(f) {
		return
	}
	if _, err := p.denier.room(ctx, holder{roleHolder, name}, keySourceIdentity); err != nil {
		r.Warnf("the policies of a role could not be read: sessions are not issued until a revocation can be written there")
	}
}

func (p *Provider) probeCenter(ctx context.Context, r *contract.Report, f contract.Values) {
	set, err := p.cloud.Center.DescribeSet(ctx, p.set.Center, f.String("permission_set_arn"))
	switch {
	case isAbsent(err):
		r.Addf("permission_set_arn", "does not exist at the instance")
	case err != nil:
		r.Warnf("the permission set could not be read")
	default:
		r.Warnf("role sessions under this permission set can last %s after the assignment is gone", set.Sessions)
	}
	if rail := f.String("scp_deny"); rail != "" {
		if _, err := p.readRail(ctx, rail); err != nil {
			r.Addf("scp_deny", "cannot be used: the policy is not readable, or has no statement %s", railMarker)
		}
	}
}
