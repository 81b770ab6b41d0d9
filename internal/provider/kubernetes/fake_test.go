package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// upstreamWords stands in every error text of the fake: none of it may reach
// an error, a handle or a log line of ours.
const upstreamWords = "words-of-the-api-server"

const selfUser = "system:serviceaccount:pim-system:pim"

// cluster is an API server in memory: as much of one as the provider uses.
type cluster struct {
	clk clock.Clock

	mu         sync.Mutex
	uid        string
	next       int
	namespaces map[string]*corev1.Namespace
	objects    map[key]object
	tokens     map[string]claims
	denied     map[string]bool // "verb resource": Forbidden
	escalates  bool            // every grant is refused by the escalation check
	refuse     error           // what every call answers, if set
	watchers   []func(after bool)
	alter      func(object)  // what an admission webhook changes
	alterToken func(*claims) // what a token says that was not asked for
	tokenSpecs []authv1.TokenRequestSpec
}

func newCluster(clk clock.Clock, uid string, namespaces ...string) *cluster {
	c := &cluster{
		clk: clk, uid: uid, namespaces: map[string]*corev1.Namespace{}, objects: map[key]object{},
		tokens: map[string]claims{}, denied: map[string]bool{},
	}
	for _, name := range append([]string{placeNamespace, "pim-system"}, namespaces...) {
		c.namespaces[name] = &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name), Labels: map[string]string{"team": name}},
			Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
		}
	}
	c.namespaces[placeNamespace].UID = types.UID(uid)
	return c
}

// call runs one call: it is seen before and after, and ends with its context.
func (c *cluster) call(ctx context.Context, verb, resource string, do func() error) error {
	c.see(false)
	if err := ctx.Err(); err != nil {
		return err
	}
	err := c.locked(verb, resource, do)
	c.see(true)
	if ctx.Err() != nil {
		return ctx.Err() // it took effect, and nobody heard
	}
	return err
}

func (c *cluster) locked(verb, resource string, do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return c.refuse
	}
	if c.denied[verb+" "+resource] {
		return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New(upstreamWords))
	}
	return do()
}

func (c *cluster) see(after bool) {
	c.mu.Lock()
	list := append([]func(bool){}, c.watchers...)
	c.mu.Unlock()
	for _, see := range list {
		see(after)
	}
}

func notThere(resource string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: resource}, upstreamWords)
}

func (c *cluster) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	var out *corev1.Namespace
	return out, c.call(ctx, "get", "namespaces", func() error {
		found := c.namespaces[name]
		if found == nil {
			return notThere("namespaces")
		}
		out = found.DeepCopy()
		return nil
	})
}

func (c *cluster) Get(ctx context.Context, k key) (object, error) {
	var out object
	err := c.call(ctx, "get", k.kind.info().resource, func() error {
		found := c.objects[k]
		if found == nil {
			return notThere(k.kind.info().resource)
		}
		out = copied(found)
		return nil
	})
	return out, err
}

func copied(o object) object {
	out, ok := o.DeepCopyObject().(object)
	if !ok {
		panic("a copy of another type")
	}
	return out
}

func (c *cluster) Create(ctx context.Context, k key, o object, dryRun bool) (object, error) {
	var out object
	resource := k.kind.info().resource
	err := c.call(ctx, "create", resource, func() error {
		if k.namespace != "" && c.namespaces[k.namespace] == nil {
			return notThere("namespaces")
		}
		if c.objects[k] != nil {
			return apierrors.NewAlreadyExists(schema.GroupResource{Resource: resource}, upstreamWords)
		}
		if c.escalates && k.kind.info().group != "" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "",
				errors.New(upstreamWords+" is attempting to grant RBAC permissions not currently held"))
		}
		out = copied(o)
		c.next++
		out.SetUID(types.UID(fmt.Sprintf("uid-%d", c.next)))
		if c.alter != nil {
			c.alter(out)
		}
		if !dryRun {
			c.objects[k] = copied(out)
		}
		return nil
	})
	return out, err
}

func (c *cluster) Delete(ctx context.Context, k key) (found, held bool, err error) {
	err = c.call(ctx, "delete", k.kind.info().resource, func() error {
		o := c.objects[k]
		if o == nil {
			return nil
		}
		found, held = true, len(o.GetFinalizers()) > 0
		if !held {
			delete(c.objects, k)
		}
		return nil
	})
	return found, held, err
}

func (c *cluster) List(ctx context.Context, k kind, namespace, selector string, yield func(metav1.ObjectMeta) error) error {
	var found []metav1.ObjectMeta
	err := c.call(ctx, "list", k.info().resource, func() error {
		s, err := labels.Parse(selector)
		if err != nil {
			return err
		}
		for at, o := range c.objects {
			if at.kind == k && (namespace == "" || at.namespace == namespace) && s.Matches(labels.Set(o.GetLabels())) {
				found = append(found, metav1.ObjectMeta{
					Name: o.GetName(), Namespace: o.GetNamespace(), Labels: o.GetLabels(), Annotations: o.GetAnnotations(),
				})
			}
		}
		return nil
	})
	for _, m := range found {
		err = errors.Join(err, yield(m))
	}
	return err
}

func (c *cluster) Bindings(ctx context.Context, namespace string, yield func(binding) error) error {
	var found []binding
	err := c.call(ctx, "list", "rolebindings", func() error {
		found = c.bindings(namespace)
		return nil
	})
	for _, b := range found {
		err = errors.Join(err, yield(b))
	}
	return err
}

