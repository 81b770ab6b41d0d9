package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// The bounds that the revocation classes promise.
const (
	tokenBound   = 15 * time.Second
	bindingBound = 5 * time.Second
)

func (b *bench) input(fields contract.Values, params map[string]string) contract.Input {
	b.Helper()
	return contract.Input{
		Credential: domain.CredentialID(b.newID()), Request: domain.RequestID(b.newID()), Role: "deployers",
		EntityID: "entity-of-alice", Person: "alice", Ticket: "OPS-1", Principal: aliceUser, Fields: fields, Params: params,
		NotAfter: b.clk.Now().Add(20 * time.Minute),
	}
}

func (b *bench) newID() string {
	b.Helper()
	return providertest.NewID(b, b.clk.Now())
}

func (b *bench) issue(in contract.Input) (contract.Issued, domain.Handle, error) {
	b.Helper()
	h, err := b.p.Plan(b.Context(), in)
	if err != nil {
		return contract.Issued{}, h, err
	}
	out, err := b.p.Issue(b.Context(), in, h, func(domain.Handle) error { return errors.New("nothing is learnt on the way") })
	return out, h, err
}

func (b *bench) mustIssue(in contract.Input) (contract.Issued, domain.Handle) {
	b.Helper()
	out, h, err := b.issue(in)
	if err != nil {
		b.Fatal(err)
	}
	return out, h
}

// end revokes and sees to it that nothing is left.
func (b *bench) end(h domain.Handle) {
	b.Helper()
	ended, err := b.open().Revoke(b.Context(), h)
	if err != nil || !ended.Done() {
		b.Fatalf("revoke: %+v, %v", ended, err)
	}
	if left := b.c.left(b, h.Credential); len(left) > 0 {
		b.Errorf("left at the cluster: %v", left)
	}
}

// clientOf uses an issued kubeconfig as kubectl does.
func clientOf(t testing.TB, issued contract.Issued) kubernetes.Interface {
	t.Helper()
	return clientFrom(t, issued.Composite["kubeconfig"].Reveal())
}

func clientFrom(t testing.TB, kubeconfig string) kubernetes.Interface {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(kubeconfig))
	if err != nil {
		t.Fatalf("the kubeconfig cannot be used: %v", err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func podsIn(ns string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		return err
	}
}

func configMapsIn(ns string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
		return err
	}
}

func whoAmI(ctx context.Context, c kubernetes.Interface) error {
	return c.CoreV1().RESTClient().Get().AbsPath("/api").Do(ctx).Error()
}

// allowed waits until a new right has reached the authorizer.
func allowed(t testing.TB, c kubernetes.Interface, what func(context.Context, kubernetes.Interface) error) {
	t.Helper()
	poll.Until(t, bindingBound, func() error { return what(t.Context(), c) })
}

func refused(t testing.TB, c kubernetes.Interface, what func(context.Context, kubernetes.Interface) error) {
	t.Helper()
	if err := what(t.Context(), c); !apierrors.IsForbidden(err) {
		t.Errorf("wanted Forbidden, got %v", err)
	}
}

// refusedWithin measures how long after since a call is refused for the first
// time, and prints it.
func refusedWithin(
	t testing.TB, what string, since time.Time, bound time.Duration, c kubernetes.Interface,
	call func(context.Context, kubernetes.Interface) error, is func(error) bool,
) {
	t.Helper()
	poll.Until(t, bound-time.Since(since), func() error {
		err := call(t.Context(), c)
		if is(err) {
			return nil
		}
		if err == nil {
			return fmt.Errorf("%s: still allowed", what)
		}
		return fmt.Errorf("%s: neither allowed nor refused: %w", what, err)
	})
	t.Logf("MEASURED %s: refused %d ms after revoke began (bound %s)", what, time.Since(since).Milliseconds(), bound)
}

func TestTokenOfAnExistingAccount(t *testing.T) {
	role := contract.Values{"service_account_name": "deployer", "service_account_namespace": "team-a"}
	b := newBench(t, "for-tokens", contract.Spec{Role: "deployers", Fields: role})
	issued, h := b.mustIssue(b.input(role, nil))
	if left := issued.NotAfter.Sub(b.clk.Now()); left > 20*time.Minute || left < 19*time.Minute {
		t.Errorf("the token ends in %s", left)
	}
	c := clientOf(t, issued)
	allowed(t, c, configMapsIn("team-a"))
	refused(t, c, podsIn("team-a"))
	refused(t, c, configMapsIn("team-b"))

	watch, err := c.CoreV1().ConfigMaps("team-a").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	began := time.Now()
	b.end(h)
	refusedWithin(t, "token of an existing account", began, tokenBound, c, configMapsIn("team-a"), apierrors.IsUnauthorized)
	refusedWithin(t, "token of an existing account, anything at all", began, tokenBound+time.Second, c, whoAmI, apierrors.IsUnauthorized)

	// What survives, as the role says: a stream that was open before.
	note := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "after-revoke-"}}
	made, err := here.admin.CoreV1().ConfigMaps("team-a").Create(t.Context(), note, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	poll.Until(t, bindingBound, func() error {
		select {
		case event := <-watch.ResultChan():
			if o, ok := event.Object.(*corev1.ConfigMap); ok && o.Name == made.Name {
				return nil
			}
			return errors.New("another event")
		default:
			return errors.New("no event yet")
		}
	})
	t.Log("MEASURED the open watch goes on: open_sessions survive, as the role says")
}

