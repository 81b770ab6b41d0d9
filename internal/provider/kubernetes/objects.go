package kubernetes

import (
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// What everything that the provider makes carries. Labels are what sweeps look
// for, annotations are for people and audit logs.
const (
	labelManager    = "app.kubernetes.io/managed-by"
	manager         = "vault-plugin-secrets-pim"
	ownDomain       = "vault-pim.github.io/"
	labelTarget     = ownDomain + "target"
	labelCredential = ownDomain + "credential-id"
	labelRoot       = ownDomain + "root" // on the Secret of the engine's own token
	noteRequest     = ownDomain + "request-id"
	noteRole        = ownDomain + "role"
	noteOwner       = ownDomain + "owner"
	noteEntity      = ownDomain + "entity-id"
	noteTicket      = ownDomain + "ticket"
	noteExpires     = ownDomain + "expires-at"
)

// maker makes the objects of one credential.
type maker struct {
	in     contract.Input
	role   role
	names  names
	target string
}

func (m maker) meta(k key, owner *metav1.OwnerReference) metav1.ObjectMeta {
	out := metav1.ObjectMeta{
		Name: k.name, Namespace: k.namespace,
		Labels: map[string]string{
			labelManager: manager, labelTarget: m.target, labelCredential: string(m.in.Credential),
		},
		Annotations: map[string]string{noteExpires: m.in.NotAfter.UTC().Format(time.RFC3339)},
	}
	for name, value := range map[string]string{
		noteRequest: string(m.in.Request), noteRole: m.in.Role, noteOwner: m.in.Person,
		noteEntity: m.in.EntityID, noteTicket: m.in.Ticket,
	} {
		if value != "" {
			out.Annotations[name] = value
		}
	}
	if owner != nil {
		out.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return out
}

// owned is a second net: where the cluster runs its garbage collector, what is
// left goes with its owner. Owners live in the same namespace or in none.
func owned(k kind, o object) *metav1.OwnerReference {
	version := "v1"
	if g := k.info().group; g != "" {
		version = g + "/v1"
	}
	return &metav1.OwnerReference{APIVersion: version, Kind: string(k), Name: o.GetName(), UID: o.GetUID()}
}

func (m maker) secret(k key) object {
	return &corev1.Secret{ObjectMeta: m.meta(k, nil), Type: corev1.SecretTypeOpaque}
}

func (m maker) account(k key) object {
	no := false
	return &corev1.ServiceAccount{ObjectMeta: m.meta(k, nil), AutomountServiceAccountToken: &no}
}

func (m maker) generated(k key, owner *metav1.OwnerReference) object {
	if k.kind == clusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: m.meta(k, owner), Rules: m.role.rules}
	}
	return &rbacv1.Role{ObjectMeta: m.meta(k, owner), Rules: m.role.rules}
}

func (m maker) binding(k key, to rbacv1.RoleRef, owner *metav1.OwnerReference) object {
	subjects := []rbacv1.Subject{m.subject()}
	if k.kind == clusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{ObjectMeta: m.meta(k, owner), RoleRef: to, Subjects: subjects}
	}
	return &rbacv1.RoleBinding{ObjectMeta: m.meta(k, owner), RoleRef: to, Subjects: subjects}
}

// subject is who gets the access: the service account made for it, or the
// requester's own user or group.
func (m maker) subject() rbacv1.Subject {
	if m.role.kind == kindBinding {
		return rbacv1.Subject{Kind: m.role.principal.kind, APIGroup: rbacv1.GroupName, Name: m.in.Principal}
	}
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: m.names.Account, Name: objectName(m.in.Credential)}
}

// generatedRef refers to the generated role that a binding is for.
func generatedRef(k key, id domain.CredentialID) rbacv1.RoleRef {
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: string(roleObject), Name: objectName(id)}
	if k.kind == clusterRoleBinding {
		ref.Kind = string(clusterRole)
	}
	return ref
}

// sameAccess tells whether what is at the cluster is ours and gives just what
// was asked for. Other fields may have been added by the cluster.
func sameAccess(want, got object) bool {
	if got.GetName() != want.GetName() || got.GetNamespace() != want.GetNamespace() ||
		got.GetLabels()[labelCredential] != want.GetLabels()[labelCredential] || got.GetDeletionTimestamp() != nil {
		return false
	}
	return reflect.DeepEqual(access(want), access(got))
}

// access is what an object gives: rules, or a role and who has it.
func access(o object) [2]any {
	switch x := o.(type) {
	case *rbacv1.Role:
		return [2]any{x.Rules, nil}
	case *rbacv1.ClusterRole:
		return [2]any{x.Rules, x.AggregationRule}
	case *rbacv1.RoleBinding:
		return [2]any{x.RoleRef, x.Subjects}
	case *rbacv1.ClusterRoleBinding:
		return [2]any{x.RoleRef, x.Subjects}
	}
	return [2]any{}
}
