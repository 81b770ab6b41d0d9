package all_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/all"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

// sections are what the page of every provider says.
var sections = []string{
	"## Permissions needed", "## What is created", "## How it ends", "## Propagation", "## What survives",
}

func TestEveryDescriptorIsSaneAndFound(t *testing.T) {
	t.Parallel()
	var types []string
	for _, d := range all.Descriptors() {
		types = append(types, d.Type)
		providertest.CheckDescriptor(t, d)
		if found, ok := all.Lookup(all.Descriptors(), d.Type); !ok || found.Type != d.Type {
			t.Errorf("%s is not found by its type", d.Type)
		}
	}
	if !slices.IsSorted(types) || len(slices.Compact(slices.Clone(types))) != len(types) {
		t.Errorf("the list is not in the order of types, or has one twice: %v", types)
	}
	if _, ok := all.Lookup(all.Descriptors(), "nonesuch"); ok {
		t.Error("an unknown type is found")
	}
}

func TestProvidersShareAFieldNameOnlyWithOneType(t *testing.T) {
	t.Parallel()
	for kind, fields := range map[string]func(contract.Descriptor) []contract.Field{
		"target": func(d contract.Descriptor) []contract.Field { return d.TargetFields },
		"role":   func(d contract.Descriptor) []contract.Field { return d.RoleFields },
	} {
		first := map[string]contract.Field{}
		for _, d := range all.Descriptors() {
			for _, f := range fields(d) {
				before, shared := first[f.Name]
				if shared && (before.Type != f.Type || before.Secret != f.Secret) {
					t.Errorf("%s field %s: a %s here, a %s in another provider (or secret in one only)", kind, f.Name, f.Type, before.Type)
				}
				first[f.Name] = f
			}
		}
	}
}

// TestEveryProviderFolderIsWhole looks at the folders themselves, so that
// nobody adds half a provider.
func TestEveryProviderFolderIsWhole(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() || slices.Contains([]string{"all", "contract", "providertest", "remote"}, e.Name()) {
			continue
		}
		if _, ok := all.Lookup(all.Descriptors(), e.Name()); !ok {
			t.Errorf("internal/provider/%s is not in the list of this package", e.Name())
		}
		checkPage(t, e.Name())
		checkSuite(t, e.Name())
	}
}

func checkPage(t *testing.T, folder string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", folder, "README.md"))
	if err != nil {
		t.Errorf("the provider has no page: %v", err)
		return
	}
	for _, section := range sections {
		if !strings.Contains("\n"+string(page), "\n"+section+"\n") {
			t.Errorf("internal/provider/%s/README.md lacks the section %q", folder, section)
		}
	}
}

func checkSuite(t *testing.T, folder string) {
	t.Helper()
	tests, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tests {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "providertest.Run(") {
			return
		}
	}
	t.Errorf("internal/provider/%s does not run the conformance suite", folder)
}
