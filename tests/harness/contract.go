package harness

import (
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/openapi"
)

// declare remembers what a mount says of its own API, so that every answer of it is
// compared with that.
func (m *Mount) declare(t testing.TB) {
	t.Helper()
	help := m.Host.Root().Read(t, m.Path+"/?help=1")
	doc, err := openapi.Parse(help.Body)
	if err != nil {
		t.Fatalf("%s: %v", help.Request, err)
	}
	m.Host.site.contracts.Store(m.Path, doc)
}

// Contract is what the mount says of its own API.
func (m *Mount) Contract() *openapi.Document { return m.Host.contract(m.Path) }

func (h *Host) contract(mount string) *openapi.Document {
	stored, _ := h.site.contracts.Load(mount)
	doc, _ := stored.(*openapi.Document)
	return doc
}

// asDeclared fails the test if an answer of a mount is not as the mount declares it.
// Answers of everything else on the host pass.
func (h *Host) asDeclared(t testing.TB, method, path string, a Answer) {
	t.Helper()
	path, query, _ := strings.Cut(path, "?")
	mount, below, _ := strings.Cut(path, "/")
	doc := h.contract(mount)
	if doc == nil || strings.Contains(query, "help=1") || a.WrapToken != "" {
		return
	}
	o, found := doc.Find(method, below)
	if !found {
		if a.Status/100 == 2 {
			t.Errorf("%s: %d, but the mount declares no such operation", a.Request, a.Status)
		}
		return
	}
	for _, difference := range doc.Check(o, a.Status, a.Data) {
		t.Errorf("%s: the answer is not as %s declares it: %s\n%d %s", a.Request, o.ID, difference, a.Status, a.Body)
	}
}
