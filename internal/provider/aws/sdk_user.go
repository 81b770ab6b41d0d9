package aws

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// CreateUser implements userAPI.
func (a *sdkAccount) CreateUser(ctx context.Context, in newUser) error {
	_, err := a.iam.CreateUser(ctx, &iam.CreateUserInput{
		UserName: &in.Name, Path: &in.Path, PermissionsBoundary: optional(in.Boundary), Tags: iamTags(in.Tags),
	})
	return err
}

// GetUser implements userAPI.
func (a *sdkAccount) GetUser(ctx context.Context, name string) (userInfo, error) {
	out, err := a.iam.GetUser(ctx, &iam.GetUserInput{UserName: &name})
	if err != nil {
		return userInfo{}, err
	}
	return userOf(out.User), nil
}

func userOf(u *types.User) userInfo {
	info := userInfo{Name: val(u.UserName), Path: val(u.Path), ARN: val(u.Arn), Tags: map[string]string{}}
	for _, t := range u.Tags {
		info.Tags[val(t.Key)] = val(t.Value)
	}
	return info
}

// DeleteUser implements userAPI.
func (a *sdkAccount) DeleteUser(ctx context.Context, name string) error {
	_, err := a.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: &name})
	return err
}

// ListUsers implements userAPI.
func (a *sdkAccount) ListUsers(ctx context.Context, pathPrefix string) ([]userInfo, error) {
	var out []userInfo
	pages := iam.NewListUsersPaginator(a.iam, &iam.ListUsersInput{PathPrefix: &pathPrefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for i := range page.Users {
			out = append(out, userOf(&page.Users[i]))
		}
	}
	return out, nil
}

// TagUser implements userAPI.
func (a *sdkAccount) TagUser(ctx context.Context, name string, tags map[string]string) error {
	_, err := a.iam.TagUser(ctx, &iam.TagUserInput{UserName: &name, Tags: iamTags(tags)})
	return err
}

// UntagUser implements userAPI.
func (a *sdkAccount) UntagUser(ctx context.Context, name string, keys ...string) error {
	_, err := a.iam.UntagUser(ctx, &iam.UntagUserInput{UserName: &name, TagKeys: keys})
	return err
}

// AddToGroup implements userAPI.
func (a *sdkAccount) AddToGroup(ctx context.Context, user, group string) error {
	_, err := a.iam.AddUserToGroup(ctx, &iam.AddUserToGroupInput{UserName: &user, GroupName: &group})
	return err
}

// RemoveFromGroup implements userAPI.
func (a *sdkAccount) RemoveFromGroup(ctx context.Context, user, group string) error {
	_, err := a.iam.RemoveUserFromGroup(ctx, &iam.RemoveUserFromGroupInput{UserName: &user, GroupName: &group})
	return err
}

// ListGroups implements userAPI.
func (a *sdkAccount) ListGroups(ctx context.Context, user string) ([]string, error) {
	var out []string
	pages := iam.NewListGroupsForUserPaginator(a.iam, &iam.ListGroupsForUserInput{UserName: &user})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, g := range page.Groups {
			out = append(out, val(g.GroupName))
		}
	}
	return out, nil
}

// CreateKey implements userAPI.
func (a *sdkAccount) CreateKey(ctx context.Context, user string) (keyPair, error) {
	out, err := a.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &user})
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{ID: val(out.AccessKey.AccessKeyId), Secret: secret.New(val(out.AccessKey.SecretAccessKey))}, nil
}

// ListKeys implements userAPI.
func (a *sdkAccount) ListKeys(ctx context.Context, user string) ([]keyInfo, error) {
	var out []keyInfo
	pages := iam.NewListAccessKeysPaginator(a.iam, &iam.ListAccessKeysInput{UserName: &user})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range page.AccessKeyMetadata {
			out = append(out, keyInfo{ID: val(k.AccessKeyId), Created: val(k.CreateDate).UTC()})
		}
	}
	return out, nil
}

// DeleteKey implements userAPI.
func (a *sdkAccount) DeleteKey(ctx context.Context, user, id string) error {
	_, err := a.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: &id})
	return err
}

