package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/identitystore"
	"github.com/aws/aws-sdk-go-v2/service/identitystore/document"
	idtypes "github.com/aws/aws-sdk-go-v2/service/identitystore/types"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/ssoadmin"
	"github.com/aws/aws-sdk-go-v2/service/ssoadmin/types"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// sdkCenter is IAM Identity Center on the AWS SDK.
type sdkCenter struct {
	sso *ssoadmin.Client
	dir *identitystore.Client
}

var _ centerAPI = (*sdkCenter)(nil)

// Store implements centerAPI.
func (c *sdkCenter) Store(ctx context.Context, instance string) (string, error) {
	pages := ssoadmin.NewListInstancesPaginator(c.sso, &ssoadmin.ListInstancesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, i := range page.Instances {
			if val(i.InstanceArn) == instance {
				return val(i.IdentityStoreId), nil
			}
		}
	}
	return "", contract.Refused("find the Identity Center instance", "no_instance", "the instance of identity_center_arn is not visible to the target's identity")
}

// UserID implements centerAPI.
func (c *sdkCenter) UserID(ctx context.Context, storeID, attribute, value string) (string, error) {
	out, err := c.dir.GetUserId(ctx, &identitystore.GetUserIdInput{
		IdentityStoreId: &storeID,
		AlternateIdentifier: &idtypes.AlternateIdentifierMemberUniqueAttribute{Value: idtypes.UniqueAttribute{
			AttributePath: &attribute, AttributeValue: document.NewLazyDocument(value),
		}},
	})
	if err != nil {
		return "", err
	}
	return val(out.UserId), nil
}

// DescribeSet implements centerAPI.
func (c *sdkCenter) DescribeSet(ctx context.Context, instance, set string) (permissionSet, error) {
	out, err := c.sso.DescribePermissionSet(ctx, &ssoadmin.DescribePermissionSetInput{InstanceArn: &instance, PermissionSetArn: &set})
	if err != nil {
		return permissionSet{}, err
	}
	return permissionSet{Name: val(out.PermissionSet.Name), Sessions: sessionLength(val(out.PermissionSet.SessionDuration))}, nil
}

// sessionLength reads the ISO 8601 duration of a permission set. What it does
// not understand is the longest there is.
func sessionLength(iso string) time.Duration {
	d, err := time.ParseDuration(strings.ToLower(strings.TrimPrefix(iso, "PT")))
	if err != nil || d <= 0 || d > maxRoleSession {
		return maxRoleSession
	}
	return d
}

