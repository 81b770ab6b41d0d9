package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Plugin says which build of the plugin a mount runs, and how.
type Plugin struct {
	Variant Variant        // Race if empty
	Env     []string       // KEY=value at registration, besides PIM_ALLOW_LOCAL=true
	Keep    bool           // it stays mounted until the host ends: the host takes long to remove much data
	Options map[string]any // further fields of sys/mounts, such as {"config": {"max_lease_ttl": "1h"}}
}

// Mount is the plugin, mounted at a path that no other test uses.
type Mount struct {
	Path string // without slashes around it
	Host *Host

	crashFile string // of the Faults variant
	plugin    registration
}

// registration is a plugin as the host's catalog knows it.
type registration struct {
	name, version string
	env           []string
}

// Mount registers the plugin and mounts it for the time of the test. Plugins
// with the same variant and environment share a process, as on a real host.
func (h *Host) Mount(t testing.TB, p Plugin) *Mount {
	t.Helper()
	h.showLogOnFailure(t)
	m := &Mount{Path: "pim-" + short(), Host: h}
	if p.Variant == Faults {
		m.crashFile = filepath.Join(t.TempDir(), "crash")
		p.Env = append([]string{"PIM_CRASH_FILE=" + m.crashFile}, p.Env...)
	}
	m.plugin = h.register(t, p)
	body := map[string]any{"type": m.plugin.name}
	maps.Copy(body, p.Options)
	h.Root().Write(t, "sys/mounts/"+m.Path, body).OK(t)
	if !p.Keep {
		t.Cleanup(func() {
			if err := h.admin(http.MethodDelete, "sys/mounts/"+m.Path, nil); err != nil {
				t.Errorf("unmounting: %v", err)
			}
		})
	}
	m.declare(t)
	return m
}

// CrashAt makes the plugin's process die at a step of the Faults variant, once:
// "<step>", or "<step>#<n>" for its n-th time in one process.
func (m *Mount) CrashAt(t testing.TB, step string) {
	t.Helper()
	if m.crashFile == "" {
		t.Fatal("only the Faults variant crashes on demand")
	}
	if err := os.WriteFile(m.crashFile, []byte(step), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Crashed tells whether the step that CrashAt named was reached.
func (m *Mount) Crashed(t testing.TB) bool {
	t.Helper()
	_, err := os.Stat(m.crashFile)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err != nil
}

// register makes the variant known to the host under a name of its own for each
// environment.
func (h *Host) register(t testing.TB, p Plugin) registration {
	t.Helper()
	if p.Variant == "" {
		p.Variant = Race
	}
	sum, err := h.site.add(h.root, p.Variant)
	if err != nil {
		t.Fatal(err)
	}
	version, err := script(h.root, "version.sh")
	if err != nil {
		t.Fatal(err)
	}
	env := append([]string{"PIM_ALLOW_LOCAL=true"}, p.Env...)
	slices.Sort(env)
	tag := sha256.Sum256([]byte(strings.Join(env, "\x00")))
	name := pluginName + "-" + string(p.Variant) + "-" + hex.EncodeToString(tag[:4])
	h.Root().Write(t, "sys/plugins/catalog/secret/"+name, map[string]any{
		"sha256": sum, "command": string(p.Variant), "version": version, "env": env,
	}).OK(t)
	return registration{name, version, env}
}

// add builds the variant once per run and puts it into the plugin directory.
func (s *site) add(root string, v Variant) (sum string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum, ok := s.sums[v]; ok {
		return sum, nil
	}
	if _, err := script(root, "build.sh", string(v)); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(v.file(root))
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(s.plugins, string(v)), raw, 0o700); err != nil {
		return "", err
	}
	hash := sha256.Sum256(raw)
	s.sums[v] = hex.EncodeToString(hash[:])
	return s.sums[v], nil
}
