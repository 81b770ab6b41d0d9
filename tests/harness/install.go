package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// PluginDirectory is where the host loads plugins from.
func (h *Host) PluginDirectory() string { return h.site.plugins }

// Build makes the plugin as it is released, under a version number, for tests that
// install it themselves.
func Build(version, file string) error {
	root, err := RepoRoot()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", //nolint:noctx // builds end by themselves
		"-ldflags", "-s -w -X github.com/vault-pim/vault-plugin-secrets-pim.Version="+version, "-o", file, "./cmd/"+pluginName)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building version %s: %w\n%s", version, err, out)
	}
	return nil
}

// Shell runs lines of a shell in a directory, as somebody who copies them from a page
// does: the host's command line is there under both its names. Any exit code is fine.
func (a Actor) Shell(t testing.TB, dir, lines string, env ...string) Printed {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"vault", "bao"} {
		if err := os.Symlink(a.host.Bin, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	sh, err := exec.LookPath("bash") // for pipefail
	if err != nil {
		t.Fatal(err)
	}
	cmd := a.Command(t)
	cmd.Path, cmd.Args, cmd.Dir = sh, []string{"bash", "-euo", "pipefail", "-c", lines}, dir
	cmd.Env = append(append(cmd.Env, env...), "PATH="+bin+":"+os.Getenv("PATH"))
	return RunPrinted(t, cmd)
}
