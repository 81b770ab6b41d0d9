package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// sshd is a server on loopback that trusts one CA and lets nobody in by any
// other way than a certificate.
type sshd struct {
	dir  string
	port int
	krl  string // RevokedKeys
	url  string // where the list is fetched
}

// startSSHD runs a server until the test ends. Its first list is an empty one,
// made as the docs say.
func startSSHD(t *testing.T, s *site) *sshd {
	t.Helper()
	d := &sshd{dir: t.TempDir(), port: freePort(t), url: host.Addr + "/v1/" + s.path("public/ssh/local/krl")}
	d.krl = d.at("pim.krl")
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d.at("hostkey"))
	run(t, "ssh-keygen", "-q", "-k", "-f", d.krl)
	write(t, d.at("ca.pub"), s.ca+"\n")
	write(t, d.at("principals"), principal+"\n")
	write(t, d.at("sshd_config"), fmt.Sprintf(`
ListenAddress 127.0.0.1
Port %d
HostKey %s
PidFile none
UsePAM no
StrictModes no
LogLevel VERBOSE
AuthenticationMethods publickey
AuthorizedKeysFile none
PermitRootLogin prohibit-password
TrustedUserCAKeys %s
AuthorizedPrincipalsFile %s
RevokedKeys %s
`, d.port, d.at("hostkey"), d.at("ca.pub"), d.at("principals"), d.krl))
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin := "/usr/sbin/sshd" // it insists on being called by its absolute path
	if found, err := exec.LookPath("sshd"); err == nil {
		bin = found
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "-D", "-e", "-f", d.at("sshd_config"))
	log, err := os.Create(d.at("sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("sshd:\n%s", read(t, d.at("sshd.log")))
		}
	})
	poll.Until(t, 10*time.Second, func() error {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.address())
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return d
}

func (d *sshd) at(name string) string { return filepath.Join(d.dir, name) }

func (d *sshd) address() string { return fmt.Sprintf("127.0.0.1:%d", d.port) }

func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("%s is no TCP address", l.Addr())
	}
	return addr.Port
}

// logIn runs a command on the server with a key's certificate. Its error tells
// why the server did not let it in.
func (d *sshd) logIn(t *testing.T, k *key) error {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "ssh", "-F", "none", "-i", k.file, "-o", "CertificateFile="+k.file+"-cert.pub",
		"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-p", fmt.Sprint(d.port), me.Username+"@127.0.0.1", "echo", "inside")
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return fmt.Errorf("%s", strings.TrimSpace(string(out)))
	}
	if err != nil || strings.TrimSpace(string(out)) != "inside" {
		t.Fatalf("ssh: %v %s", err, out)
	}
	return nil
}

func (d *sshd) letsIn(t *testing.T, k *key) {
	t.Helper()
	if err := d.logIn(t, k); err != nil {
		t.Fatalf("the server should let it in: %v", err)
	}
}

func (d *sshd) refuses(t *testing.T, k *key) {
	t.Helper()
	err := d.logIn(t, k)
	if err == nil {
		t.Fatal("the server should not let it in")
	}
	if !strings.Contains(err.Error(), "Permission denied") {
		t.Fatalf("refused for another reason: %v", err)
	}
}

// fetch runs the script as a timer on the server would.
func (d *sshd) fetch(t *testing.T) {
	t.Helper()
	if code, out := d.fetchFrom(t, d.url); code != 0 {
		t.Fatalf("the list could not be fetched (%d): %s", code, out)
	}
}

// fetchFrom runs the script and returns its exit code and what it said.
func (d *sshd) fetchFrom(t *testing.T, url string, env ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../scripts/ssh-krl-fetch.sh", url, d.krl)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
