package kubernetes

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	provider "github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/kubernetes"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// aheadClock is the machine's clock, moved forward: waiting for a remainder
// takes no time, and everything else runs in real time.
type aheadClock struct{ by atomic.Int64 }

func (c *aheadClock) Now() time.Time {
	return time.Now().Add(time.Duration(c.by.Load())).UTC()
}

func (c *aheadClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func (c *aheadClock) advance(d time.Duration) { c.by.Add(int64(d)) }

var namespaces = []string{"team-a", "team-b"}

const (
	rootNamespace = "pim-system"
	rootAccount   = "pim"
	podRules      = `[{apiGroups: [""], resources: [pods], verbs: [get, list]}]`
)

// furnish makes what the roles of the tests expect, once per cluster: people's
// namespaces, an account and roles in them, and the engine's own account.
var furnish = sync.OnceValue(func() error {
	for _, c := range []*cluster{here, there} {
		if err := c.furnish(context.Background()); err != nil {
			return err
		}
	}
	return nil
})

func (c *cluster) furnish(ctx context.Context) error {
	for _, name := range append([]string{rootNamespace}, namespaces...) {
		err := c.apply(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": name}}})
		if err != nil {
			return err
		}
	}
	// The default roles view, edit and admin are filled by the controller
	// manager, and empty here.
	err := c.apply(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "operator"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list", "delete"}},
	}})
	if err != nil {
		return err
	}
	for _, ns := range namespaces {
		deployer := rbacv1.Subject{Kind: "ServiceAccount", Namespace: ns, Name: "deployer"}
		for _, o := range []runtime.Object{
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "deployer", Namespace: ns}},
			&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "deployer", Namespace: ns}, Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list", "watch", "create", "delete"}},
			}},
			&rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "deployer", Namespace: ns}, Subjects: []rbacv1.Subject{deployer},
				RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "deployer"},
			},
		} {
			if err := c.apply(ctx, o); err != nil {
				return err
			}
		}
	}
	return c.apply(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: rootAccount, Namespace: rootNamespace}})
}

// apply creates an object as the administrator, unless it is there.
func (c *cluster) apply(ctx context.Context, o runtime.Object) error {
	var resource string
	var m metav1.Object
	client := c.admin.RbacV1().RESTClient()
	switch x := o.(type) {
	case *corev1.Namespace:
		client, resource, m = c.admin.CoreV1().RESTClient(), "namespaces", x
	case *corev1.ServiceAccount:
		client, resource, m = c.admin.CoreV1().RESTClient(), "serviceaccounts", x
	case *corev1.Secret:
		client, resource, m = c.admin.CoreV1().RESTClient(), "secrets", x
	case *rbacv1.Role:
		resource, m = "roles", x
	case *rbacv1.RoleBinding:
		resource, m = "rolebindings", x
	case *rbacv1.ClusterRole:
		resource, m = "clusterroles", x
	case *rbacv1.ClusterRoleBinding:
		resource, m = "clusterrolebindings", x
	default:
		return fmt.Errorf("%T is not one of the kinds of these tests", o)
	}
	r := client.Post().Resource(resource).Body(o)
	if m.GetNamespace() != "" {
		r = r.Namespace(m.GetNamespace())
	}
	err := r.Do(ctx).Error()
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// applyYAML is kubectl apply -f - for a policy that check printed.
func (c *cluster) applyYAML(t testing.TB, text string) {
	t.Helper()
	for part := range strings.SplitSeq(text, "---\n") {
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(part), nil, nil)
		if err != nil {
			t.Fatalf("the policy cannot be read: %v\n%s", err, part)
		}
		if err := c.apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// boundToken makes a token of a service account, bound to a Secret, as an
// operator does with kubectl create token.
func (c *cluster) boundToken(t testing.TB, namespace, account, secretName string) secret.String {
	t.Helper()
	err := c.apply(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secretName, Namespace: namespace}})
	if err != nil {
		t.Fatal(err)
	}
	day := int64(24 * 60 * 60)
	out, err := c.admin.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, &authv1.TokenRequest{
		Spec: authv1.TokenRequestSpec{
			ExpirationSeconds: &day,
			BoundObjectRef:    &authv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: secretName},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(out.Status.Token)
}

// target is the cluster as a pim target, through a proxy.
func (c *cluster) target(p *proxy, name string, token secret.String) contract.Target {
	return contract.Target{
		Name: name, Secrets: map[string]secret.String{"token": token},
		Fields: contract.Values{
			"host": "https://" + p.addr, "ca_cert": string(c.pki.ca), "token_namespaces": []string{"*"},
		},
	}
}

// bench is one provider at one cluster, acting as the engine's own account
// with no more than the permissions that check printed for its roles.
type bench struct {
	testing.TB
	c      *cluster
	clk    *aheadClock
	env    contract.Env
	target contract.Target
	p      contract.Provider
}

// newBench opens a provider. Its account is the test's own and gets the policy
// that check prints for the roles, and nothing else.
func newBench(t testing.TB, account string, roles ...contract.Spec) *bench {
	t.Helper()
	if err := furnish(); err != nil {
		t.Fatal(err)
	}
	b := &bench{TB: t, c: here, clk: &aheadClock{}}
	b.env = contract.Env{Clock: b.clk, Log: providertest.Quiet{}, AllowLocal: true}
	err := here.apply(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account, Namespace: rootNamespace}})
	if err != nil {
		t.Fatal(err)
	}
	b.target = here.target(here.proxy, "prod", here.boundToken(t, rootNamespace, account, "root-of-"+account))
	b.p = b.open()
	here.applyYAML(t, b.policy(account, roles))
	poll.Until(t, startBound, func() error { // until the new rights have reached the authorizer
		if missing := b.check(roles).Missing; len(missing) > 0 {
			return fmt.Errorf("missing: %q", missing)
		}
		b.target.Place, err = b.p.Place(t.Context())
		return err
	})
	b.p = b.open()
	return b
}

