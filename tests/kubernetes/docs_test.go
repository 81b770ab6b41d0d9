package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// blocks are the fenced blocks of one language in the docs' page, in order.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, "docs", "providers", "kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, part := range strings.Split(string(raw), "\n```"+language+"\n")[1:] {
		block, _, closed := strings.Cut(part, "\n```")
		if !closed {
			t.Fatal("a block does not end")
		}
		out = append(out, block+"\n")
	}
	return out
}

// shell runs a block of the page as the operator, with the test's own names.
func (tr *tribe) shell(t *testing.T, dir, block string, env ...string) {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"vault", "bao"} {
		if err := os.Symlink(host.Bin, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []struct{ from, to string }{
		{"pim/", tr.Pim.Path + "/"},
		{"=eng ", "=" + tr.Eng + " "},
		{"=leads ", "=" + tr.Leads + " "},
		{"https://k8s.example.com:6443", "https://" + here.proxy.addr},
	} {
		block = strings.ReplaceAll(block, r.from, r.to)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := host.Root().Command(t)
	cmd.Path, cmd.Args, cmd.Dir = sh, []string{"sh", "-euc", block}, dir
	cmd.Env = append(append(cmd.Env, env...), "PATH="+bin+":"+os.Getenv("PATH"))
	if p := harness.RunPrinted(t, cmd); p.Code != 0 {
		t.Fatalf("exit code %d\n%s%s\nof\n%s", p.Code, p.Stdout, p.Stderr, block)
	}
}

// TestThePageWorksAsItStands sets up a target the way the page says, writes its
// roles, gives the account the policy that check prints, rotates the root token,
// and uses a credential of each role.
func TestThePageWorksAsItStands(t *testing.T) {
	tr := newTribe(t, "for-the-page")
	host.Root().Delete(t, tr.Path("targets/"+tr.target)).OK(t)
	here.applyYAML(t, blocks(t, "yaml")[0])
	for _, o := range []runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pim-accounts"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop-dev", Labels: map[string]string{"stage": "dev"}}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "deployer", Namespace: "pim-accounts"}},
	} {
		if err := here.apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), here.pki.ca, 0o600); err != nil {
		t.Fatal(err)
	}
	token := here.boundToken(t, "vault-pim", "vault-pim", "vault-pim-root")
	for _, block := range blocks(t, "sh") {
		block = strings.ReplaceAll(block, "auth_oidc_1a2b3c4d", tr.userpass(t))
		tr.shell(t, dir, block, "TOKEN="+token.Reveal())
	}
	check := host.Root().Read(t, tr.Path("targets/prod/check")).OK(t)
	here.applyYAML(t, check.String(t, "required_policy"))
	poll.Until(t, bindingBound, func() error { // until the policy has reached the authorizer
		if rotated := host.Root().Write(t, tr.Path("targets/prod/rotate-root"), nil); rotated.Status/100 != 2 {
			return fmt.Errorf("%d %s", rotated.Status, rotated.Body)
		}
		return nil
	})
	for role, params := range map[string]any{
		"deploy": nil, "debug": nil, "operate": nil, "debug-dev": map[string]any{"namespace": "shop-dev"},
	} {
		t.Run(role, func(t *testing.T) { tr.usePage(t, role, params) })
	}
	tr.nothingLeft(t, tokenBound)
}

func (tr *tribe) usePage(t *testing.T, role string, params any) {
	t.Helper()
	ask := map[string]any{}
	if params != nil {
		ask["params"] = params
	}
	id := tr.Granted(t, role, ask)
	c := tr.client(t, tr.Alice.Read(t, tr.Path("creds/"+role+"?compose=true")).OK(t))
	switch role {
	case "deploy":
		allowed(t, c, whoAmI)
	case "debug":
		allowed(t, c, podsIn("shop"))
		allowed(t, c, podsIn("payments"))
		refused(t, c, configMapsIn("shop"))
	case "operate":
		allowed(t, c, configMapsIn("shop"))
		refused(t, c, configMapsIn("shop-dev"))
	case "debug-dev":
		allowed(t, c, configMapsIn("shop-dev"))
		refused(t, c, configMapsIn("shop"))
	}
	tr.Alice.Delete(t, tr.Path("requests/"+id)).OK(t)
}
