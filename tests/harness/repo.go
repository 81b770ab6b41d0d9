package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Variant is a build of the plugin; scripts/build.sh knows them by these names.
type Variant string

const (
	// Race has the race detector and is what tests use unless they say otherwise.
	Race Variant = "race"
	// Faults has the crash hooks that Mount.CrashAt arms.
	Faults Variant = "faults"
	// Plain is what is released.
	Plain Variant = "plain"
)

const pluginName = "vault-plugin-secrets-pim"

func (v Variant) file(root string) string {
	dir := "plugins-" + string(v)
	if v == Plain {
		dir = "plugins"
	}
	return filepath.Join(root, "bin", dir, pluginName)
}

// RepoRoot finds the top of the repository above the working directory.
func RepoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "scripts", "host.sh")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no scripts/host.sh above the working directory")
		}
		dir = parent
	}
}

// script runs one of the repository's scripts and returns what it prints; what it
// says on the way goes to this process's standard error.
func script(root, name string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(root, "scripts", name), args...) //nolint:noctx // builds end by themselves
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/%s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
