package kubernetes

import (
	"context"
	"fmt"

	authv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// api is the part of a cluster's API that the provider uses. rest.go speaks it
// to an API server; the tests have it in memory. Errors are the API server's
// own (apierrors.APIStatus) or the network's; failure puts them into words.
type api interface {
	// Namespace reads one namespace.
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
	// Get reads what k names.
	Get(ctx context.Context, k key) (object, error)
	// Create makes o; with dryRun the API server goes all the way and then
	// keeps nothing.
	Create(ctx context.Context, k key, o object, dryRun bool) (object, error)
	// Delete deletes what k names. found is false when there was nothing; held
	// is true when the object stays until its finalizers have run.
	Delete(ctx context.Context, k key) (found, held bool, err error)
	// List yields what everything of a kind is called and labelled, in one
	// namespace or, for "", in all; contents stay at the cluster.
	List(ctx context.Context, k kind, namespace, selector string, yield func(metav1.ObjectMeta) error) error
	// Bindings yields every role binding of a namespace, or every cluster role
	// binding for "".
	Bindings(ctx context.Context, namespace string, yield func(binding) error) error
	// Token asks for a token of a service account.
	Token(ctx context.Context, namespace, account string, spec authv1.TokenRequestSpec) (authv1.TokenRequestStatus, error)
	// Allowed asks whether we may do something.
	Allowed(ctx context.Context, what authzv1.ResourceAttributes) (bool, error)
	// Rules lists what we may do in a namespace.
	Rules(ctx context.Context, namespace string) (authzv1.SubjectRulesReviewStatus, error)
	// Self tells who we are.
	Self(ctx context.Context) (authv1.UserInfo, error)
	// Close ends idle connections.
	Close()
}

// object is any object of the API.
type object interface {
	metav1.Object
	runtime.Object
}

// kind is one of the kinds that the provider makes.
type kind string

const (
	clusterRoleBinding kind = "ClusterRoleBinding"
	roleBinding        kind = "RoleBinding"
	clusterRole        kind = "ClusterRole"
	roleObject         kind = "Role"
	serviceAccount     kind = "ServiceAccount"
	secretObject       kind = "Secret"
)

// kindInfo says where a kind lives in the API.
type kindInfo struct {
	group    string // "" is the core group
	resource string
	empty    object // a new one, to be filled
}

func (k kind) info() kindInfo {
	switch k {
	case clusterRoleBinding:
		return kindInfo{rbacv1.GroupName, "clusterrolebindings", &rbacv1.ClusterRoleBinding{}}
	case roleBinding:
		return kindInfo{rbacv1.GroupName, "rolebindings", &rbacv1.RoleBinding{}}
	case clusterRole:
		return kindInfo{rbacv1.GroupName, "clusterroles", &rbacv1.ClusterRole{}}
	case roleObject:
		return kindInfo{rbacv1.GroupName, "roles", &rbacv1.Role{}}
	case serviceAccount:
		return kindInfo{"", "serviceaccounts", &corev1.ServiceAccount{}}
	case secretObject:
		return kindInfo{"", "secrets", &corev1.Secret{}}
	}
	return kindInfo{}
}

// key names one object.
type key struct {
	kind      kind
	namespace string // "" for the kinds without
	name      string
}

// String prints the key for people.
func (k key) String() string {
	if k.namespace == "" {
		return fmt.Sprintf("%s %s", k.kind, k.name)
	}
	return fmt.Sprintf("%s %s/%s", k.kind, k.namespace, k.name)
}

// binding is a role binding or a cluster role binding.
type binding struct {
	labels   map[string]string
	role     rbacv1.RoleRef
	subjects []rbacv1.Subject
}