// ListAssigned implements centerAPI.
func (c *sdkCenter) ListAssigned(ctx context.Context, a assignment) ([]string, error) {
	var out []string
	pages := ssoadmin.NewListAccountAssignmentsPaginator(c.sso, &ssoadmin.ListAccountAssignmentsInput{
		InstanceArn: &a.Instance, AccountId: &a.Account, PermissionSetArn: &a.PermissionSet,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, x := range page.AccountAssignments {
			if x.PrincipalType == types.PrincipalTypeUser {
				out = append(out, val(x.PrincipalId))
			}
		}
	}
	return out, nil
}

func progressOf(s *types.AccountAssignmentOperationStatus) progress {
	if s == nil {
		return progress{}
	}
	return progress{
		ID: val(s.RequestId), Done: s.Status == types.StatusValuesSucceeded, Failed: s.Status == types.StatusValuesFailed,
	}
}

// Assign implements centerAPI.
func (c *sdkCenter) Assign(ctx context.Context, a assignment) (progress, error) {
	out, err := c.sso.CreateAccountAssignment(ctx, &ssoadmin.CreateAccountAssignmentInput{
		InstanceArn: &a.Instance, TargetId: &a.Account, TargetType: types.TargetTypeAwsAccount,
		PermissionSetArn: &a.PermissionSet, PrincipalId: &a.User, PrincipalType: types.PrincipalTypeUser,
	})
	if err != nil {
		return progress{}, err
	}
	return progressOf(out.AccountAssignmentCreationStatus), nil
}

// AssignStatus implements centerAPI.
func (c *sdkCenter) AssignStatus(ctx context.Context, instance, id string) (progress, error) {
	out, err := c.sso.DescribeAccountAssignmentCreationStatus(ctx, &ssoadmin.DescribeAccountAssignmentCreationStatusInput{
		InstanceArn: &instance, AccountAssignmentCreationRequestId: &id,
	})
	if err != nil {
		return progress{}, err
	}
	return progressOf(out.AccountAssignmentCreationStatus), nil
}

// Unassign implements centerAPI.
func (c *sdkCenter) Unassign(ctx context.Context, a assignment) (progress, error) {
	out, err := c.sso.DeleteAccountAssignment(ctx, &ssoadmin.DeleteAccountAssignmentInput{
		InstanceArn: &a.Instance, TargetId: &a.Account, TargetType: types.TargetTypeAwsAccount,
		PermissionSetArn: &a.PermissionSet, PrincipalId: &a.User, PrincipalType: types.PrincipalTypeUser,
	})
	if err != nil {
		return progress{}, err
	}
	return progressOf(out.AccountAssignmentDeletionStatus), nil
}

// UnassignStatus implements centerAPI.
func (c *sdkCenter) UnassignStatus(ctx context.Context, instance, id string) (progress, error) {
	out, err := c.sso.DescribeAccountAssignmentDeletionStatus(ctx, &ssoadmin.DescribeAccountAssignmentDeletionStatusInput{
		InstanceArn: &instance, AccountAssignmentDeletionRequestId: &id,
	})
	if err != nil {
		return progress{}, err
	}
	return progressOf(out.AccountAssignmentDeletionStatus), nil
}

// sdkRails is Organizations on the AWS SDK.
type sdkRails struct{ org *organizations.Client }

var _ guardrailAPI = (*sdkRails)(nil)

// ReadGuardrail implements guardrailAPI.
func (r *sdkRails) ReadGuardrail(ctx context.Context, id string) (string, error) {
	out, err := r.org.DescribePolicy(ctx, &organizations.DescribePolicyInput{PolicyId: &id})
	if err != nil {
		return "", err
	}
	return val(out.Policy.Content), nil
}

// WriteGuardrail implements guardrailAPI.
func (r *sdkRails) WriteGuardrail(ctx context.Context, id, text string) error {
	_, err := r.org.UpdatePolicy(ctx, &organizations.UpdatePolicyInput{PolicyId: &id, Content: awssdk.String(text)})
	return err
}

// signinClient is the federation endpoint, which is no API of the SDK.
type signinClient struct {
	http *http.Client
	url  string
}

var _ signinAPI = (*signinClient)(nil)

var errSignin = errors.New("the federation endpoint gave no sign-in token")

// SigninToken implements signinAPI. The session travels in the body: an address
// would be kept by every log on the way, and by the errors of net/http.
func (c *signinClient) SigninToken(ctx context.Context, s session, duration time.Duration) (secret.String, error) {
	id, err := json.Marshal(map[string]string{
		"sessionId": s.AccessKey, "sessionKey": s.SecretKey.Reveal(), "sessionToken": s.SessionToken.Reveal(),
	})
	if err != nil {
		return secret.String{}, errSignin
	}
	form := url.Values{"Action": {"getSigninToken"}, "Session": {string(id)}}
	if duration > 0 {
		form.Set("SessionDuration", strconv.Itoa(int(duration/time.Second)))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.url, "/")+"/federation", strings.NewReader(form.Encode()))
	if err != nil {
		return secret.String{}, errSignin
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.http.Do(req)
	if err != nil {
		return secret.String{}, err
	}
	var out struct{ SigninToken string }
	raw, rerr := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if cerr := res.Body.Close(); rerr == nil {
		rerr = cerr
	}
	if rerr != nil {
		return secret.String{}, rerr
	}
	if res.StatusCode != http.StatusOK || json.Unmarshal(raw, &out) != nil || out.SigninToken == "" {
		return secret.String{}, fmt.Errorf("%w: HTTP status %d", errSignin, res.StatusCode)
	}
	return secret.New(out.SigninToken), nil
}
