package bench

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
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
	distance = 50 * time.Millisecond // of an endpoint that is not on the same machine
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
	w.install(pluginAWS)
	near, far := w.enginesAWS(moto, ""), w.enginesAWS(farOff(t, moto), "-far")
	arns := "arn:aws:iam::" + account + ":role/" + awsRole
	session := func(e enginesAWS) []peer {
		return append(e.own("assumed", map[string]any{"credential_type": "assumed_role", "role_arns": arns}),
			w.released(e.target).peer("assumed", false, map[string]any{"role_arns": arns, "revocation": "expiry_only"}))
	}
	user := map[string]any{"credential_type": "iam_user", "policy_document": mayRead}
	users := func(role string, more map[string]any) []peer {
		fields := maps.Clone(user)
		maps.Copy(fields, more)
		return append(near.own("user", user), w.released(near.target).peer(role, true, fields))
	}
	clients := b.besides
	if b.full { // pim tries a new key for two seconds before it hands it out: few clients show nothing else
		clients = append(slices.Clip(clients), len(w.people))
	}
	b.beside(w, rowSession, at, b.besides, session(near))
	b.beside(w, rowFar, at, b.besides, session(far))
	b.beside(w, rowUser, at, clients, users("user", nil))
	b.beside(w, rowUntried, at, b.besides, users("untried", map[string]any{"key_probes": 0}))
}

// enginesAWS are what is compared at an endpoint.
type enginesAWS struct {
	own    func(role string, fields map[string]any) []peer // roles of the host's engine, inside the host and as a plugin
	target map[string]any                                  // of pim
}

// enginesAWS mounts the host's engine twice, at paths with a suffix.
func (w *world) enginesAWS(endpoint, suffix string) enginesAWS {
	w.t.Helper()
	fields := map[string]any{"access_key": keyID, "secret_key": keyValue, "region": "us-east-1", "iam_endpoint": endpoint, "sts_endpoint": endpoint}
	engine, target := maps.Clone(fields), maps.Clone(fields)
	engine["sts_region"], target["type"] = "us-east-1", "aws"
	inside, outside := w.mountEngine("aws"+suffix, "aws"), w.mountEngine(pluginAWS+suffix, pluginAWS)
	own := func(role string, fields map[string]any) []peer {
		for _, path := range []string{inside, outside} {
			w.write(w.host.Root(), path+"/roles/"+role, fields)
		}
		return []peer{
			w.peer(ownAWS, "", http.MethodGet, "creds/"+role, inside), // no process of its own
			w.peer(plugAWS, pluginAWS, http.MethodGet, "creds/"+role, outside),
		}
	}
	for _, path := range []string{inside, outside} {
		w.write(w.host.Root(), path+"/config/root", engine)
	}
	return enginesAWS{own: own, target: target}
}

// farOff is an endpoint that passes calls on and answers late, as one does that is
// not on the same machine.
func farOff(t *testing.T, near string) string {
	t.Helper()
	to, err := url.Parse(near)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		select {
		case <-time.After(distance):
			return nil
		case <-r.Request.Context().Done():
			return r.Request.Context().Err()
		}
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
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
