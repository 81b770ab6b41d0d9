package kubernetes

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// host is started by the first test that needs it and stopped by TestMain.
var host *harness.Host

var startHost = sync.OnceValue(func() error {
	var err error
	host, err = harness.Start(harness.Options{})
	return err
})

// tribe is a harness.Office with this cluster as its target.
type tribe struct {
	*harness.Office
	target       string
	aliceCluster kubernetes.Interface // alice's own user at the cluster
}

// kindsOfRole are the three ways to get access, for alice of the tribe.
func kindsOfRole(accessor string) map[string]contract.Values {
	return map[string]contract.Values{
		"token":     {"service_account_name": "deployer", "service_account_namespace": "team-a"},
		"generated": {"generated_role_rules": configMapRules, "namespaces": []string{"team-a", "team-b"}},
		"own-user": {
			"principal_source": "alias:" + accessor, "principal_prefix": "oidc:", "kubernetes_roles": []string{"Role/deployer"},
			"namespaces": []string{"team-a"},
		},
	}
}

const configMapRules = `
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list]
`

// newTribe mounts the plugin with a target that acts as account, with the
// policy that check prints for the roles and for more.
func newTribe(t *testing.T, account string, more ...contract.Spec) *tribe {
	t.Helper()
	if err := startHost(); err != nil {
		t.Fatal(err)
	}
	tr := &tribe{Office: host.Mount(t, harness.Plugin{}).Office(t), target: "prod"}
	config := here.config(adminToken)
	config.Impersonate = rest.ImpersonationConfig{UserName: "oidc:" + tr.Alice.Login}
	var err error
	if tr.aliceCluster, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	kinds := kindsOfRole("auth_userpass_0")
	specs := more
	for _, name := range contract.SortedKeys(kinds) {
		specs = append(specs, contract.Spec{Role: name, Fields: kinds[name]})
	}
	b := newBench(t, account, specs...)
	fields := map[string]any{"type": "kubernetes", "token": b.target.Secrets["token"].Reveal()}
	maps.Copy(fields, b.target.Fields)
	tr.Write(t, "targets/"+tr.target, fields)
	return tr
}

// roles writes a role of each kind; fields come on top.
func (tr *tribe) roles(t *testing.T, fields map[string]any) []string {
	t.Helper()
	kinds := kindsOfRole(tr.userpass(t))
	for name, role := range kinds {
		all := map[string]any{"target": tr.target, "eligible_groups": tr.Eng, "approver_groups": tr.Leads}
		maps.Copy(all, role)
		maps.Copy(all, fields)
		tr.Write(t, "roles/"+name, all)
	}
	return contract.SortedKeys(kinds)
}

// userpass is the accessor of the mount that alice logs in at.
func (tr *tribe) userpass(t *testing.T) string {
	t.Helper()
	mount, ok := host.Root().Read(t, "sys/auth").OK(t).Data["userpass/"].(map[string]any)
	if !ok {
		t.Fatal("there is no userpass")
	}
	return fmt.Sprint(mount["accessor"])
}

// client is what a credential gives at the cluster: a kubeconfig, or nothing
// but alice's own user.
func (tr *tribe) client(t *testing.T, creds harness.Answer) kubernetes.Interface {
	t.Helper()
	if _, ok := creds.Data["kubeconfig"]; ok {
		return clientFrom(t, creds.String(t, "kubeconfig"))
	}
	return tr.aliceCluster
}

// ways in which access ends, with the ttl that is asked for. None of them
// waits for another than itself.
func (tr *tribe) ways() map[string]func(t *testing.T, role, id string, creds harness.Answer) {
	root := host.Root()
	return map[string]func(t *testing.T, role, id string, creds harness.Answer){
		"its lease is revoked": func(t *testing.T, _, id string, creds harness.Answer) {
			t.Helper()
			root.Write(t, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true}).OK(t)
			tr.Alice.Delete(t, tr.Path("requests/"+id)).OK(t) // the grant outlives its lease, and is in the next row's way
		},
		"an approver ends it": func(t *testing.T, _, id string, _ harness.Answer) {
			t.Helper()
			tr.Bob.Write(t, tr.Path("grants/"+id+"/revoke"), map[string]any{"reason": "order 4711 is through"}).OK(t)
		},
		"its requester gives it back": func(t *testing.T, _, id string, _ harness.Answer) {
			t.Helper()
			tr.Alice.Delete(t, tr.Path("requests/"+id)).OK(t)
		},
		"the kill switch is pulled": func(t *testing.T, role, _ string, _ harness.Answer) {
			t.Helper()
			tr.Write(t, "revoke", map[string]any{"role": role, "reason": "a laptop was stolen", "hold": 0})
		},
		"its role is deleted": func(t *testing.T, role, _ string, _ harness.Answer) {
			t.Helper()
			root.Delete(t, tr.Path("roles/"+role+"?live=revoke")).OK(t)
		},
	}
}

func TestAccessEndsThroughTheHost(t *testing.T) {
	tr := newTribe(t, "for-host")
	for way := range tr.ways() {
		for _, role := range tr.roles(t, map[string]any{"ttl": "20m"}) {
			t.Run(role+", when "+way, func(t *testing.T) {
				id := tr.Granted(t, role, nil)
				creds := tr.Alice.Read(t, tr.Path("creds/"+role+"?compose=true")).OK(t)
				if creds.Data["pim_revocation"] != "immediate" {
					t.Errorf("the credential says %v", creds.Data["pim_revocation"])
				}
				c := tr.client(t, creds)
				allowed(t, c, configMapsIn("team-a"))
				refused(t, c, podsIn("team-a"))
				began := time.Now()
				tr.ways()[way](t, role, id, creds)
				refusedWithin(t, role+", "+way, began, tokenBound, c, configMapsIn("team-a"), isRefusal)
				tr.nothingLeft(t, tokenBound)
				tr.roles(t, map[string]any{"ttl": "20m"})
			})
		}
	}
}