// policy is what check asks for. Objects are named after the account, so that
// the tests do not share their permissions.
func (b *bench) policy(account string, roles []contract.Spec) string {
	b.Helper()
	return strings.ReplaceAll(b.check(roles).RequiredPolicy, "name: vault-pim\n", "name: policy-of-"+account+"\n")
}

func (b *bench) check(roles []contract.Spec) contract.CheckReport {
	b.Helper()
	checker, ok := b.p.(contract.Checker)
	if !ok {
		b.Fatal("the provider checks nothing")
	}
	out, err := checker.Check(b.Context(), roles)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func (b *bench) open() contract.Provider {
	b.Helper()
	p, err := provider.Descriptor().New(b.env, b.target)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	})
	return p
}

// left lists everything at the cluster that is named after a credential.
func (c *cluster) left(t testing.TB, id domain.CredentialID) []metav1.ObjectMeta {
	t.Helper()
	var out []metav1.ObjectMeta
	for _, m := range c.everything(t) {
		if strings.HasPrefix(m.Name, "pim-"+string(id)) {
			out = append(out, m)
		}
	}
	return out
}

// everything lists all objects of the kinds that the provider makes. Kind is
// noted in GenerateName, which none of them has.
func (c *cluster) everything(t testing.TB) []metav1.ObjectMeta {
	t.Helper()
	var out []metav1.ObjectMeta
	note := func(kind string, m metav1.ObjectMeta) {
		m.GenerateName = kind
		out = append(out, m)
	}
	ctx, o := t.Context(), metav1.ListOptions{}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	secrets, err := c.admin.CoreV1().Secrets("").List(ctx, o)
	must(err)
	for _, x := range secrets.Items {
		note("Secret", x.ObjectMeta)
	}
	accounts, err := c.admin.CoreV1().ServiceAccounts("").List(ctx, o)
	must(err)
	for _, x := range accounts.Items {
		note("ServiceAccount", x.ObjectMeta)
	}
	roles, err := c.admin.RbacV1().Roles("").List(ctx, o)
	must(err)
	for _, x := range roles.Items {
		note("Role", x.ObjectMeta)
	}
	bindings, err := c.admin.RbacV1().RoleBindings("").List(ctx, o)
	must(err)
	for _, x := range bindings.Items {
		note("RoleBinding", x.ObjectMeta)
	}
	clusterRoles, err := c.admin.RbacV1().ClusterRoles().List(ctx, o)
	must(err)
	for _, x := range clusterRoles.Items {
		note("ClusterRole", x.ObjectMeta)
	}
	clusterBindings, err := c.admin.RbacV1().ClusterRoleBindings().List(ctx, o)
	must(err)
	for _, x := range clusterBindings.Items {
		note("ClusterRoleBinding", x.ObjectMeta)
	}
	return out
}
