package openapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/openapi"
)

// A mount with one list, one plant and one credential.
const garden = `{"help": "…", "openapi": {"paths": {
 "/plants/": {"description": "All plants.", "get": {"operationId": "list", "summary": "List.", "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Keys"}}}}}}},
 "/plants/{name}": {"description": "One plant.",
  "parameters": [{"name": "name", "in": "path", "description": "Its name.", "schema": {"type": "string"}}],
  "get": {"operationId": "read", "summary": "Read.", "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Plant"}}}}, "404": {"description": "None."}}},
  "delete": {"operationId": "delete", "summary": "Delete.", "responses": {"204": {"description": "Done."}}}},
 "/plants/all": {"description": "Every plant.", "get": {"operationId": "all", "summary": "All.", "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Open"}}}}}}}
}, "components": {"schemas": {
 "Keys": {"type": "object", "properties": {"keys": {"type": "array", "items": {"type": "string"}}}, "required": ["keys"]},
 "Open": {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": true},
 "PimError": {"type": "object", "properties": {"code": {"type": "string", "enum": ["busy"]}}, "required": ["code"]},
 "Plant": {"type": "object", "required": ["height", "name"], "properties": {
   "name": {"type": "string", "description": "Its name."}, "height": {"type": "integer", "description": "In centimetres."},
   "grows": {"type": "boolean"}, "sown": {"type": "string", "format": "date-time"},
   "colours": {"type": "array", "items": {"type": "string"}}, "kind": {"type": "string", "enum": ["tree", "herb"]}}}
}}}}`

func document(t *testing.T) *openapi.Document {
	t.Helper()
	doc, err := openapi.Parse([]byte(garden))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestFind(t *testing.T) {
	t.Parallel()
	doc := document(t)
	for _, row := range []struct{ method, path, want string }{
		{"GET", "plants/rose", "read"},
		{"GET", "plants/all", "all"},
		{"DELETE", "plants/rose", "delete"},
		{"LIST", "plants", "list"},
		{"LIST", "plants/", "list"},
		{"PUT", "plants/rose", ""},
		{"GET", "plants/rose/leaf", ""},
		{"GET", "stones/x", ""},
	} {
		o, found := doc.Find(row.method, row.path)
		if found != (row.want != "") || found && o.ID != row.want {
			t.Errorf("%s %s comes to %+v, want %q", row.method, row.path, o, row.want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	doc := document(t)
	good := map[string]any{"name": "rose", "height": 30.0}
	with := func(name string, value any) map[string]any {
		out := map[string]any{"name": "rose", "height": 30.0}
		out[name] = value
		return out
	}
	for _, row := range []struct {
		name, method, path string
		status             int
		data               map[string]any
		want               []string
	}{
		{"what is declared", "GET", "plants/x", 200, good, nil},
		{"every type", "GET", "plants/x", 200, map[string]any{
			"name": "rose", "height": 30.0, "grows": true, "sown": "2026-03-02T09:00:00Z", "colours": []any{"red"}, "kind": "herb",
		}, nil},
		{"a field is missing", "GET", "plants/x", 200, map[string]any{"name": "rose"}, []string{"height is missing"}},
		{"a field is null", "GET", "plants/x", 200, with("height", nil), []string{"height is missing"}},
		{"an unknown field", "GET", "plants/x", 200, with("weight", 1.0), []string{"weight is not declared"}},
		{"a wrong type", "GET", "plants/x", 200, with("height", "tall"), []string{"height is no integer but tall"}},
		{"a broken number", "GET", "plants/x", 200, with("height", 1.5), []string{"height is no integer but 1.5"}},
		{"a wrong time", "GET", "plants/x", 200, with("sown", "today"), []string{"sown is no string (date-time) but today"}},
		{"a wrong item", "GET", "plants/x", 200, with("colours", []any{1.0}), []string{"colours has an item that is no string but 1"}},
		{"off the list", "GET", "plants/x", 200, with("kind", "stone"), []string{"kind is stone, which is not on its list"}},
		{"an undeclared status", "GET", "plants/x", 403, map[string]any{"code": "x"}, []string{"status 403 is not declared"}},
		{"the host's own refusal", "GET", "plants/x", 403, nil, nil},
		{"a fault", "GET", "plants/x", 500, nil, nil},
		{"nothing where something is declared", "GET", "plants/x", 200, nil, []string{"nothing is answered, although fields are declared"}},
		{"nothing where nothing is declared", "DELETE", "plants/x", 204, nil, nil},
		{"something where nothing is declared", "DELETE", "plants/x", 204, good, []string{"something is answered, although nothing is declared"}},
		{"more than is declared, where that is declared", "GET", "plants/all", 200, map[string]any{"n": 1.0, "token": "x"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			o, found := doc.Find(row.method, row.path)
			if !found {
				t.Fatal("no such operation")
			}
			if got := doc.Check(o, row.status, row.data); !slices.Equal(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestMarkdownHasEverything(t *testing.T) {
	t.Parallel()
	page := document(t).Markdown()
	for _, want := range []string{
		"### `vault list pim/plants/`", "### `vault read pim/plants/:name`", "### `vault delete pim/plants/:name`",
		"| `height` | integer | In centimetres. (always) |", "One of `tree`, `herb`.", "Codes: `busy`.",
		"and the fields of the target", "Answers 204: Done.", "Refused with 404.",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "{}", `{"openapi": {"paths": {}}}`, "[]", fmt.Sprintf("%q", garden)} {
		if doc, err := openapi.Parse([]byte(raw)); err == nil {
			t.Errorf("%.30s is taken for %+v", raw, doc)
		}
	}
}
