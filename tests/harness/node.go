package harness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// StartNode runs one node with its storage on disk, so that it can be killed and
// started again. It ends with the test.
func StartNode(t testing.TB, o Options) *Host {
	t.Helper()
	ports, err := FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	h, err := prepare()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})
	h.site.auditSocket = o.AuditSocket
	storage := "storage \"inmem_ha\" {}\n"
	if !o.InMemory {
		if storage, err = h.raftStanza(0, o.RaftLines); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.serve(o, storage, ports[0], ports[1]); err != nil {
		t.Fatal(err)
	}
	h.showLogOnFailure(t)
	if err := errors.Join(h.initialise(), h.unseal(), h.enableAudit(), h.enableKV()); err != nil {
		t.Fatal(err)
	}
	return h
}

// PID is the process id of the host.
func (h *Host) PID() int { return h.proc.cmd.Process.Pid }

// Signal sends a signal to the host's process alone; its plugins do not notice.
func (h *Host) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := h.proc.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// Freeze stops the host and its plugins, as when a machine is paused, and returns once
// none of them runs any more. Thaw lets them go on.
func (h *Host) Freeze(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(-h.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, startBound, h.frozen)
}

// Thaw lets a frozen host and its plugins go on.
func (h *Host) Thaw(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(-h.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// frozen tells whether all threads of the host have stopped. The first to be scheduled
// stops the others; on a busy machine that takes a while. Where there is no /proc
// nobody can tell.
func (h *Host) frozen() error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", h.PID()))
	if err != nil {
		return err
	}
	for _, file := range tasks {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // this thread has ended
		}
		if _, rest, _ := strings.Cut(string(raw), ") "); !strings.HasPrefix(rest, "T") {
			return fmt.Errorf("a thread of process %d runs on: %s", h.PID(), raw)
		}
	}
	return nil
}

// Kill ends the host as a power cut would, but for its plugins: they live on and
// find nobody to speak to.
func (h *Host) Kill(t testing.TB) {
	t.Helper()
	h.Signal(t, syscall.SIGKILL)
	<-h.proc.done
	h.groups = append(h.groups, h.proc.cmd.Process.Pid)
}

// Restart starts a killed host again on what it has on disk, and unseals it.
func (h *Host) Restart(t testing.TB) {
	t.Helper()
	if err := h.run(h.options, h.args...); err != nil {
		t.Fatal(err)
	}
	h.Unseal(t)
}

// Seal seals the node.
func (h *Host) Seal(t testing.TB) {
	t.Helper()
	if err := h.admin(http.MethodPut, "sys/seal", nil); err != nil {
		t.Fatal(err)
	}
}

// Unseal gives the node its key and waits until it serves.
func (h *Host) Unseal(t testing.TB) {
	t.Helper()
	if err := h.unseal(); err != nil {
		t.Fatal(err)
	}
}

// reapGroups ends the plugins that killed processes left behind.
func (h *Host) reapGroups() error {
	var errs []error
	for _, group := range h.groups {
		if err := syscall.Kill(-group, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (h *Host) clockFile() string { return filepath.Join(h.dir, "clock") }

func (h *Host) storageFile() string { return filepath.Join(h.dir, "storage") }

// MoveClock moves the clock of this node's plugins (Faults variant) by a duration
// from the machine's; the host's own clock stays.
func (h *Host) MoveClock(t testing.TB, by time.Duration) {
	t.Helper()
	if err := replace(h.clockFile(), by.String()); err != nil {
		t.Fatal(err)
	}
}

// FailWrites makes percent of the writes of this node's plugins (Faults variant)
// below a prefix of their storage fail, half of them after they were made. 0 ends
// that.
func (h *Host) FailWrites(t testing.TB, percent int, prefix string) {
	t.Helper()
	if err := replace(h.storageFile(), fmt.Sprintf("%d %s", percent, prefix)); err != nil {
		t.Fatal(err)
	}
}

// replace writes a file that others read at any time.
func replace(file, text string) error {
	next := file + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, file)
}

// PauseAt makes the plugin's process wait at a step of the Faults variant, once.
// Paused tells when it does; Continue lets it go on.
func (m *Mount) PauseAt(t testing.TB, step string) {
	t.Helper()
	m.CrashAt(t, "pause "+step)
}

// Paused tells whether a process waits at the step of PauseAt.
func (m *Mount) Paused() bool {
	_, err := os.Stat(m.crashFile + ".paused")
	return err == nil
}

// Continue lets the paused process go on, and forgets a step that nobody came to.
func (m *Mount) Continue(t testing.TB) {
	t.Helper()
	for _, file := range []string{m.crashFile, m.crashFile + ".paused"} {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// RemovePlugins takes every plugin out of the plugin directory, as a broken
// deployment does, and returns how to put them back.
func (h *Host) RemovePlugins(t testing.TB) (restore func()) {
	t.Helper()
	away := h.site.plugins + "-away"
	if err := os.Rename(h.site.plugins, away); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.site.plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(os.RemoveAll(h.site.plugins), os.Rename(away, h.site.plugins)); err != nil {
			t.Fatal(err)
		}
	}
}

// Snapshot is a copy of all that the node has in its storage.
func (h *Host) Snapshot(t testing.TB) []byte {
	t.Helper()
	return h.Root().Read(t, "sys/storage/raft/snapshot").OK(t).Body
}

// RestoreSnapshot puts a copy in the place of all that the node has.
func (h *Host) RestoreSnapshot(t testing.TB, image []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.Addr+"/v1/sys/storage/raft/snapshot-force", bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", h.site.rootToken)
	resp, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("restoring a snapshot: %d, %v", resp.StatusCode, err)
	}
	h.Unseal(t)
}

// Upgrade has the mount run another version of the plugin: the same source under
// another version number. "" is the version that it was mounted with.
func (m *Mount) Upgrade(t testing.TB, version string) {
	t.Helper()
	h := m.Host
	name, env, old := m.plugin.name, m.plugin.env, m.plugin.version
	if version == "" {
		version = old
	} else {
		sum, err := h.site.addVersion(h.root, version)
		if err != nil {
			t.Fatal(err)
		}
		h.Root().Write(t, "sys/plugins/catalog/secret/"+name, map[string]any{
			"sha256": sum, "command": "faults-" + version, "version": version, "env": env,
		}).OK(t)
	}
	h.Root().Write(t, "sys/mounts/"+m.Path+"/tune", map[string]any{"plugin_version": version}).OK(t)
	h.Root().Write(t, "sys/plugins/reload/backend", map[string]any{"mounts": m.Path + "/"}).OK(t)
}

// Running is the version of the plugin that the mount runs.
func (m *Mount) Running(t testing.TB) string {
	t.Helper()
	mounts := m.Host.Root().Read(t, "sys/mounts").OK(t)
	mount, ok := mounts.Data[m.Path+"/"].(map[string]any)
	if !ok {
		t.Fatalf("%s: no mount %s", mounts.Request, m.Path)
	}
	return fmt.Sprint(mount["running_plugin_version"])
}

// addVersion builds the Faults variant under another version number and puts it into
// the plugin directory.
func (s *site) addVersion(root, version string) (sum string, err error) {
	file := filepath.Join(s.plugins, "faults-"+version)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "faults", //nolint:noctx // builds end by themselves
		"-ldflags", "-s -w -X github.com/vault-pim/vault-plugin-secrets-pim.Version="+version, "-o", file, "./cmd/"+pluginName)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building version %s: %w\n%s", version, err, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256(raw)
	return hex.EncodeToString(hash[:]), nil
}
