package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// script runs one of scripts/ that prints where something is.
func script(t *testing.T, name string, args ...string) string {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", name), args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, said.String())
	}
	return strings.TrimSpace(string(out))
}

// spawn runs a server until the test ends and returns its process id.
func spawn(t *testing.T, log io.Writer, path string, args ...string) int {
	t.Helper()
	server := exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	server.Stderr = log
	server.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(server.SysProcAttr)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = server.Wait() // it was killed, and says so
	})
	return server.Process.Pid
}

// freePort is a port that nobody listens at yet.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		err = fmt.Errorf("%s is no TCP address", l.Addr())
	}
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return addr.Port
}