func TestTwoTokensOfOneAccountEndApart(t *testing.T) {
	role := contract.Values{"service_account_name": "deployer", "service_account_namespace": "team-a"}
	b := newBench(t, "for-two-tokens", contract.Spec{Role: "deployers", Fields: role})
	one, first := b.mustIssue(b.input(role, nil))
	two, second := b.mustIssue(b.input(role, nil))
	b.end(first)
	refusedWithin(t, "one token of two", time.Now(), tokenBound, clientOf(t, one), whoAmI, apierrors.IsUnauthorized)
	allowed(t, clientOf(t, two), configMapsIn("team-a"))
	b.end(second)
}

func TestGeneratedRoleInTwoNamespaces(t *testing.T) {
	role := contract.Values{
		"generated_role_rules": podRules, "kubernetes_roles": []string{"Role/deployer"}, "namespaces": namespaces,
	}
	b := newBench(t, "for-generated", contract.Spec{Role: "deployers", Fields: role})
	issued, h := b.mustIssue(b.input(role, nil))
	c := clientOf(t, issued)
	for _, ns := range namespaces {
		allowed(t, c, podsIn(ns))
		allowed(t, c, configMapsIn(ns))
	}
	refused(t, c, podsIn("kube-system"))
	refused(t, c, func(ctx context.Context, c kubernetes.Interface) error {
		return c.CoreV1().Pods("team-a").Delete(ctx, "nonesuch", metav1.DeleteOptions{})
	})
	began := time.Now()
	b.end(h)
	gone := func(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }
	refusedWithin(t, "generated role", began, bindingBound, c, podsIn("team-a"), gone)
	refusedWithin(t, "generated role, second namespace", began, bindingBound, c, configMapsIn("team-b"), gone)
	refusedWithin(t, "generated role, anything at all", began, tokenBound, c, whoAmI, apierrors.IsUnauthorized)
}

func TestGeneratedClusterRole(t *testing.T) {
	role := contract.Values{
		"generated_role_rules": `[{apiGroups: [""], resources: [nodes], verbs: [list]}, {nonResourceURLs: [/metrics], verbs: [get]}]`,
		"cluster_wide":         true, "service_account_namespace": "team-a",
	}
	b := newBench(t, "for-cluster-role", contract.Spec{Role: "deployers", Fields: role})
	issued, h := b.mustIssue(b.input(role, nil))
	c := clientOf(t, issued)
	nodes := func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	}
	allowed(t, c, nodes)
	refused(t, c, podsIn("team-a"))
	began := time.Now()
	b.end(h)
	refusedWithin(t, "generated cluster role", began, bindingBound, c, nodes, apierrors.IsForbidden)
}

func TestOwnUserIsRaisedAndLowered(t *testing.T) {
	role := contract.Values{
		"principal_source": "metadata:k8s", "kubernetes_roles": []string{"Role/deployer"}, "namespaces": []string{"team-a"},
	}
	b := newBench(t, "for-own-user", contract.Spec{Role: "deployers", Fields: role})
	alice, err := here.as(aliceToken)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, alice, configMapsIn("team-a"))
	issued, first := b.mustIssue(b.input(role, nil))
	if len(issued.Composite) > 0 || issued.Data.Reveal()["principal"] != aliceUser {
		t.Errorf("the lease is the access, and yet the answer is %d composites and principal %v",
			len(issued.Composite), issued.Data.Reveal()["principal"])
	}
	allowed(t, alice, configMapsIn("team-a"))
	refused(t, alice, configMapsIn("team-b"))
	_, second := b.mustIssue(b.input(role, nil)) // an overlapping window

	b.end(first)
	poll.Throughout(t, time.Second, func() error { return configMapsIn("team-a")(t.Context(), alice) })
	began := time.Now()
	b.end(second)
	refusedWithin(t, "binding of one's own user", began, bindingBound, alice, configMapsIn("team-a"), apierrors.IsForbidden)
}

func TestAStandingBindingIsNeitherTakenOverNorRemoved(t *testing.T) {
	role := contract.Values{
		"principal_source": "metadata:k8s", "kubernetes_roles": []string{"ClusterRole/operator"}, "namespaces": []string{"team-b"},
	}
	b := newBench(t, "for-standing", contract.Spec{Role: "deployers", Fields: role})
	standing := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "standing", Namespace: "team-b"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "operator"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: aliceUser}},
	}
	bindings := here.admin.RbacV1().RoleBindings("team-b")
	if _, err := bindings.Create(t.Context(), standing, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, h, err := b.issue(b.input(role, nil))
	wantCode(t, err, "outside_pim")
	if _, err := b.p.Revoke(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if err := bindings.Delete(t.Context(), "standing", metav1.DeleteOptions{}); err != nil {
		t.Errorf("what was not ours is gone: %v", err)
	}
	_, h = b.mustIssue(b.input(role, nil))
	b.end(h)
}

// wantCode fails unless err is the provider's and has a code.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	_ = failureWith(t, err, code)
}

// failureWith is wantCode for those who want to see more of it.
func failureWith(t testing.TB, err error, code string) *contract.Error {
	t.Helper()
	var e *contract.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("wanted an error with code %s, got %v", code, err)
	}
	return e
}
