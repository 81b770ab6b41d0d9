package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	authv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

const (
	pageSize   = "250"
	maxRetries = 2 // of calls that the API server itself asks to repeat (429, Retry-After)
	// metadataOnly has the API server leave contents out of a list: sweeps
	// never bring the cluster's secrets here.
	metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
)

// client speaks to one API server, by client-go's REST client. The typed
// clientset is left out: it doubles the binary (docs/providers/kubernetes.md).
type client struct {
	rest *rest.RESTClient
	http *http.Client
}

// dial makes a client. It does no I/O.
func dial(env contract.Env, c targetConfig) (*client, error) {
	hc := newHTTP(env, c)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, rbacv1.AddToScheme, authv1.AddToScheme, authzv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register API types: %w", err)
		}
	}
	rc, err := rest.RESTClientForConfigAndClient(&rest.Config{
		Host: c.host.String(),
		ContentConfig: rest.ContentConfig{
			GroupVersion: &corev1.SchemeGroupVersion, NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
		},
		QPS:            -1, // the API server's own fairness is the limit
		WarningHandler: rest.NoWarnings{},
	}, hc)
	if err != nil {
		return nil, contract.Refused("connect", remote.CodeUnreachable, "host is not an address of an API server")
	}
	return &client{rest: rc, http: hc}, nil
}

// Close implements api.
func (c *client) Close() { c.http.CloseIdleConnections() }

// at begins a request on a resource of ours.
func at(r *rest.Request, k kind, namespace string, name ...string) *rest.Request {
	info := k.info()
	return path(r, info.group, info.resource, namespace, name...)
}

func path(r *rest.Request, group, resource, namespace string, name ...string) *rest.Request {
	parts := []string{"/api/v1"}
	if group != "" {
		parts = []string{"/apis", group, "v1"}
	}
	if namespace != "" {
		parts = append(parts, "namespaces", namespace)
	}
	return r.AbsPath(append(append(parts, resource), name...)...).MaxRetries(maxRetries)
}

// Namespace implements api.
func (c *client) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	out := &corev1.Namespace{}
	return out, path(c.rest.Get(), "", "namespaces", "", name).Do(ctx).Into(out)
}

// Get implements api.
func (c *client) Get(ctx context.Context, k key) (object, error) {
	out := k.kind.info().empty
	return out, at(c.rest.Get(), k.kind, k.namespace, k.name).Do(ctx).Into(out)
}

// Create implements api.
func (c *client) Create(ctx context.Context, k key, o object, dryRun bool) (object, error) {
	r := at(c.rest.Post(), k.kind, k.namespace)
	if dryRun {
		r = r.Param("dryRun", metav1.DryRunAll)
	}
	out := k.kind.info().empty
	return out, r.Body(o).Do(ctx).Into(out)
}

// Delete implements api. The answer is a Status, or the object itself, for
// some kinds always and for every kind when finalizers keep it.
func (c *client) Delete(ctx context.Context, k key) (found, held bool, err error) {
	raw, err := at(c.rest.Delete(), k.kind, k.namespace, k.name).
		Param("propagationPolicy", string(metav1.DeletePropagationBackground)).Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	var answer metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &answer); err != nil {
		return true, true, err
	}
	return true, answer.Kind != "Status" && len(answer.Finalizers) > 0, nil
}

// List implements api.
func (c *client) List(ctx context.Context, k kind, namespace, selector string, yield func(metav1.ObjectMeta) error) error {
	page := func(r *rest.Request) (string, error) {
		raw, err := r.SetHeader("Accept", metadataOnly).Param("labelSelector", selector).Do(ctx).Raw()
		if err != nil {
			return "", err
		}
		var list metav1.PartialObjectMetadataList
		if err := json.Unmarshal(raw, &list); err != nil {
			return "", err
		}
		for _, item := range list.Items {
			if err := yield(item.ObjectMeta); err != nil {
				return "", err
			}
		}
		return list.Continue, nil
	}
	return pages(func() *rest.Request { return at(c.rest.Get(), k, namespace) }, page)
}

// Bindings implements api.
func (c *client) Bindings(ctx context.Context, namespace string, yield func(binding) error) error {
	if namespace == "" {
		return pages(func() *rest.Request { return at(c.rest.Get(), clusterRoleBinding, "") }, func(r *rest.Request) (string, error) {
			list := &rbacv1.ClusterRoleBindingList{}
			if err := r.Do(ctx).Into(list); err != nil {
				return "", err
			}
			for _, b := range list.Items {
				if err := yield(binding{b.Labels, b.RoleRef, b.Subjects}); err != nil {
					return "", err
				}
			}
			return list.Continue, nil
		})
	}
	return pages(func() *rest.Request { return at(c.rest.Get(), roleBinding, namespace) }, func(r *rest.Request) (string, error) {
		list := &rbacv1.RoleBindingList{}
		if err := r.Do(ctx).Into(list); err != nil {
			return "", err
		}
		for _, b := range list.Items {
			if err := yield(binding{b.Labels, b.RoleRef, b.Subjects}); err != nil {
				return "", err
			}
		}
		return list.Continue, nil
	})
}

// pages follows a list to its end.
func pages(request func() *rest.Request, page func(*rest.Request) (next string, err error)) error {
	next := ""
	for {
		r := request().Param("limit", pageSize)
		if next != "" {
			r = r.Param("continue", next)
		}
		var err error
		if next, err = page(r); err != nil || next == "" {
			return err
		}
	}
}

// Token implements api.
func (c *client) Token(ctx context.Context, namespace, account string, spec authv1.TokenRequestSpec) (authv1.TokenRequestStatus, error) {
	out := &authv1.TokenRequest{}
	err := at(c.rest.Post(), serviceAccount, namespace, account, "token").Body(&authv1.TokenRequest{Spec: spec}).Do(ctx).Into(out)
	return out.Status, err
}

// Allowed implements api.
func (c *client) Allowed(ctx context.Context, what authzv1.ResourceAttributes) (bool, error) {
	out := &authzv1.SelfSubjectAccessReview{}
	in := &authzv1.SelfSubjectAccessReview{Spec: authzv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &what}}
	err := path(c.rest.Post(), authzv1.GroupName, "selfsubjectaccessreviews", "").Body(in).Do(ctx).Into(out)
	return out.Status.Allowed, err
}

// Rules implements api.
func (c *client) Rules(ctx context.Context, namespace string) (authzv1.SubjectRulesReviewStatus, error) {
	out := &authzv1.SelfSubjectRulesReview{}
	in := &authzv1.SelfSubjectRulesReview{Spec: authzv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
	err := path(c.rest.Post(), authzv1.GroupName, "selfsubjectrulesreviews", "").Body(in).Do(ctx).Into(out)
	return out.Status, err
}

// Self implements api.
func (c *client) Self(ctx context.Context) (authv1.UserInfo, error) {
	out := &authv1.SelfSubjectReview{}
	err := path(c.rest.Post(), authv1.GroupName, "selfsubjectreviews", "").Body(&authv1.SelfSubjectReview{}).Do(ctx).Into(out)
	return out.Status.UserInfo, err
}
