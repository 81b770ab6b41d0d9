package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	account  = "123456789012" // of every key that moto does not know
	awsRole  = "prod-admin"
	keyID    = "AKIAIOSFODNN7EXAMPLE"
	keyValue = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	anybody  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},` +
		`"Action":["sts:AssumeRole","sts:SetSourceIdentity","sts:TagSession"]}]}`
)

// besidePeers compares with the host's own engine for AWS, at one moto server.
func (b *run) besidePeers(t *testing.T, w *world) {
	t.Helper()
	if w.host.OpenBao {
		t.Log("this host has no engine of its own for AWS")
		return
	}
	moto := startMoto(t)
	call(t, moto, url.Values{"Action": {"CreateRole"}, "Version": {"2010-05-08"}, "RoleName": {awsRole}, "AssumeRolePolicyDocument": {anybody}})
	all := []series{{"the host's aws engine", w.official(moto), "creds/one"}, {"pim", w.brokered(moto), "creds/one"}}
	for round := range b.rounds {
		for _, clients := range []int{1, 8} {
			for i := range all {
				s := all[(i+round)%len(all)]
				sample := w.load.Closed(t.Context(), clients, b.slice, s.m.read(s.path, clients, len(w.people)*perGrant/max(clients, len(w.people))))
				if len(sample.Latencies) == 0 || sample.Errors > 0 {
					t.Fatalf("%s: %d calls failed", s.name, sample.Errors)
				}
				b.sample("peers", fmt.Sprintf("assumed role, %d clients", clients), s.name, round, sample)
				s.m.revoke()
				if s.name == "pim" { // its sessions only expire, and count until then
					s.m.renew("one", w.people...)
				}
			}
		}
	}
}

// official is the engine that comes with the host.
func (w *world) official(moto string) *mount {
	w.t.Helper()
	root := w.host.Root()
	w.write(root, "sys/mounts/aws", map[string]any{"type": "aws"})
	w.write(root, "aws/config/root", map[string]any{
		"access_key": keyID, "secret_key": keyValue, "region": "us-east-1", "iam_endpoint": moto, "sts_endpoint": moto, "sts_region": "us-east-1",
	})
	w.write(root, "aws/roles/one", map[string]any{
		"credential_type": "assumed_role", "role_arns": "arn:aws:iam::" + account + ":role/" + awsRole,
	})
	return &mount{world: w, path: "aws"}
}

// brokered is the plugin as it is released, with the same role.
func (w *world) brokered(moto string) *mount {
	w.t.Helper()
	m := &mount{world: w, path: w.host.Mount(w.t, harness.Plugin{Variant: harness.Plain, Keep: true}).Path}
	root := w.host.Root()
	w.write(root, m.path+"/config", map[string]any{"issue_rate": 100_000})
	w.write(root, m.path+"/targets/aws", map[string]any{
		"type": "aws", "access_key": keyID, "secret_key": keyValue, "region": "us-east-1", "iam_endpoint": moto, "sts_endpoint": moto,
	})
	w.write(root, m.path+"/roles/one", map[string]any{
		"target": "aws", "role_arns": "arn:aws:iam::" + account + ":role/" + awsRole, "revocation": "expiry_only",
		"eligible_groups": m.group.Name, "approver_groups": m.leads.Name, "max_credentials": perGrant,
		"ttl": "8h", "lease_ttl": "1h", "require_justification": false, "max_active": 100,
	})
	for _, p := range w.people {
		m.grant("one", p)
	}
	return m
}

// startMoto runs the server that knows AWS's calls until the test ends, and
// returns its address.
func startMoto(t *testing.T) string {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	tools, err := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "test-aws.sh"), "--tools").Output()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(strings.TrimSpace(string(tools)), "python", "bin", "moto_server"), "-H", "127.0.0.1", "-p", port)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = server.Wait() // it was killed
	})
	addr := "http://127.0.0.1:" + port
	poll.Until(t, time.Minute, func() error {
		resp, err := http.Get(addr + "/moto-api/")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return addr
}

// call is a call of IAM, signed with nothing: moto only looks at the service.
func call(t *testing.T, addr string, form url.Values) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, addr, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+keyID+"/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s (%v)", form.Get("Action"), resp.StatusCode, body, err)
	}
}