func isRefusal(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// nothingLeft waits until nothing at the cluster has the labels of this
// tribe's requester.
func (tr *tribe) nothingLeft(t *testing.T, bound time.Duration) {
	t.Helper()
	poll.Until(t, bound, func() error {
		var left []string
		for _, m := range here.everything(t) {
			if m.Labels["vault-pim.github.io/credential-id"] != "" && m.Annotations["vault-pim.github.io/entity-id"] == tr.Alice.EntityID {
				left = append(left, m.GenerateName+" "+m.Namespace+"/"+m.Name)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("%d objects are left: %v", len(left), left[:min(3, len(left))])
		}
		return nil
	})
}

// TestAccessEndsWithItsWindow waits for the end of windows: a few seconds for a
// binding. The cluster makes no token of less than ten minutes, so tokens have
// their turn only with PIM_TEST_LONG=1.
func TestAccessEndsWithItsWindow(t *testing.T) {
	tr := newTribe(t, "for-windows")
	tr.roles(t, map[string]any{"min_ttl": 1, "ttl": "20m"})
	windows := map[string]time.Duration{"own-user": 5 * time.Second}
	if os.Getenv("PIM_TEST_LONG") != "" {
		windows["token"], windows["generated"] = 605*time.Second, 605*time.Second
	}
	t.Run("windows", func(t *testing.T) { tr.windows(t, windows) })
	tr.nothingLeft(t, tokenBound)
}

// windows waits for the ends of all windows at once.
func (tr *tribe) windows(t *testing.T, windows map[string]time.Duration) {
	t.Helper()
	for role, window := range windows {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			tr.Granted(t, role, map[string]any{"ttl": window.String()})
			creds := tr.Alice.Read(t, tr.Path("creds/"+role+"?compose=true")).OK(t)
			end, err := time.Parse(time.RFC3339, creds.String(t, "pim_expires_at"))
			if err != nil {
				t.Fatal(err)
			}
			c := tr.client(t, creds)
			allowed(t, c, configMapsIn("team-a"))
			poll.Until(t, time.Until(end)+tokenBound, func() error {
				err := configMapsIn("team-a")(t.Context(), c)
				if isRefusal(err) {
					return nil
				}
				return fmt.Errorf("not refused yet: %w", errors.Join(err, errStillOpen))
			})
			late := time.Since(end)
			t.Logf("MEASURED %s: refused %d ms after the window's end", role, late.Milliseconds())
			if late < -2*time.Second {
				t.Errorf("the access ended %s before its window", -late)
			}
		})
	}
}

var errStillOpen = errors.New("the access goes on")

func TestBadInputIsRefusedByTheHost(t *testing.T) {
	tr := newTribe(t, "for-bad-input")
	target := func(fields map[string]any) map[string]any {
		all := map[string]any{"type": "kubernetes", "host": "https://" + here.proxy.addr, "ca_cert": string(here.pki.ca), "token": "eyJ.e30.x"}
		maps.Copy(all, fields)
		return all
	}
	role := func(fields map[string]any) map[string]any {
		all := map[string]any{"target": tr.target, "eligible_groups": tr.Eng, "approver_groups": tr.Leads}
		maps.Copy(all, fields)
		return all
	}
	for _, row := range []struct {
		name, path string
		data       map[string]any
		status     int // 400 if 0
	}{
		{name: "a target without TLS", path: "targets/x", data: target(map[string]any{"host": "http://127.0.0.1:1"})},
		{name: "a target nobody listens at", path: "targets/x", data: target(map[string]any{"host": "https://127.0.0.1:1"}), status: 502},
		{name: "a target with a CA that is none", path: "targets/x", data: target(map[string]any{"ca_cert": "x"})},
		{name: "a target whose token is not accepted", path: "targets/x", data: target(nil)},
		{name: "a target with a file and no root for files", path: "targets/x", data: target(map[string]any{"token": nil, "token_file": "x"})},
		{name: "the cluster around a plugin that is in none", path: "targets/x", data: map[string]any{"type": "kubernetes"}},
		{name: "a role of nothing", path: "roles/x", data: role(nil)},
		{name: "a role with unreadable rules", path: "roles/x", data: role(map[string]any{"generated_role_rules": "{", "namespaces": "team-a"})},
		{name: "a role with a namespace that is a path", path: "roles/x", data: role(map[string]any{"generated_role_rules": podRules, "namespaces": "a/../b"})},
		{name: "a role of the engine's own account", path: "roles/x", data: role(map[string]any{"service_account_name": "for-bad-input", "service_account_namespace": rootNamespace})},
		{name: "a role of two kinds", path: "roles/x", data: role(map[string]any{"service_account_name": "deployer", "generated_role_rules": podRules})},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer := host.Root().Write(t, tr.Path(row.path), row.data)
			if answer.Status != max(row.status, 400) {
				t.Errorf("got %d %s", answer.Status, answer.Body)
			}
		})
	}
}
