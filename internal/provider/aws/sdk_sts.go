package aws

import (
	"context"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// sdkAccount is one identity's STS and IAM on the AWS SDK.
type sdkAccount struct {
	sts []*sts.Client // tried in order while AWS or the way there is at fault
	iam *iam.Client
}

var _ account = (*sdkAccount)(nil)

// onSTS makes a call at the first STS that answers.
func onSTS[T any](ctx context.Context, a *sdkAccount, call func(*sts.Client) (T, error)) (T, error) {
	var out T
	var err error
	for _, client := range a.sts {
		if out, err = call(client); err == nil || familyOf(err) != unavailable || ctx.Err() != nil {
			return out, err
		}
	}
	return out, err
}

// Identify implements stsAPI.
func (a *sdkAccount) Identify(ctx context.Context) (identity, error) {
	out, err := onSTS(ctx, a, func(c *sts.Client) (*sts.GetCallerIdentityOutput, error) {
		return c.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	})
	if err != nil {
		return identity{}, err
	}
	return identity{Account: val(out.Account), ARN: val(out.Arn), UserID: val(out.UserId)}, nil
}

// Assume implements stsAPI.
func (a *sdkAccount) Assume(ctx context.Context, in assumeInput) (session, error) {
	req := &sts.AssumeRoleInput{
		RoleArn: &in.RoleARN, RoleSessionName: &in.SessionName, SourceIdentity: optional(in.SourceIdentity),
		ExternalId: optional(in.ExternalID), Policy: optional(in.Policy), PolicyArns: descriptors(in.PolicyARNs),
		Tags: stsTags(in.Tags), TransitiveTagKeys: in.Transitive, DurationSeconds: seconds(in.Duration),
	}
	out, err := onSTS(ctx, a, func(c *sts.Client) (*sts.AssumeRoleOutput, error) { return c.AssumeRole(ctx, req) })
	if err != nil {
		return session{}, err
	}
	s := sessionOf(out.Credentials)
	if out.AssumedRoleUser != nil {
		s.ARN = val(out.AssumedRoleUser.Arn)
	}
	return s, nil
}

// Federate implements stsAPI.
func (a *sdkAccount) Federate(ctx context.Context, in federateInput) (session, error) {
	req := &sts.GetFederationTokenInput{
		Name: &in.Name, Policy: optional(in.Policy), PolicyArns: descriptors(in.PolicyARNs),
		Tags: stsTags(in.Tags), DurationSeconds: seconds(in.Duration),
	}
	out, err := onSTS(ctx, a, func(c *sts.Client) (*sts.GetFederationTokenOutput, error) { return c.GetFederationToken(ctx, req) })
	if err != nil {
		return session{}, err
	}
	s := sessionOf(out.Credentials)
	if out.FederatedUser != nil {
		s.ARN = val(out.FederatedUser.Arn)
	}
	return s, nil
}

func sessionOf(c *types.Credentials) session {
	if c == nil {
		return session{}
	}
	return session{
		AccessKey: val(c.AccessKeyId), SecretKey: secret.New(val(c.SecretAccessKey)),
		SessionToken: secret.New(val(c.SessionToken)), Expires: val(c.Expiration).UTC(),
	}
}

func descriptors(arns []string) []types.PolicyDescriptorType {
	var out []types.PolicyDescriptorType
	for _, a := range arns {
		out = append(out, types.PolicyDescriptorType{Arn: awssdk.String(a)})
	}
	return out
}

func stsTags(tags map[string]string) []types.Tag {
	var out []types.Tag
	for _, k := range sortedKeys(tags) {
		out = append(out, types.Tag{Key: awssdk.String(k), Value: awssdk.String(tags[k])})
	}
	return out
}

func seconds(d time.Duration) *int32 { return awssdk.Int32(int32(d / time.Second)) } //nolint:gosec // 12 hours at most

// optional is nil for an empty text.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// val is what a pointer of the SDK points to, or the zero value.
func val[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}
