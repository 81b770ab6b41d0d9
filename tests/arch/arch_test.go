// Package arch checks the import arrows of the plugin. It only reads import
// lists, so it is quick enough for every commit (make check).
package arch

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/vault-pim/vault-plugin-secrets-pim"
	sdk    = "github.com/hashicorp/vault/sdk"
)

// arrows says which of our own packages a package may import. "provider/X" stands
// for any single provider and the packages below it; what is not listed may
// import none.
var arrows = map[string][]string{
	"root":                  {"access", "clock", "domain", "fault", "provider/all", "provider/contract", "secret", "store"},
	"cmd":                   {"root"},
	"access":                {"clock", "condition", "domain", "fault", "provider/contract", "secret", "store"},
	"store":                 {"clock", "domain", "fault", "secret"},
	"domain":                {},
	"condition":             {"domain"},
	"fault":                 {},
	"secret":                {},
	"clock":                 {},
	"krl":                   {"krl"},
	"provider/contract":     {"clock", "domain", "fault", "secret"},
	"provider/remote":       {"clock", "domain", "provider/contract"},
	"provider/providertest": {"clock", "domain", "fault", "provider/contract", "secret"},
	"provider/all":          {"provider/contract", "provider/X"},
	"provider/X":            {"clock", "domain", "fault", "krl", "provider/contract", "provider/remote", "secret"},
}

// impure are packages of the standard library that do I/O or carry its context;
// the domain takes values and returns values.
var impure = []string{"context", "database/sql", "io/fs", "log", "log/slog", "net", "net/http", "os", "os/exec", "syscall"}

type pkg struct {
	path    string // within the module, "" is the root package
	name    string // as in arrows
	imports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-tags", "faults", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		path := strings.TrimPrefix(strings.TrimPrefix(words[0], module), "/")
		all = append(all, pkg{path: path, name: nameOf(path), imports: words[1:]})
	}
	if len(all) < 8 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// nameOf maps a package to its row in arrows.
func nameOf(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "internal/"), "/")
	switch {
	case path == "":
		return "root"
	case parts[0] == "provider" && len(parts) > 1:
		name := "provider/" + parts[1]
		if _, ok := arrows[name]; ok {
			return name
		}
		return "provider/X"
	default:
		return parts[0]
	}
}

func TestImportArrows(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		allowed, known := arrows[p.name]
		if !known {
			t.Errorf("%s: a new kind of package; give it a row in arrows", p.path)
		}
		for _, imported := range p.imports {
			own, ok := strings.CutPrefix(imported, module)
			if !ok {
				continue
			}
			own = strings.TrimPrefix(own, "/")
			if !slices.Contains(allowed, nameOf(own)) && !sameProvider(p.path, own) {
				t.Errorf("%q must not import %q (allowed: %s)", p.path, own, strings.Join(allowed, ", "))
			}
		}
	}
}

// sameProvider tells whether both packages belong to one provider's folder.
func sameProvider(a, b string) bool {
	const prefix = "internal/provider/"
	rest, ok := strings.CutPrefix(a, prefix)
	folder, _, _ := strings.Cut(rest, "/")
	return ok && (b == prefix+folder || strings.HasPrefix(b, prefix+folder+"/"))
}

func TestOnlyRootAndStoreImportTheSDK(t *testing.T) {
	t.Parallel()
	users := map[string]bool{}
	for _, p := range packages(t) {
		for _, imported := range p.imports {
			if imported != sdk && !strings.HasPrefix(imported, sdk+"/") {
				continue
			}
			users[p.name] = true
			if p.name != "root" && p.name != "store" {
				t.Errorf("%q imports %s", p.path, imported)
			}
		}
	}
	if !users["store"] {
		t.Error("store does not import the SDK: this test looks for the wrong path")
	}
}

func TestDomainIsPure(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if p.name != "domain" {
			continue
		}
		for _, imported := range p.imports {
			if slices.Contains(impure, imported) || strings.HasPrefix(imported, "github.com/hashicorp/") {
				t.Errorf("%s imports %s", p.path, imported)
			}
		}
		return
	}
	t.Error("there is no package domain")
}