// The kinds of extras.
const (
	extraLogin       = "login profile"
	extraMFA         = "MFA device"
	extraSSH         = "SSH public key"
	extraCertificate = "signing certificate"
	extraService     = "service-specific credential"
)

// ListExtras implements userAPI.
func (a *sdkAccount) ListExtras(ctx context.Context, user string) ([]extra, error) {
	var out []extra
	if _, err := a.iam.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: &user}); err == nil {
		out = append(out, extra{Kind: extraLogin})
	} else if !isAbsent(err) {
		return nil, err
	}
	devices, err := a.iam.ListMFADevices(ctx, &iam.ListMFADevicesInput{UserName: &user})
	if err != nil {
		return nil, err
	}
	for _, d := range devices.MFADevices {
		out = append(out, extra{extraMFA, val(d.SerialNumber)})
	}
	keys, err := a.iam.ListSSHPublicKeys(ctx, &iam.ListSSHPublicKeysInput{UserName: &user})
	if err != nil {
		return nil, err
	}
	for _, k := range keys.SSHPublicKeys {
		out = append(out, extra{extraSSH, val(k.SSHPublicKeyId)})
	}
	certificates, err := a.iam.ListSigningCertificates(ctx, &iam.ListSigningCertificatesInput{UserName: &user})
	if err != nil {
		return nil, err
	}
	for _, c := range certificates.Certificates {
		out = append(out, extra{extraCertificate, val(c.CertificateId)})
	}
	services, err := a.iam.ListServiceSpecificCredentials(ctx, &iam.ListServiceSpecificCredentialsInput{UserName: &user})
	if err != nil {
		return nil, err
	}
	for _, s := range services.ServiceSpecificCredentials {
		out = append(out, extra{extraService, val(s.ServiceSpecificCredentialId)})
	}
	return out, nil
}

// DeleteExtra implements userAPI.
func (a *sdkAccount) DeleteExtra(ctx context.Context, user string, x extra) error {
	var err error
	switch x.Kind {
	case extraLogin:
		_, err = a.iam.DeleteLoginProfile(ctx, &iam.DeleteLoginProfileInput{UserName: &user})
	case extraMFA:
		if _, err = a.iam.DeactivateMFADevice(ctx, &iam.DeactivateMFADeviceInput{UserName: &user, SerialNumber: &x.ID}); err != nil && !isAbsent(err) {
			return err
		}
		if strings.Contains(x.ID, ":mfa/") { // a virtual one exists apart from its user
			_, err = a.iam.DeleteVirtualMFADevice(ctx, &iam.DeleteVirtualMFADeviceInput{SerialNumber: &x.ID})
		}
	case extraSSH:
		_, err = a.iam.DeleteSSHPublicKey(ctx, &iam.DeleteSSHPublicKeyInput{UserName: &user, SSHPublicKeyId: &x.ID})
	case extraCertificate:
		_, err = a.iam.DeleteSigningCertificate(ctx, &iam.DeleteSigningCertificateInput{UserName: &user, CertificateId: &x.ID})
	case extraService:
		_, err = a.iam.DeleteServiceSpecificCredential(ctx, &iam.DeleteServiceSpecificCredentialInput{
			UserName: &user, ServiceSpecificCredentialId: &x.ID,
		})
	}
	return err
}

// Simulate implements inspectAPI.
func (a *sdkAccount) Simulate(ctx context.Context, principalARN string, actions []string, resource string) ([]string, error) {
	var out []string
	pages := iam.NewSimulatePrincipalPolicyPaginator(a.iam, &iam.SimulatePrincipalPolicyInput{
		PolicySourceArn: &principalARN, ActionNames: actions, ResourceArns: []string{resource},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.EvaluationResults {
			if r.EvalDecision != types.PolicyEvaluationDecisionTypeAllowed {
				out = append(out, val(r.EvalActionName))
			}
		}
	}
	return out, nil
}

// AccountSummary implements inspectAPI.
func (a *sdkAccount) AccountSummary(ctx context.Context) (map[string]int, error) {
	out, err := a.iam.GetAccountSummary(ctx, &iam.GetAccountSummaryInput{})
	if err != nil {
		return nil, err
	}
	summary := map[string]int{}
	for k, v := range out.SummaryMap {
		summary[k] = int(v)
	}
	return summary, nil
}
