package aws

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// identity is who a set of AWS credentials is.
type identity struct {
	Account string // 12 digits
	ARN     string
	UserID  string
}

// session is a set of temporary credentials as STS gives it.
type session struct {
	AccessKey    string
	SecretKey    secret.String
	SessionToken secret.String
	Expires      time.Time
	ARN          string // of the assumed role session or the federated user
}

// keyPair is a long-term access key with its secret.
type keyPair struct {
	ID     string
	Secret secret.String
}

// assumeInput asks for a role session.
type assumeInput struct {
	RoleARN        string
	SessionName    string
	SourceIdentity string
	ExternalID     string
	Policy         string
	PolicyARNs     []string
	Tags           map[string]string
	Transitive     []string
	Duration       time.Duration
}

// federateInput asks for a federated user session.
type federateInput struct {
	Name       string
	Policy     string
	PolicyARNs []string
	Tags       map[string]string
	Duration   time.Duration
}

type stsAPI interface {
	Identify(ctx context.Context) (identity, error)
	Assume(ctx context.Context, in assumeInput) (session, error)
	Federate(ctx context.Context, in federateInput) (session, error)
}

// holderKind says what carries a policy.
type holderKind string

const (
	roleHolder holderKind = "role"
	userHolder holderKind = "user"
)

// holder is a role or a user whose policies are read and written.
type holder struct {
	Kind holderKind
	Name string
}

func (h holder) String() string { return string(h.Kind) + "/" + h.Name }

// managed is a customer-managed policy.
type managed struct{ Name, ARN string }

// newPolicy asks for a customer-managed policy.
type newPolicy struct {
	Name, Path, Document string
	Tags                 map[string]string
}

// policyAPI reads and writes the policies of roles and users.
type policyAPI interface {
	ListInline(ctx context.Context, h holder) ([]string, error)
	GetInline(ctx context.Context, h holder, name string) (string, error)
	PutInline(ctx context.Context, h holder, name, document string) error
	DeleteInline(ctx context.Context, h holder, name string) error
	ListAttached(ctx context.Context, h holder) ([]managed, error)
	Attach(ctx context.Context, h holder, policyARN string) error
	Detach(ctx context.Context, h holder, policyARN string) error
	CreatePolicy(ctx context.Context, in newPolicy) (arn string, err error)
	ReadPolicy(ctx context.Context, arn string) (string, error) // the document in force
	WritePolicy(ctx context.Context, arn, document string) error
	DeletePolicy(ctx context.Context, arn string) error // with all its versions
	GetRole(ctx context.Context, name string) (roleInfo, error)
}

// roleInfo is what IAM says of a role.
type roleInfo struct {
	ARN        string
	MaxSession time.Duration
}

// newUser asks for an IAM user.
type newUser struct {
	Name, Path, Boundary string
	Tags                 map[string]string
}

// userInfo is an IAM user with its tags.
type userInfo struct {
	Name, Path, ARN string
	Tags            map[string]string
}

// keyInfo is an access key without its secret.
type keyInfo struct {
	ID      string
	Created time.Time
}

// extra is something that a user can own besides keys, groups and policies and
// that keeps it from being deleted.
type extra struct{ Kind, ID string }

// userAPI makes and deletes IAM users.
type userAPI interface {
	CreateUser(ctx context.Context, in newUser) error
	GetUser(ctx context.Context, name string) (userInfo, error)
	DeleteUser(ctx context.Context, name string) error
	ListUsers(ctx context.Context, pathPrefix string) ([]userInfo, error) // without tags
	TagUser(ctx context.Context, name string, tags map[string]string) error
	UntagUser(ctx context.Context, name string, keys ...string) error
	AddToGroup(ctx context.Context, user, group string) error
	RemoveFromGroup(ctx context.Context, user, group string) error
	ListGroups(ctx context.Context, user string) ([]string, error)
	CreateKey(ctx context.Context, user string) (keyPair, error)
	ListKeys(ctx context.Context, user string) ([]keyInfo, error)
	DeleteKey(ctx context.Context, user, id string) error
	ListExtras(ctx context.Context, user string) ([]extra, error)
	DeleteExtra(ctx context.Context, user string, x extra) error
}

// inspectAPI tells what is allowed and what is used up.
type inspectAPI interface {
	// Simulate returns those of the actions that the principal's own policies
	// do not allow on the resource.
	Simulate(ctx context.Context, principalARN string, actions []string, resource string) ([]string, error)
	AccountSummary(ctx context.Context) (map[string]int, error)
}

type iamAPI interface {
	policyAPI
	userAPI
	inspectAPI
}

// account is one identity's view of STS and IAM.
type account interface {
	stsAPI
	iamAPI
}

// assignment is one permission set for one user in one account.
type assignment struct {
	Instance, Account, PermissionSet, User string
}

// progress is the state of a change that Identity Center makes by itself.
type progress struct {
	ID     string
	Done   bool
	Failed bool
}

// permissionSet is what Identity Center says of a permission set.
type permissionSet struct {
	Name     string
	Sessions time.Duration // how long a role session under it lives
}

// centerAPI is IAM Identity Center with its directory.
type centerAPI interface {
	Store(ctx context.Context, instance string) (storeID string, err error)
	UserID(ctx context.Context, storeID, attribute, value string) (string, error)
	DescribeSet(ctx context.Context, instance, set string) (permissionSet, error)
	ListAssigned(ctx context.Context, a assignment) ([]string, error) // user ids
	Assign(ctx context.Context, a assignment) (progress, error)
	AssignStatus(ctx context.Context, instance, id string) (progress, error)
	Unassign(ctx context.Context, a assignment) (progress, error)
	UnassignStatus(ctx context.Context, instance, id string) (progress, error)
}

// guardrailAPI reads and writes a service control policy.
type guardrailAPI interface {
	ReadGuardrail(ctx context.Context, id string) (string, error)
	WriteGuardrail(ctx context.Context, id, document string) error
}

// signinAPI trades a session for a token that opens the console.
type signinAPI interface {
	SigninToken(ctx context.Context, s session, duration time.Duration) (secret.String, error)
}

// cloud is one target's AWS, by who calls.
type cloud struct {
	Root    account // the root credential itself; it rotates its own keys
	Issuer  account // the base role, or the root credential: makes credentials
	Revoker iamAPI  // the revoker role, or the issuer: writes denies
	Center  centerAPI
	Rails   guardrailAPI
	Signin  signinAPI
	// As identifies the owner of other keys: the test whether they work yet.
	As func(ctx context.Context, k keyPair) (identity, error)
	// Close releases connections.
	Close func()
}
