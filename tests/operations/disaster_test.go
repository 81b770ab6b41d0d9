package operations

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/journal"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// restored: what was live at the time of the copy is revoked, what was asked for is
// void, and an approval that was used since is not used again.
func restored(t *testing.T, r *runbook) {
	r.open(t)
	witness := journal.Start(t)
	r.journal(t, witness, r.node, "pim")
	live := r.held(t)
	r.role(t, "next", map[string]any{"token_policies": r.policy})
	waits := r.ask(t, "next")
	r.role(t, "used", map[string]any{"token_policies": r.policy})
	used := r.grant(t, "used")
	r.next(t, nil)

	r.alice.Read(t, "pim/creds/used").OK(t)
	r.alice.Delete(t, "pim/requests/"+used).OK(t)
	since := r.grant(t, "view") // on no record of the copy
	r.alice.Read(t, "pim/creds/view").OK(t)
	if n := len(witness.Live()); n != 1 {
		t.Fatalf("%d bindings at the other target", n)
	}
	r.next(t, nil)
	r.node.Unseal(t)
	r.serves(t)
	if got := r.node.Root().Read(t, "pim/audit/requests/"+since); got.Status != http.StatusNotFound {
		t.Fatalf("a request of after the copy: %d %s", got.Status, got.Body)
	}
	r.state(t, used, "active") // back in time
	r.next(t, nil)
	r.ends(t, live, settles)
	r.state(t, live.request, "revoked")
	poll.Until(t, settles, func() error {
		for _, id := range []string{waits, used} {
			if got := r.node.Root().Read(t, "pim/audit/requests/"+id).OK(t).Data["state"]; got == "pending" || got == "active" {
				return fmt.Errorf("a request of before the restore is %v", got)
			}
		}
		return nil
	})
	poll.Until(t, pauses, func() error {
		if n := len(witness.Live()); n != 0 {
			return fmt.Errorf("%d bindings that are on no record are alive", n)
		}
		cfg := r.node.Root().Read(t, "pim/config").OK(t)
		if cfg.Data["epoch_check"] != "ok" || fmt.Sprint(cfg.Data["epoch_unfinished"]) != "[]" {
			return fmt.Errorf("the epoch is %v, unfinished %v", cfg.Data["epoch_check"], cfg.Data["epoch_unfinished"])
		}
		return nil
	})
	r.next(t, nil)
	for _, role := range []string{"used", "prod-read"} {
		if got := r.alice.Read(t, "pim/creds/"+role); got.Status == http.StatusOK {
			t.Errorf("%s: an approval of before the restore still counts", role)
		}
	}
	r.held(t)
}

// journal is a target that keeps tags, with the role view for alice.
func (s *site) journal(t *testing.T, witness *journal.Target, node *harness.Host, mount string) {
	t.Helper()
	root := node.Root()
	root.Write(t, mount+"/targets/journal", map[string]any{
		"type": "kubernetes", "host": witness.URL, "ca_cert": witness.CA, "token": "engine-token", "managed_namespaces": "prod",
	}).OK(t)
	userpass, ok := root.Read(t, "sys/auth").OK(t).Data["userpass/"].(map[string]any)
	if !ok {
		t.Fatal("there is no userpass")
	}
	root.Write(t, mount+"/roles/view", map[string]any{
		"target": "journal", "kubernetes_roles": "ClusterRole/view", "namespaces": "prod",
		"principal_source": fmt.Sprintf("alias:%s", userpass["accessor"]), "principal_prefix": "oidc:",
		"eligible_groups": s.eng.Name, "approver_groups": s.leads.Name,
	}).OK(t)
}

