package aws

import (
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// need is what the target's identity must be allowed.
type need struct {
	by       needBy
	actions  []string
	resource string
}

// needBy says which identity needs it.
type needBy int

const (
	byIssuer needBy = iota
	byRevoker
	byRoot
)

// denyActions write and read revocations on a role or user.
func denyActions(kind holderKind) []string {
	name := "Role"
	if kind == userHolder {
		name = "User"
	}
	out := []string{
		"iam:Get" + name + "Policy", "iam:Put" + name + "Policy", "iam:Delete" + name + "Policy", "iam:List" + name + "Policies",
		"iam:ListAttached" + name + "Policies", "iam:Attach" + name + "Policy", "iam:Detach" + name + "Policy",
	}
	if kind == roleHolder {
		out = append(out, "iam:GetRole")
	}
	return out
}

//nolint:gochecknoglobals // constant table
var (
	overflowActions = []string{
		"iam:CreatePolicy", "iam:TagPolicy", "iam:GetPolicy", "iam:GetPolicyVersion", "iam:ListPolicyVersions",
		"iam:CreatePolicyVersion", "iam:DeletePolicyVersion", "iam:DeletePolicy",
	}
	userActions = []string{
		"iam:CreateUser", "iam:TagUser", "iam:GetUser", "iam:DeleteUser", "iam:CreateAccessKey", "iam:ListAccessKeys",
		"iam:DeleteAccessKey", "iam:PutUserPolicy", "iam:ListUserPolicies", "iam:DeleteUserPolicy", "iam:AttachUserPolicy",
		"iam:ListAttachedUserPolicies", "iam:DetachUserPolicy", "iam:ListGroupsForUser", "iam:AddUserToGroup",
		"iam:RemoveUserFromGroup", "iam:GetLoginProfile", "iam:DeleteLoginProfile", "iam:ListMFADevices",
		"iam:DeactivateMFADevice", "iam:ListSSHPublicKeys", "iam:DeleteSSHPublicKey", "iam:ListSigningCertificates",
		"iam:DeleteSigningCertificate", "iam:ListServiceSpecificCredentials", "iam:DeleteServiceSpecificCredential",
	}
	centerActions = []string{
		"sso:ListInstances", "sso:DescribePermissionSet", "sso:ListAccountAssignments", "sso:CreateAccountAssignment",
		"sso:DeleteAccountAssignment", "sso:DescribeAccountAssignmentCreationStatus",
		"sso:DescribeAccountAssignmentDeletionStatus", "identitystore:GetUserId",
	}
	railActions   = []string{"organizations:DescribePolicy", "organizations:UpdatePolicy"}
	rotateActions = []string{
		"iam:CreateAccessKey", "iam:DeleteAccessKey", "iam:ListAccessKeys", "iam:TagUser", "iam:UntagUser", "iam:GetUser",
	}
)

// needs gathers what the roles in use need, each once.
func (p *Provider) needs(roles []contract.Spec, who identity) []need {
	var out []need
	for _, spec := range roles {
		f := normalize(spec.Fields)
		switch f.String("credential_type") {
		case kindRole:
			out = append(out, p.roleNeeds(f)...)
		case kindUser:
			users := p.arnOf("user" + f.String("user_path") + sessionPrefix + "*")
			out = append(out, need{byIssuer, userActions, users}, need{byIssuer, []string{"iam:ListUsers"}, p.arnOf("user" + policyPath)})
			for _, g := range f.Strings("iam_groups") {
				out = append(out, need{byIssuer, []string{"iam:AddUserToGroup", "iam:RemoveUserFromGroup"}, p.arnOf("group/" + g)})
			}
		case kindFederation:
			out = append(out, p.federationNeeds(f, who)...)
		case kindCenter:
			out = append(out, need{byIssuer, centerActions, "*"})
			if f.String("scp_deny") != "" {
				out = append(out, need{byIssuer, railActions, "*"})
			}
		}
	}
	if a, _ := parseARN(who.ARN); p.set.Source == sourceStatic && isUserARN(a) {
		out = append(out, need{byRoot, rotateActions, who.ARN})
	}
	return distinct(out)
}

func (p *Provider) roleNeeds(f contract.Values) []need {
	var out []need
	assume := []string{"sts:AssumeRole", "sts:SetSourceIdentity"}
	if len(f.Map("session_tags")) > 0 {
		assume = append(assume, "sts:TagSession")
	}
	for _, a := range f.Strings("role_arns") {
		out = append(out, need{byIssuer, assume, a})
		if revocable(f) {
			out = append(out, need{byRevoker, denyActions(roleHolder), a})
		}
	}
	for _, a := range f.Strings("allow_chaining") {
		out = append(out, need{byRevoker, denyActions(roleHolder), a})
	}
	if revocable(f) || len(f.Strings("allow_chaining")) > 0 {
		out = append(out, need{byRevoker, overflowActions, p.arnOf("policy" + policyPath + revocationPolicy + "-*")})
	}
	return out
}

func (p *Provider) federationNeeds(f contract.Values, who identity) []need {
	federate := []string{"sts:GetFederationToken"}
	if len(f.Map("session_tags")) > 0 {
		federate = append(federate, "sts:TagSession")
	}
	out := []need{{byIssuer, federate, "arn:" + partitionOf(p.set.Region) + ":sts::" + p.target.Place + ":federated-user/" + sessionPrefix + "*"}}
	if revocable(f) {
		out = append(out, need{byRevoker, denyActions(userHolder), who.ARN},
			need{byRevoker, overflowActions, p.arnOf("policy" + policyPath + revocationPolicy + "-*")})
	}
	return out
}

// distinct joins needs of one identity on one resource.
func distinct(list []need) []need {
	var out []need
	for _, n := range list {
		i := slices.IndexFunc(out, func(x need) bool { return x.by == n.by && x.resource == n.resource })
		if i < 0 {
			out = append(out, need{n.by, nil, n.resource})
			i = len(out) - 1
		}
		for _, a := range n.actions {
			if !slices.Contains(out[i].actions, a) {
				out[i].actions = append(out[i].actions, a)
			}
		}
	}
	return out
}

// requiredPolicy is a policy that allows what is needed and no more. Where the
// revoker is a role of its own, what it needs is left out and returned apart.
func requiredPolicy(list []need, keep func(needBy) bool) (string, error) {
	byActions := map[string][]string{}
	for _, n := range list {
		if keep(n.by) {
			actions := slices.Clone(n.actions)
			slices.Sort(actions)
			k := strings.Join(actions, " ")
			byActions[k] = append(byActions[k], n.resource)
		}
	}
	d := policyDoc{Version: policyVersion}
	for _, k := range sortedKeys(byActions) {
		s := statement{Effect: "Allow", Action: strings.Fields(k), Resource: sorted(byActions[k])}
		if err := d.add(s); err != nil {
			return "", err
		}
	}
	return d.String(), nil
}
