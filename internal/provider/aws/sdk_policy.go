package aws

import (
	"context"
	"errors"
	"net/url"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

var errHolder = errors.New("a policy belongs to a role or a user")

// decoded undoes the URL encoding in which IAM returns policies.
func decoded(text *string) (string, error) { return url.PathUnescape(val(text)) }

// ListInline implements policyAPI.
func (a *sdkAccount) ListInline(ctx context.Context, h holder) ([]string, error) {
	var out []string
	if h.Kind == userHolder {
		pages := iam.NewListUserPoliciesPaginator(a.iam, &iam.ListUserPoliciesInput{UserName: &h.Name})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			out = append(out, page.PolicyNames...)
		}
		return out, nil
	}
	pages := iam.NewListRolePoliciesPaginator(a.iam, &iam.ListRolePoliciesInput{RoleName: &h.Name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, page.PolicyNames...)
	}
	return out, nil
}

// GetInline implements policyAPI.
func (a *sdkAccount) GetInline(ctx context.Context, h holder, name string) (string, error) {
	if h.Kind == userHolder {
		out, err := a.iam.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: &h.Name, PolicyName: &name})
		if err != nil {
			return "", err
		}
		return decoded(out.PolicyDocument)
	}
	out, err := a.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &h.Name, PolicyName: &name})
	if err != nil {
		return "", err
	}
	return decoded(out.PolicyDocument)
}

// PutInline implements policyAPI.
func (a *sdkAccount) PutInline(ctx context.Context, h holder, name, document string) error {
	var err error
	switch h.Kind {
	case roleHolder:
		_, err = a.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &h.Name, PolicyName: &name, PolicyDocument: &document})
	case userHolder:
		_, err = a.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &h.Name, PolicyName: &name, PolicyDocument: &document})
	default:
		err = errHolder
	}
	return err
}

// DeleteInline implements policyAPI.
func (a *sdkAccount) DeleteInline(ctx context.Context, h holder, name string) error {
	var err error
	switch h.Kind {
	case roleHolder:
		_, err = a.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &h.Name, PolicyName: &name})
	case userHolder:
		_, err = a.iam.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: &h.Name, PolicyName: &name})
	default:
		err = errHolder
	}
	return err
}

// ListAttached implements policyAPI.
func (a *sdkAccount) ListAttached(ctx context.Context, h holder) ([]managed, error) {
	var out []managed
	add := func(list []types.AttachedPolicy) {
		for _, p := range list {
			out = append(out, managed{Name: val(p.PolicyName), ARN: val(p.PolicyArn)})
		}
	}
	if h.Kind == userHolder {
		pages := iam.NewListAttachedUserPoliciesPaginator(a.iam, &iam.ListAttachedUserPoliciesInput{UserName: &h.Name})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			add(page.AttachedPolicies)
		}
		return out, nil
	}
	pages := iam.NewListAttachedRolePoliciesPaginator(a.iam, &iam.ListAttachedRolePoliciesInput{RoleName: &h.Name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		add(page.AttachedPolicies)
	}
	return out, nil
}

// Attach implements policyAPI.
func (a *sdkAccount) Attach(ctx context.Context, h holder, policyARN string) error {
	var err error
	switch h.Kind {
	case roleHolder:
		_, err = a.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: &h.Name, PolicyArn: &policyARN})
	case userHolder:
		_, err = a.iam.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &h.Name, PolicyArn: &policyARN})
	default:
		err = errHolder
	}
	return err
}

// Detach implements policyAPI.
func (a *sdkAccount) Detach(ctx context.Context, h holder, policyARN string) error {
	var err error
	switch h.Kind {
	case roleHolder:
		_, err = a.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: &h.Name, PolicyArn: &policyARN})
	case userHolder:
		_, err = a.iam.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: &h.Name, PolicyArn: &policyARN})
	default:
		err = errHolder
	}
	return err
}

// CreatePolicy implements policyAPI.
func (a *sdkAccount) CreatePolicy(ctx context.Context, in newPolicy) (string, error) {
	out, err := a.iam.CreatePolicy(ctx, &iam.CreatePolicyInput{
		PolicyName: &in.Name, Path: &in.Path, PolicyDocument: &in.Document, Tags: iamTags(in.Tags),
	})
	if err != nil {
		return "", err
	}
	return val(out.Policy.Arn), nil
}

// ReadPolicy implements policyAPI.
func (a *sdkAccount) ReadPolicy(ctx context.Context, arn string) (string, error) {
	head, err := a.iam.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	if err != nil {
		return "", err
	}
	out, err := a.iam.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: head.Policy.DefaultVersionId})
	if err != nil {
		return "", err
	}
	return decoded(out.PolicyVersion.Document)
}

// WritePolicy implements policyAPI. IAM keeps five versions of a policy; the
// oldest makes room.
func (a *sdkAccount) WritePolicy(ctx context.Context, arn, document string) error {
	versions, err := a.versions(ctx, arn)
	if err != nil {
		return err
	}
	const kept = 5
	if len(versions) >= kept {
		var oldest *types.PolicyVersion
		for i, v := range versions {
			if !v.IsDefaultVersion && (oldest == nil || val(v.CreateDate).Before(val(oldest.CreateDate))) {
				oldest = &versions[i]
			}
		}
		if oldest != nil {
			_, err := a.iam.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: &arn, VersionId: oldest.VersionId})
			if err != nil && !isAbsent(err) {
				return err
			}
		}
	}
	_, err = a.iam.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{
		PolicyArn: &arn, PolicyDocument: &document, SetAsDefault: true,
	})
	return err
}

func (a *sdkAccount) versions(ctx context.Context, arn string) ([]types.PolicyVersion, error) {
	var out []types.PolicyVersion
	pages := iam.NewListPolicyVersionsPaginator(a.iam, &iam.ListPolicyVersionsInput{PolicyArn: &arn})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Versions...)
	}
	return out, nil
}

// DeletePolicy implements policyAPI.
func (a *sdkAccount) DeletePolicy(ctx context.Context, arn string) error {
	versions, err := a.versions(ctx, arn)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if v.IsDefaultVersion {
			continue
		}
		_, err := a.iam.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: &arn, VersionId: v.VersionId})
		if err != nil && !isAbsent(err) {
			return err
		}
	}
	_, err = a.iam.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: &arn})
	return err
}

// GetRole implements policyAPI.
func (a *sdkAccount) GetRole(ctx context.Context, name string) (roleInfo, error) {
	out, err := a.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err != nil {
		return roleInfo{}, err
	}
	return roleInfo{ARN: val(out.Role.Arn), MaxSession: time.Duration(val(out.Role.MaxSessionDuration)) * time.Second}, nil
}

func iamTags(tags map[string]string) []types.Tag {
	var out []types.Tag
	for _, k := range sortedKeys(tags) {
		out = append(out, types.Tag{Key: awssdk.String(k), Value: awssdk.String(tags[k])})
	}
	return out
}
