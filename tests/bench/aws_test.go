package bench

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	account  = "123456789012" // of every key that moto does not know
	awsRole  = "prod-admin"
	keyID    = "AKIAIOSFODNN7EXAMPLE"
	keyValue = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	ownAWS   = "the host's aws engine"
	plugAWS  = "the same as a plugin"
	// The engine of the host, built by itself; see scripts/engines.sh.
	pluginAWS = "vault-plugin-secrets-aws"
	mayRead   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}`
	anybody   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},` +
		`"Action":["sts:AssumeRole","sts:SetSourceIdentity","sts:TagSession"]}]}`
)

// besideAWS compares with the host's own engine for AWS, at one moto server.
func (b *run) besideAWS(t *testing.T, w *world) {
	t.Helper()
	if w.host.OpenBao {
		t.Log("this host has no engine of its own for AWS")
		return
	}
	moto, at := startMoto(t)
	call(t, moto, url.Values{"Action": {"CreateRole"}, "Version": {"2010-05-08"}, "RoleName": {awsRole}, "AssumeRolePolicyDocument": {anybody}})
	inside := w.ownEngine(moto, ownAWS, "aws", "aws")
	w.install(pluginAWS)
	outside := w.ownEngine(moto, plugAWS, pluginAWS, pluginAWS)
	own := func(role string, fields map[string]any) []peer {
		return []peer{inside(role, fields), outside(role, fields)}
	}
	target := map[string]any{
		"type": "aws", "access_key": keyID, "secret_key": keyValue, "region": "us-east-1", "iam_endpoint": moto, "sts_endpoint": moto,
	}
	arns := "arn:aws:iam::" + account + ":role/" + awsRole
	b.beside(w, rowSession, at, b.besides, append(own("assumed", map[string]any{"credential_type": "assumed_role", "role_arns": arns}),
		w.released(target).peer("assumed", false, map[string]any{"role_arns": arns, "revocation": "expiry_only"})))
	clients := b.besides
	if b.full { // pim tries a new key for two seconds before it hands it out: few clients show nothing else
		clients = append(slices.Clip(clients), len(w.people))
	}
	user := map[string]any{"credential_type": "iam_user", "policy_document": mayRead}
	b.beside(w, rowUser, at, clients, append(own("user", user), w.released(target).peer("user", true, user)))
}

// ownEngine is the engine for AWS that comes with the host, mounted as a plugin of
// some name, and makes roles of it.
func (w *world) ownEngine(moto, name, path, plugin string) func(role string, fields map[string]any) peer {
	w.t.Helper()
	w.write(w.host.Root(), w.mountEngine(path, plugin)+"/config/root", map[string]any{
		"access_key": keyID, "secret_key": keyValue, "region": "us-east-1", "iam_endpoint": moto, "sts_endpoint": moto, "sts_region": "us-east-1",
	})
	kind := plugin
	if path == "aws" {
		kind = "" // no process of its own
	}
	return func(role string, fields map[string]any) peer {
		w.write(w.host.Root(), path+"/roles/"+role, fields)
		return w.peer(name, kind, http.MethodGet, "creds/"+role, path)
	}
}

// startMoto runs the server that knows AWS's calls until the test ends.
func startMoto(t *testing.T) (string, endpoint) {
	t.Helper()
	tools := script(t, "test-aws.sh", "--tools")
	port := strconv.Itoa(freePort(t))
	var log lines // one for each call
	server := spawn(t, &log, filepath.Join(tools, "python", "bin", "moto_server"), "-H", "127.0.0.1", "-p", port)
	addr := "http://127.0.0.1:" + port
	poll.Until(t, time.Minute, func() error {
		resp, err := http.Get(addr + "/moto-api/")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return addr, endpoint{pids: []int{server}, calls: func() float64 { return float64(log.n.Load()) }}
}

// lines counts the lines that are written.
type lines struct{ n atomic.Int64 }

func (l *lines) Write(p []byte) (int, error) {
	l.n.Add(int64(bytes.Count(p, []byte("\n"))))
	return len(p), nil
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
