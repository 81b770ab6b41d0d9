package acceptance

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// The reference is what the plugin says of itself.
func TestReferenceIsUpToDate(t *testing.T) {
	t.Parallel()
	pim := host.Mount(t, harness.Plugin{})
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, got := strings.Split(pim.Contract().Markdown(), "\n"), strings.Split(string(page), "\n")
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("docs/api.md differs from the plugin at line %d; run make docs. The plugin has\n%s", i+1, want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("docs/api.md has %d lines, the plugin %d; run make docs", len(got), len(want))
	}
}

// Every operation says what it is for, what it takes and what it answers.
func TestEveryOperationIsDescribed(t *testing.T) {
	t.Parallel()
	doc := host.Mount(t, harness.Plugin{}).Contract()
	seen := map[string]string{}
	for path, item := range doc.Paths {
		for verb, o := range item.Verbs(path) {
			where := verb + " " + path
			if other := seen[o.ID]; o.ID == "" || other != "" {
				t.Errorf("%s has the id %q, as has %s", where, o.ID, other)
			}
			seen[o.ID] = where
			if o.Summary == "" || o.Description == "" {
				t.Errorf("%s has the summary %q and the description %q", where, o.Summary, o.Description)
			}
			if !slices.Contains(slices.Collect(maps.Keys(o.Responses)), "400") {
				t.Errorf("%s declares no refusal", where)
			}
			for status, r := range o.Responses {
				schema, ok := doc.Resolve(r.Body)
				if refusal := status == "400" || status == "403"; refusal && schema.Properties["code"].Type != "string" {
					t.Errorf("%s: %s has no code: %v", where, status, schema.Properties)
				} else if status == "200" && len(r.Content) == 0 && r.Description == "" {
					t.Errorf("%s answers something raw and does not say what", where)
				} else if status == "200" && len(r.Content) > 0 && (!ok || len(schema.Properties) == 0 || schema.Properties["code"].Type != "") {
					t.Errorf("%s: 200 has the fields of something else: %v", where, schema.Properties)
				}
			}
		}
	}
	if len(seen) < 40 {
		t.Errorf("only %d operations", len(seen))
	}
}

// A host collects the documents of all its mounts; ours is in it as it stands.
// While other tests mount and unmount, the host may give up on a mount that is
// just going; it is asked again until it answers with all it has.
func TestHostCollectsTheDocument(t *testing.T) {
	t.Parallel()
	pim := host.Mount(t, harness.Plugin{})
	paths := pim.Contract().Paths
	poll.Until(t, 30*time.Second, func() error {
		all, err := host.Root().Do(t.Context(), http.MethodGet, "sys/internal/specs/openapi", nil, nil)
		if err != nil {
			return err
		}
		if all.Status != http.StatusOK {
			return fmt.Errorf("the host answers %d", all.Status)
		}
		for path := range paths {
			if !strings.Contains(string(all.Body), `"/`+pim.Path+path+`"`) {
				return fmt.Errorf("%s is not in the host's document", path)
			}
		}
		return nil
	})
}