// deadTarget: the target is down while a credential's lease ends, and comes back.
func deadTarget(t *testing.T, r *runbook) {
	r.open(t)
	h := r.held(t)
	r.breaks(true)
	r.bob.Write(t, "pim/grants/"+h.request+"/revoke", map[string]any{"reason": "done"})
	if got := r.node.Root().Read(t, "pim/targets/local/check"); got.Status == http.StatusOK {
		t.Errorf("check of a dead target: %s", got.Body)
	}
	if out := r.next(t, nil); !strings.HasSuffix(strings.TrimSpace(out), "1") {
		t.Errorf("live: %q", out)
	}
	r.alice.Write(t, "pim/request/prod-read", map[string]any{"justification": "x"}).
		Refused(t, http.StatusForbidden, "access denied: a hold is in force for this target")
	if got := r.look(t, h); got != http.StatusNotFound {
		t.Fatalf("the credential ended although nobody could reach the target: %d", got)
	}
	r.breaks(false)
	r.live(t, 0, pauses)
	r.ends(t, h, settles)
	r.next(t, nil)
	if holds := r.keys(t, "pim/holds/"); len(holds) != 0 {
		t.Errorf("holds are left: %v", holds)
	}
	r.held(t)
}

// lostLogin: all secret ids of the login are gone, and what it had with them.
func lostLogin(t *testing.T, r *runbook) {
	r.open(t)
	h, root := r.held(t), r.node.Root()
	at := "auth/approle/role/" + r.target.Login.Name
	for _, accessor := range r.keys(t, at+"/secret-id") {
		root.Write(t, at+"/secret-id-accessor/destroy", map[string]any{"secret_id_accessor": accessor}).OK(t)
	}
	for _, accessor := range r.keys(t, "auth/token/accessors") {
		look := root.Write(t, "auth/token/lookup-accessor", map[string]any{"accessor": accessor})
		if meta, ok := look.Data["meta"].(map[string]any); ok && meta["role_name"] == r.target.Login.Name {
			root.Write(t, "auth/token/revoke-accessor", map[string]any{"accessor": accessor}).OK(t)
		}
	}
	r.bob.Write(t, "pim/grants/"+h.request+"/revoke", map[string]any{"reason": "done"})
	r.live(t, 1, settles)
	if got := r.look(t, h); got != http.StatusNotFound {
		t.Fatalf("it ended without a login: %d", got)
	}
	out := r.next(t, map[string]string{"role/pim-login/": "role/" + r.target.Login.Name + "/"})
	if !strings.Contains(out, "missing") {
		t.Errorf("check: %s", out)
	}
	r.live(t, 0, pauses)
	r.ends(t, h, settles)
	r.held(t)
}

// irrevocable: what the host gave up on is cleared once pim's own record is done. That
// the host gives up takes it ten minutes: here its books are in order.
func irrevocable(t *testing.T, r *runbook) {
	r.open(t)
	h := r.held(t)
	if out := r.next(t, nil); !strings.Contains(out, "lease_count") {
		t.Errorf("the count: %s", out)
	}
	r.bob.Write(t, "pim/grants/"+h.request+"/revoke", map[string]any{"reason": "done"}).OK(t)
	r.live(t, 0, settles)
	if keys := r.keys(t, "sys/leases/lookup/pim/creds/prod-read/"); len(keys) != 1 {
		t.Fatalf("the host's books hold %v", keys)
	}
	r.next(t, nil)
	if keys := r.keys(t, "sys/leases/lookup/pim/creds/prod-read/"); len(keys) != 0 {
		t.Errorf("the line is still there: %v", keys)
	}
}

// missingBinary: the node starts without the file while a window ends.
func missingBinary(t *testing.T, r *runbook) {
	r.open(t)
	r.role(t, "prod-read", map[string]any{"token_policies": r.policy, "max_ttl": 3600, "ttl": 20, "min_ttl": 1})
	h := r.held(t)
	r.node.Kill(t)
	file := filepath.Join(r.node.PluginDirectory(), "vault-plugin-secrets-pim-v0.1.0")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.node.Restart(t)
	poll.Until(t, settles, func() error {
		if got := r.node.Root().Read(t, "pim/config"); got.Status/100 != 5 && got.Status != http.StatusNotFound {
			return fmt.Errorf("without its plugin pim answers %d", got.Status)
		}
		return nil
	})
	r.again(t)
	r.ends(t, h, pauses)
	r.state(t, h.request, "ended")
	r.held(t)
}

