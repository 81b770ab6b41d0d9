// Package openapi reads the OpenAPI document of a mounted plugin: to check answers
// against what is declared, and to write docs/api.md.
package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Document is what a mount says of its API.
type Document struct {
	Paths      map[string]Item `json:"paths"` // with a leading slash, captures as {name}
	Components struct {
		Schemas map[string]Schema `json:"schemas"`
	} `json:"components"`
}

// Item is one path. A path that ends with a slash is listed, with Get.
type Item struct {
	Description string      `json:"description"`
	Parameters  []Parameter `json:"parameters"`
	Get         *Operation  `json:"get"`
	Post        *Operation  `json:"post"`
	Delete      *Operation  `json:"delete"`
}

// Operation is one verb of a path.
type Operation struct {
	ID          string              `json:"operationId"`
	Summary     string              `json:"summary"`
	Description string              `json:"description"`
	Parameters  []Parameter         `json:"parameters"`
	Body        Body                `json:"requestBody"`
	Responses   map[string]Response `json:"responses"` // by status
}

// Parameter is a capture or a query parameter.
type Parameter struct {
	Name        string `json:"name"`
	In          string `json:"in"`
	Description string `json:"description"`
	Schema      Schema `json:"schema"`
}

// Body refers to the schema of what is sent, or answered.
type Body struct {
	Content map[string]struct {
		Schema Schema `json:"schema"`
	} `json:"content"`
}

// Response is one status with what comes with it.
type Response struct {
	Description string `json:"description"`
	Body
}

// Schema describes a value. More tells whether an object may hold other properties
// than those that are named.
type Schema struct {
	Ref         string            `json:"$ref"`
	Type        string            `json:"type"`
	Format      string            `json:"format"`
	Description string            `json:"description"`
	Properties  map[string]Schema `json:"properties"`
	Required    []string          `json:"required"`
	Enum        []any             `json:"enum"`
	Default     any               `json:"default"`
	Items       *Schema           `json:"items"`
	More        bool              `json:"additionalProperties"`
	Display     struct {
		Sensitive bool `json:"sensitive"`
	} `json:"x-vault-displayAttrs"`
}

// Parse reads what the host answers to GET <mount>/?help=1, or what its command line
// prints for path-help -format=json.
func Parse(raw []byte) (*Document, error) {
	var help struct {
		OpenAPI *Document `json:"openapi"`
	}
	if err := json.Unmarshal(raw, &help); err == nil && help.OpenAPI != nil && len(help.OpenAPI.Paths) > 0 {
		return help.OpenAPI, nil
	}
	var doc Document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("no OpenAPI document: %w", err)
	}
	if len(doc.Paths) == 0 {
		return nil, errors.New("the OpenAPI document has no paths")
	}
	return &doc, nil
}

// Verbs are the operations of a path by the words of the command line.
func (i Item) Verbs(path string) map[string]*Operation {
	out := map[string]*Operation{"read": i.Get, "write": i.Post, "delete": i.Delete}
	if strings.HasSuffix(path, "/") {
		out = map[string]*Operation{"list": i.Get}
	}
	maps.DeleteFunc(out, func(_ string, o *Operation) bool { return o == nil })
	return out
}

// Find finds the operation that a call comes to. path is below the mount, without a
// leading slash; a literal path comes before one with captures in its place.
func (d *Document) Find(method, path string) (*Operation, bool) {
	verb := map[string]string{
		http.MethodGet: "read", http.MethodPut: "write", http.MethodPost: "write", http.MethodDelete: "delete", "LIST": "list",
	}[method]
	path = strings.TrimSuffix(path, "/")
	if verb == "list" {
		path += "/"
	}
	templates := slices.Collect(maps.Keys(d.Paths))
	slices.SortFunc(templates, func(a, b string) int { return strings.Count(a, "{") - strings.Count(b, "{") })
	for _, template := range templates {
		if o := d.Paths[template].Verbs(template)[verb]; o != nil && matches(template, "/"+path) {
			return o, true
		}
	}
	return nil, false
}

func matches(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	return slices.EqualFunc(want, got, func(w, g string) bool {
		return w == g || strings.HasPrefix(w, "{") && g != ""
	})
}

// Resolve is the schema of a body; false if it has none.
func (d *Document) Resolve(b Body) (Schema, bool) {
	s := b.Content["application/json"].Schema
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s, ok = d.Components.Schemas[name]
		return s, ok
	}
	return s, s.Type != ""
}
