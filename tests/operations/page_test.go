// Package operations runs docs/operations.md: every block of commands, on a host of
// its own, with the disaster that it is for brought about in between.
package operations

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// binaries holds the plugin under the version numbers of the page.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// These tests wait for processes far more than they compute. -parallel on the
	// command line is read later and wins.
	err := flag.Set("test.parallel", "5")
	if err == nil {
		binaries, err = os.MkdirTemp("", "pim-operations-")
	}
	for _, version := range []string{"v0.1.0", "v0.2.0"} {
		if err == nil {
			err = harness.Build(version, filepath.Join(binaries, version))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := os.RemoveAll(binaries); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// section is a heading of the page with its blocks of commands.
type section struct {
	heading string
	blocks  []string
}

// sections are those of the page that hold commands, in order.
func sections(t *testing.T) []section {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []section
	var heading, block string
	inside, shell := false, false
	for line := range strings.Lines(string(raw)) {
		text := strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(text, "```") && !inside:
			inside, shell, block = true, text == "```sh", ""
		case text == "```":
			inside = false
			if !shell {
				continue
			}
			if len(out) == 0 || out[len(out)-1].heading != heading {
				out = append(out, section{heading: heading})
			}
			out[len(out)-1].blocks = append(out[len(out)-1].blocks, block)
		case inside:
			block += line
		case strings.HasPrefix(text, "#"):
			heading = strings.TrimLeft(text, "# ")
		}
	}
	return out
}

// runbook is one section while it is run.
type runbook struct {
	*site
	blocks []string
	env    []string
}

// next runs the next block of the section as whoever runs the host, and returns what it
// printed. names are what the page calls something, and what it is called here.
func (r *runbook) next(t *testing.T, names map[string]string) string {
	t.Helper()
	p := r.attempt(t, names)
	if p.Code != 0 {
		t.Fatalf("exit code %d\n%s%s", p.Code, p.Stdout, p.Stderr)
	}
	return p.Stdout
}

// attempt is next where some exit code other than zero is right.
func (r *runbook) attempt(t *testing.T, names map[string]string) harness.Printed {
	t.Helper()
	if len(r.blocks) == 0 {
		t.Fatal("the section has no more blocks")
	}
	block := r.blocks[0]
	r.blocks = r.blocks[1:]
	for from, to := range names {
		if !strings.Contains(block, from) {
			t.Fatalf("the block does not hold %q:\n%s", from, block)
		}
		block = strings.ReplaceAll(block, from, to)
	}
	p := r.node.Root().Shell(t, r.dir, block, append(r.env, "PLUGIN_DIRECTORY="+r.node.PluginDirectory())...)
	t.Logf("%s\n→ %d\n%s%s", block, p.Code, p.Stdout, p.Stderr)
	return p
}

// The whole page: each section has its test, and each test runs all of its blocks.
func TestThePageWorksAsItStands(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, *runbook){
		"Register by hash":              registered,
		"Protect what stands above pim": protected,
		"Audit":                         audited,
		"Wrapped answers":               wrapped,
		"High availability":             available,
		"Upgrade":                       upgraded,
		"Rollback":                      nil, // run by the upgrade
		"Backup and restore":            restored,
		"When a target is dead":         deadTarget,
		"When the login at a host target is lost": lostLogin,
		"Irrevocable leases":                      irrevocable,
		"When the plugin's binary is missing":     missingBinary,
		"When people need access and pim is down": emergency,
		"Moving from engines that are in use":     moved,
		"Sizing and retention":                    retained,
	}
	all := sections(t)
	if len(all) != len(tests) {
		t.Errorf("the page has %d sections with commands, and there are %d tests", len(all), len(tests))
	}
	for i, s := range all {
		test, known := tests[s.heading]
		if !known {
			t.Errorf("nothing runs the commands of %q", s.heading)
		}
		if test == nil {
			continue
		}
		blocks := s.blocks
		if s.heading == "Upgrade" {
			blocks = append(blocks, all[i+1].blocks...)
		}
		t.Run(s.heading, func(t *testing.T) {
			t.Parallel()
			r := &runbook{site: newSite(t, s.heading == "High availability"), blocks: blocks}
			test(t, r)
			if len(r.blocks) > 0 {
				t.Errorf("%d blocks were not run", len(r.blocks))
			}
		})
	}
}