// again runs the block that puts the file back, and then what the page says of hosts
// that keep the storage read-only.
func (r *runbook) again(t *testing.T) {
	t.Helper()
	r.next(t, nil)
	if got, err := r.node.Root().Do(t.Context(), http.MethodPut, "pim/config", map[string]any{"reap_interval": 1}, nil); err != nil || got.Status != http.StatusOK {
		t.Logf("writes are refused after the reload: sealed and unsealed")
		r.node.Seal(t)
		r.node.Unseal(t)
	}
	r.serves(t)
}

// emergency: pim is down, somebody helps themselves with the emergency account, and the
// sweep finds what they made.
func emergency(t *testing.T, r *runbook) {
	for name, text := range map[string]string{"emergency-password": "first-of-two-halves", "next-password": "another-one"} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.open(t)
	// The sweep spares what is younger than ten minutes: a plugin whose clock can be
	// moved is mounted beside.
	witness, root := journal.Start(t), r.node.Root()
	mount := r.node.Mount(t, harness.Plugin{Variant: harness.Faults})
	r.journal(t, witness, r.node, mount.Path)
	person := mount.PersonPolicy(t)
	alice, bob := r.node.Person(t, "alice", person), r.node.Person(t, "bob", person)
	r.node.SetMembers(t, r.eng, alice)
	r.node.SetMembers(t, r.leads, bob)
	id := alice.Write(t, mount.Path+"/request/view", map[string]any{"justification": "order 4711"}).OK(t).String(t, "request_id")
	digest := bob.Read(t, mount.Path+"/approvals/"+id).OK(t).String(t, "digest")
	bob.Write(t, mount.Path+"/approvals/"+id, map[string]any{"decision": "approve", "digest": digest}).OK(t)
	alice.Read(t, mount.Path+"/creds/view").OK(t)

	r.next(t, nil) // prepared
	works := func(password string) int {
		login := r.node.Anonymous().Write(t, "auth/userpass/login/emergency", map[string]any{"password": password})
		if login.Status != http.StatusOK {
			return login.Status
		}
		return r.node.Root().With("emergency", fmt.Sprint(login.Auth["client_token"])).Read(t, "secret/data/prod/none").Status
	}
	if got := works("first-of-two-halves"); got != http.StatusNotFound {
		t.Fatalf("the emergency account: %d", got)
	}
	byHand(t, witness)
	if n := len(witness.Live()); n != 2 {
		t.Fatalf("%d bindings", n)
	}
	r.node.MoveClock(t, 11*time.Minute)
	here := map[string]string{"pim/orphans": mount.Path + "/orphans"}
	r.next(t, here)
	if got := works("first-of-two-halves"); got == http.StatusNotFound {
		t.Error("the old password still works")
	}
	listed := func() error {
		if keys := root.List(t, mount.Path+"/orphans/").Keys(t); len(keys) != 1 {
			return fmt.Errorf("%d orphans are listed", len(keys))
		}
		return nil
	}
	poll.Until(t, settles, listed)
	if out := r.next(t, here); !strings.Contains(out, "journal") {
		t.Errorf("the list: %s", out)
	}
	r.next(t, here)
	poll.Until(t, settles, func() error {
		if live := witness.Live(); len(live) != 1 || live[0].Request != id {
			return fmt.Errorf("alive: %v", live)
		}
		return nil
	})
}

// byHand is what an emergency account does at the target: it copies a binding of pim's,
// labels and all, under an id of its own.
func byHand(t *testing.T, witness *journal.Target) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(witness.CA))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	url := witness.URL + "/apis/rbac.authorization.k8s.io/v1/namespaces/prod/rolebindings"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	err = json.NewDecoder(resp.Body).Decode(&list)
	if cerr := resp.Body.Close(); err != nil || cerr != nil || len(list.Items) != 1 {
		t.Fatalf("the bindings of the target: %d, %v, %v", len(list.Items), err, cerr)
	}
	theirs := witness.Live()[0].Credential
	own := []byte(theirs)
	slices.Reverse(own[len(own)-6:])
	body := strings.ReplaceAll(string(list.Items[0]), theirs, string(own))
	req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err = client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("making a binding by hand: %d, %v", resp.StatusCode, err)
	}
}
