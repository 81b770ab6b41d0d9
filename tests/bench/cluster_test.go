package bench

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	adminToken   = "admin-token-of-the-benchmark"
	engineSpace  = "engines"
	engineName   = "broker"
	clusterStart = 2 * time.Minute
)

// cluster is a Kubernetes API server on an etcd of its own.
type cluster struct {
	t     *testing.T
	addr  string // https://127.0.0.1:port
	ca    string // PEM
	token string // of the account that every engine acts as, a cluster administrator
	pids  []int
	http  *http.Client
}

// startCluster runs etcd and kube-apiserver until the test ends, and makes what the
// roles of the benchmark expect.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	bin, dir := script(t, "cluster.sh"), t.TempDir()
	port := strconv.Itoa(freePort(t))
	c := &cluster{t: t, addr: "https://127.0.0.1:" + port}
	etcd, member := fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	key, people := filepath.Join(dir, "accounts.key"), filepath.Join(dir, "tokens.csv")
	if err := errors.Join(writeKey(key), os.WriteFile(people, []byte(adminToken+",admin,admin,system:masters\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	c.pids = append(c.pids, spawn(t, io.Discard, filepath.Join(bin, "etcd"), "--data-dir="+filepath.Join(dir, "data"),
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd, "--listen-peer-urls="+member,
		"--initial-advertise-peer-urls="+member, "--initial-cluster=default="+member, "--unsafe-no-fsync", "--log-level=warn"))
	// It makes its own certificate, which carries the CA that signed it.
	c.pids = append(c.pids, spawn(t, io.Discard, filepath.Join(bin, "kube-apiserver"), "--etcd-servers="+etcd,
		"--bind-address=127.0.0.1", "--secure-port="+port, "--cert-dir="+dir, "--authorization-mode=RBAC", "--token-auth-file="+people,
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+key,
		"--service-account-signing-key-file="+key, "--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none"))
	poll.Until(t, clusterStart, func() error { return c.ready(filepath.Join(dir, "apiserver.crt")) })
	c.furnish()
	return c
}

func writeKey(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// ready reads the certificate, once it is there, and asks whether the API server
// serves and RBAC has its default roles.
func (c *cluster) ready(file string) error {
	ca, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return errors.New("the certificate is not written yet")
	}
	c.ca = string(ca)
	c.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}}
	_, err = c.ask(http.MethodGet, "/readyz", nil)
	return err
}

// furnish makes a team with an account, and the account that engines act as.
func (c *cluster) furnish() {
	c.t.Helper()
	named := func(name string, more map[string]any) map[string]any {
		out := map[string]any{"metadata": map[string]any{"name": name}}
		maps.Copy(out, more)
		return out
	}
	for _, space := range []string{team, engineSpace} {
		c.make("/api/v1/namespaces", named(space, nil))
	}
	c.make("/api/v1/namespaces/"+team+"/serviceaccounts", named(deployer, nil))
	c.make("/api/v1/namespaces/"+engineSpace+"/serviceaccounts", named(engineName, nil))
	c.make("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", named(engineName, map[string]any{
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": engineSpace, "name": engineName}},
	}))
	var made struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	day := map[string]any{"spec": map[string]any{"expirationSeconds": 24 * 60 * 60}}
	if err := json.Unmarshal(c.make("/api/v1/namespaces/"+engineSpace+"/serviceaccounts/"+engineName+"/token", day), &made); err != nil {
		c.t.Fatal(err)
	}
	c.token = made.Status.Token
}

func (c *cluster) make(path string, object map[string]any) []byte {
	c.t.Helper()
	body, err := json.Marshal(object)
	if err != nil {
		c.t.Fatal(err)
	}
	raw, err := c.ask(http.MethodPost, path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	return raw
}

// ask is a call of the administrator's.
func (c *cluster) ask(method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, raw)
	}
	return raw, err
}

func (c *cluster) endpoint() endpoint {
	return endpoint{pids: c.pids, calls: func() float64 {
		raw, err := c.ask(http.MethodGet, "/metrics", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		n, err := engineCalls(string(raw))
		if err != nil {
			c.t.Fatal(err)
		}
		return n
	}}
}

// engineCalls reads, from what an API server says of itself, how many calls it has
// answered of the kinds that engines make. It calls itself too, for leases and
// lists of everything.
func engineCalls(metrics string) (float64, error) {
	kinds := regexp.MustCompile(`^apiserver_request_total\{.*resource="(namespaces|secrets|serviceaccounts|roles|rolebindings)".*verb="(GET|POST|PUT|PATCH|DELETE)".*\} (\S+)$`)
	sum := 0.0
	for line := range strings.SplitSeq(metrics, "\n") {
		found := kinds.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		n, err := strconv.ParseFloat(found[3], 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
