package operations

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// registered: the host starts what has the hash that was registered, and nothing else.
func registered(t *testing.T, r *runbook) {
	r.next(t, nil)
	root := r.node.Root()
	if got := root.Read(t, "pim/config").OK(t).Data["max_open"]; got != 5000.0 {
		t.Errorf("max_open: %v", got)
	}
	// Loopback was not allowed.
	root.Write(t, "pim/targets/x", map[string]any{"type": "kubernetes", "host": "https://127.0.0.1:1", "token": "x"}).
		Refused(t, http.StatusBadRequest, "invalid input: ")
	file := filepath.Join(r.node.PluginDirectory(), "vault-plugin-secrets-pim-v0.1.0")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".other", append(raw, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".other", file); err != nil {
		t.Fatal(err)
	}
	root.Delete(t, "sys/mounts/pim").OK(t) // ends the process that runs already
	if got := root.Write(t, "sys/mounts/pim", map[string]any{"type": "vault-plugin-secrets-pim"}); got.Status/100 == 2 {
		t.Error("a file with another hash was started")
	}
}

// protected: an operator of everything with the page's policy on top cannot get above pim.
func protected(t *testing.T, r *runbook) {
	r.open(t)
	r.next(t, nil)
	everything := r.node.Policy(t, "everything", `path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }`)
	free, bound := r.node.Person(t, "carol", everything), r.node.Person(t, "dave", everything, "above-pim")
	if got := free.Read(t, "sys/mounts/pim/tune"); got.Status != http.StatusOK {
		t.Fatalf("without the page's policy: %d", got.Status)
	}
	for _, call := range []struct{ method, path string }{
		{http.MethodDelete, "sys/mounts/pim"},
		{http.MethodPut, "sys/mounts/pim/tune"},
		{http.MethodPut, "sys/mounts/pim2"},
		{http.MethodPut, "sys/remount"},
		{http.MethodPut, "sys/plugins/catalog/secret/vault-plugin-secrets-pim"},
		{http.MethodPut, "sys/plugins/reload/backend"},
		{http.MethodPut, "sys/leases/revoke-force/pim/creds"},
		{http.MethodGet, "sys/storage/raft/snapshot"},
		{http.MethodPost, "sys/storage/raft/snapshot-force"},
		{http.MethodGet, "sys/raw/x"},
	} {
		answer, err := bound.Do(t.Context(), call.method, call.path, map[string]any{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != http.StatusForbidden {
			t.Errorf("%s %s: %d %s", call.method, call.path, answer.Status, answer.Body)
		}
	}
	if got := bound.Read(t, "pim/config"); got.Status != http.StatusOK {
		t.Errorf("pim itself: %d", got.Status)
	}
	r.held(t) // it is still there
}

// audited: there is a device, and the credential is in it as an HMAC alone.
func audited(t *testing.T, r *runbook) {
	r.open(t)
	if out := r.next(t, nil); !strings.Contains(out, "file") {
		t.Errorf("no audit device: %s", out)
	}
	h := r.held(t)
	log, err := r.node.Audit()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log, "pim/creds/prod-read") || strings.Contains(log, h.token) {
		t.Error("the audit log lacks the read, or holds the token")
	}
}

// wrapped: the role's answers are unwrapped once.
func wrapped(t *testing.T, r *runbook) {
	r.open(t)
	r.next(t, nil)
	r.grant(t, "prod-read")
	p := r.alice.CLI(t, "read", "-format=json", "pim/creds/prod-read")
	if p.Code != 0 || !strings.Contains(p.Stdout, `"wrap_info"`) {
		t.Fatalf("not wrapped: %d %s%s", p.Code, p.Stdout, p.Stderr)
	}
	_, after, _ := strings.Cut(p.Stdout, `"token": "`)
	token, _, _ := strings.Cut(after, `"`)
	unwrap := r.alice.With("wrapping token", token)
	if got := unwrap.Write(t, "sys/wrapping/unwrap", nil).OK(t); got.String(t, "token") == "" {
		t.Error("there is no credential in it")
	}
	if got := unwrap.Write(t, "sys/wrapping/unwrap", nil); got.Status/100 == 2 {
		t.Error("unwrapped twice")
	}
}

// available: the active node of three steps down, and everything goes on at the next
// one, asked through the old one.
func available(t *testing.T, r *runbook) {
	r.open(t)
	h := r.held(t)
	r.next(t, nil)
	poll.Until(t, settles, func() error {
		if leader := r.cluster.Leader(t); leader == r.node {
			return errors.New("the same node leads")
		}
		return nil
	})
	r.serves(t)
	r.next(t, nil)
	poll.Until(t, settles, func() error {
		if got := r.look(t, h); got != http.StatusNotFound {
			return fmt.Errorf("the credential is answered with %d", got)
		}
		return nil
	})
	r.bob.Write(t, "pim/grants/"+h.request+"/revoke", map[string]any{"reason": "done"}).OK(t)
	r.ends(t, h, settles)
}

// upgraded: live leases under the old version, ended by the new one, and the other way
// round.
func upgraded(t *testing.T, r *runbook) {
	r.open(t)
	local := map[string]string{"PIM_ALLOW_LOCAL=false": "PIM_ALLOW_LOCAL=true"}
	r.role(t, "prod-read-2", map[string]any{"token_policies": r.policy})
	before := r.held(t)
	waits := r.ask(t, "prod-read-2")
	for i, version := range []string{"v0.2.0", "v0.1.0"} {
		names := local
		if i > 0 {
			names = nil
		}
		if out := r.next(t, names); !strings.HasSuffix(strings.TrimSpace(out), version) {
			t.Fatalf("the mount runs %q, want %s", out, version)
		}
		r.serves(t)
		if got := r.look(t, before); got != http.StatusNotFound {
			t.Errorf("%s: a credential of before is answered with %d", version, got)
		}
		r.node.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": before.lease, "sync": true}).OK(t)
		r.ends(t, before, settles)
		r.state(t, waits, "pending")
		r.alice.Delete(t, "pim/requests/"+before.request)
		before = r.held(t)
	}
	digest := r.bob.Read(t, "pim/approvals/"+waits).OK(t).String(t, "digest")
	r.bob.Write(t, "pim/approvals/"+waits, map[string]any{"decision": "approve", "digest": digest}).OK(t)
}

// retained: what is past its retention goes, and not before.
func retained(t *testing.T, r *runbook) {
	r.open(t)
	id := r.ask(t, "prod-read")
	r.alice.Delete(t, "pim/requests/"+id).OK(t)
	r.state(t, id, "cancelled")
	if out := r.next(t, nil); !strings.Contains(out, "freed") {
		t.Errorf("tidy-status: %s", out)
	}
	cfg := r.node.Root().Read(t, "pim/config").OK(t)
	if cfg.Data["retention_human"] != 2592000.0 || cfg.Data["retention_auto"] != 259200.0 {
		t.Errorf("retention: %s", cfg.Body)
	}
	r.state(t, id, "cancelled")
}
