package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// Static tokens of the people of the cluster. The administrator's is used by
// the tests alone.
const (
	adminToken = "admin-token-of-the-tests"
	aliceToken = "alice-token-of-the-tests"
	aliceUser  = "oidc:alice"
)

const startBound = 60 * time.Second

// here is the cluster of the tests; there is another one, on the same etcd
// with another prefix.
var here, there *cluster

// cluster is one API server.
type cluster struct {
	dir   string
	addr  string // host:port
	pki   *pki
	proxy *proxy
	admin kubernetes.Interface
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pim-cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	started, err := start(dir)
	code := 1
	if err != nil {
		fmt.Fprintf(os.Stderr, "start the cluster: %v\n%s", err, tails(dir))
	} else {
		code = m.Run()
	}
	if host != nil {
		err = host.Stop()
	}
	if err := errors.Join(err, started.stop(), os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// processes are the children, in the order in which they were started.
type processes []*exec.Cmd

func (ps processes) stop() error {
	if here != nil {
		here.proxy.close()
	}
	if there != nil {
		there.proxy.close()
	}
	var errs []error
	for _, child := range slices.Backward(ps) {
		if err := syscall.Kill(-child.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
		_ = child.Wait() // it was killed, and says so
	}
	return errors.Join(errs...)
}

func start(dir string) (processes, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	ports, err := harness.FreePorts(4)
	if err != nil {
		return nil, err
	}
	var all processes
	etcd := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	child, err := spawn(dir, "etcd", filepath.Join(bin, "etcd"),
		"--data-dir="+filepath.Join(dir, "data"), "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
		"--unsafe-no-fsync", "--log-level=warn")
	if err != nil {
		return nil, err
	}
	all = append(all, child)
	keys, err := newPKI(dir)
	if err != nil {
		return all, err
	}
	for i, name := range []string{"here", "there"} {
		c := &cluster{dir: filepath.Join(dir, name), addr: fmt.Sprintf("127.0.0.1:%d", ports[2+i]), pki: keys}
		child, err := c.spawn(filepath.Join(bin, "kube-apiserver"), etcd, "/"+name)
		if err != nil {
			return all, err
		}
		all = append(all, child)
		if i == 0 {
			here = c
		} else {
			there = c
		}
	}
	return all, errors.Join(here.ready(), there.ready())
}

// binaries asks scripts/cluster.sh where kube-apiserver and etcd are.
func binaries() (string, error) {
	if dir := os.Getenv("KUBE_BIN_DIR"); dir != "" {
		return dir, nil
	}
	root, err := harness.RepoRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(root, "scripts", "cluster.sh"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// spawn starts a child that ends with this process.
func spawn(dir, name, path string, args ...string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own copy
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	return cmd, cmd.Start()
}

const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, resources: [{group: "", resources: [secrets, serviceaccounts/token]}]}
- {level: RequestResponse, verbs: [create, delete], resources: [{group: ""}, {group: rbac.authorization.k8s.io}]}
- {level: Metadata}
`

func (c *cluster) spawn(path, etcd, prefix string) (*exec.Cmd, error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	people := fmt.Sprintf("%s,admin,admin-id,system:masters\n%s,%s,alice-id\n", adminToken, aliceToken, aliceUser)
	for name, text := range map[string]string{"tokens.csv": people, "audit.yaml": auditPolicy} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	_, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return nil, err
	}
	return spawn(c.dir, "kube-apiserver", path,
		"--etcd-servers="+etcd, "--etcd-prefix="+prefix, "--bind-address=127.0.0.1", "--secure-port="+port,
		"--cert-dir="+c.dir, "--tls-cert-file="+c.pki.certFile, "--tls-private-key-file="+c.pki.keyFile,
		"--authorization-mode=RBAC", "--token-auth-file="+filepath.Join(c.dir, "tokens.csv"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+c.pki.accountKey,
		"--service-account-signing-key-file="+c.pki.accountKey, "--service-cluster-ip-range=10.0.0.0/24",
		"--audit-log-path="+c.auditLog(), "--audit-policy-file="+filepath.Join(c.dir, "audit.yaml"),
		"--endpoint-reconciler-type=none")
}

func (c *cluster) auditLog() string { return filepath.Join(c.dir, "audit.log") }

// ready waits until the API server serves and RBAC has its default roles.
func (c *cluster) ready() error {
	var err error
	if c.admin, err = c.as(adminToken); err != nil {
		return err
	}
	err = poll.Within(startBound, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return c.admin.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return err
	}
	c.proxy, err = newProxy(c)
	return err
}

// config speaks straight to the API server, as whoever has the token.
func (c *cluster) config(token string) *rest.Config {
	return &rest.Config{
		Host: "https://" + c.addr, BearerToken: token, QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAData: c.pki.ca},
	}
}

func (c *cluster) as(token string) (kubernetes.Interface, error) {
	return kubernetes.NewForConfig(c.config(token))
}

// tails shows the ends of all logs, for when nothing can be started.
func tails(dir string) string {
	var out strings.Builder
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	more, err2 := filepath.Glob(filepath.Join(dir, "*", "kube-apiserver.log"))
	if err := errors.Join(err, err2); err != nil {
		return err.Error()
	}
	for _, file := range append(logs, more...) {
		raw, err := os.ReadFile(file)
		fmt.Fprintf(&out, "== %s (%v)\n%s\n", filepath.Base(file), err, raw[max(0, len(raw)-4096):])
	}
	return out.String()
}