func (c *cluster) bindings(namespace string) []binding {
	var found []binding
	for at, o := range c.objects {
		switch b := o.(type) {
		case *rbacv1.RoleBinding:
			if namespace == at.namespace {
				found = append(found, binding{b.Labels, b.RoleRef, b.Subjects})
			}
		case *rbacv1.ClusterRoleBinding:
			if namespace == "" {
				found = append(found, binding{b.Labels, b.RoleRef, b.Subjects})
			}
		}
	}
	return found
}

func (c *cluster) Token(ctx context.Context, namespace, account string, spec authv1.TokenRequestSpec) (authv1.TokenRequestStatus, error) {
	var out authv1.TokenRequestStatus
	err := c.call(ctx, "create", "serviceaccounts/token", func() error {
		owner := c.objects[key{serviceAccount, namespace, account}]
		if owner == nil {
			return notThere("serviceaccounts")
		}
		c.tokenSpecs = append(c.tokenSpecs, spec)
		now := c.clk.Now()
		t := claims{
			Subject: username(namespace, account), Audience: spec.Audiences,
			IssuedAt: now.Unix(), Expiry: now.Unix() + *spec.ExpirationSeconds,
		}
		t.Bound.Namespace = namespace
		t.Bound.Account = boundRef{account, string(owner.GetUID())}
		if ref := spec.BoundObjectRef; ref != nil {
			tied := c.objects[key{secretObject, namespace, ref.Name}]
			if tied == nil {
				return notThere("secrets")
			}
			t.Bound.Secret = boundRef{ref.Name, string(tied.GetUID())}
		}
		if c.alterToken != nil {
			c.alterToken(&t)
		}
		c.next++
		out = authv1.TokenRequestStatus{Token: signed(t, c.next), ExpirationTimestamp: metav1.NewTime(time.Unix(t.Expiry, 0))}
		c.tokens[out.Token] = t
		return nil
	})
	return out, err
}

// signed renders claims as a JWT whose signature is only its number.
func signed(t claims, n int) string {
	raw, err := json.Marshal(map[string]any{
		"sub": t.Subject, "aud": []string(t.Audience), "exp": t.Expiry, "iat": t.IssuedAt,
		"kubernetes.io": map[string]any{
			"namespace":      t.Bound.Namespace,
			"serviceaccount": map[string]string{"name": t.Bound.Account.Name, "uid": t.Bound.Account.UID},
			"secret":         map[string]string{"name": t.Bound.Secret.Name, "uid": t.Bound.Secret.UID},
		},
	})
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode(raw) + "." + encode(fmt.Appendf(nil, "signature-%d", n))
}

func (c *cluster) Allowed(ctx context.Context, what authzv1.ResourceAttributes) (bool, error) {
	allowed := false
	return allowed, c.call(ctx, "create", "selfsubjectaccessreviews", func() error {
		resource := what.Resource
		if what.Subresource != "" {
			resource += "/" + what.Subresource
		}
		allowed = !c.denied[what.Verb+" "+resource]
		return nil
	})
}

func (c *cluster) Rules(ctx context.Context, _ string) (authzv1.SubjectRulesReviewStatus, error) {
	var out authzv1.SubjectRulesReviewStatus
	return out, c.call(ctx, "create", "selfsubjectrulesreviews", func() error { return nil })
}

func (c *cluster) Self(ctx context.Context) (authv1.UserInfo, error) {
	return authv1.UserInfo{Username: selfUser}, c.call(ctx, "create", "selfsubjectreviews", func() error { return nil })
}

func (c *cluster) Close() {}

// valid tells whether the API server would accept a token now.
func (c *cluster) valid(token string) (user string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, known := c.tokens[token]
	if !known || !c.clk.Now().Before(time.Unix(t.Expiry, 0)) {
		return "", false
	}
	owner := c.objects[key{serviceAccount, t.Bound.Namespace, t.Bound.Account.Name}]
	if owner == nil || string(owner.GetUID()) != t.Bound.Account.UID {
		return "", false
	}
	if t.Bound.Secret.Name != "" {
		tied := c.objects[key{secretObject, t.Bound.Namespace, t.Bound.Secret.Name}]
		return t.Subject, tied != nil && string(tied.GetUID()) == t.Bound.Secret.UID
	}
	return t.Subject, true
}

// of lists what is named after a credential.
func (c *cluster) of(id string) []key {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []key
	for k := range c.objects {
		if strings.HasPrefix(k.name, namePrefix+id) {
			out = append(out, k)
		}
	}
	return out
}

// put places an object that the provider did not make.
func (c *cluster) put(k key, o object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	o.SetName(k.name)
	o.SetNamespace(k.namespace)
	o.SetUID(types.UID(fmt.Sprintf("uid-%d", c.next)))
	c.objects[k] = o
}

// rootToken is a token of the engine's own account, bound to a Secret that is
// there.
func (c *cluster) rootToken(secretName string) secret.String {
	c.put(key{serviceAccount, "pim-system", "pim"}, &corev1.ServiceAccount{})
	c.put(key{secretObject, "pim-system", secretName}, &corev1.Secret{})
	hour := int64(3600)
	status, err := c.Token(context.Background(), "pim-system", "pim", authv1.TokenRequestSpec{
		ExpirationSeconds: &hour, BoundObjectRef: &authv1.BoundObjectReference{Name: secretName},
	})
	if err != nil {
		panic(err)
	}
	return secret.New(status.Token)
}
