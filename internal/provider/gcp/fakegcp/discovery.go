package fakegcp

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Discovery holds Google's own descriptions of its APIs, as they ship inside
// the module google.golang.org/api, and judges calls by them.
type Discovery struct{ services map[string]*document }

type document struct {
	ServicePath string             `json:"servicePath"`
	Parameters  map[string]*schema `json:"parameters"`
	Schemas     map[string]*schema `json:"schemas"`
	Methods     map[string]*method `json:"methods"`
	Resources   map[string]*holder `json:"resources"`
	all         []*method          // with paths as patterns
}

type holder struct {
	Methods   map[string]*method `json:"methods"`
	Resources map[string]*holder `json:"resources"`
}

type method struct {
	ID         string             `json:"id"`
	HTTPMethod string             `json:"httpMethod"`
	Path       string             `json:"path"`
	Parameters map[string]*schema `json:"parameters"`
	Request    *ref               `json:"request"`
	Response   *ref               `json:"response"`

	form *regexp.Regexp
}

type ref struct {
	Ref string `json:"$ref"`
}

type schema struct {
	Ref         string             `json:"$ref"`
	Type        string             `json:"type"`
	Format      string             `json:"format"`
	Pattern     string             `json:"pattern"`
	Description string             `json:"description"`
	Location    string             `json:"location"`
	Required    bool               `json:"required"`
	ReadOnly    bool               `json:"readOnly"`
	Enum        []string           `json:"enum"`
	Items       *schema            `json:"items"`
	Properties  map[string]*schema `json:"properties"`
	Additional  *schema            `json:"additionalProperties"`
	Annotations struct {
		Required []string `json:"required"`
	} `json:"annotations"`
}

// files says which description is of which service.
func files() map[string]string {
	return map[string]string{
		"iam": "iam/v1/iam-api.json", "iamcredentials": "iamcredentials/v1/iamcredentials-api.json",
		"cloudresourcemanager": "cloudresourcemanager/v3/cloudresourcemanager-api.json", "sts": "sts/v1/sts-api.json",
		"storage": "storage/v1/storage-api.json", "secretmanager": "secretmanager/v1/secretmanager-api.json",
		"cloudkms": "cloudkms/v1/cloudkms-api.json", "run": "run/v2/run-api.json",
	}
}

// Undescribed are the services that have no discovery document: the OAuth
// token endpoint (RFC 7523) and the metadata server.
func Undescribed() []string { return []string{"metadata", "oauth2"} }

// LoadDiscovery reads the descriptions from the module cache, which the go
// command fills if need be. dir is any directory of the plugin's own module.
func LoadDiscovery(dir string) (*Discovery, error) {
	cmd := exec.Command("go", "mod", "download", "-json", "google.golang.org/api") //nolint:noctx // of a test, seconds at most
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download google.golang.org/api: %w", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil || module.Dir == "" {
		return nil, errors.New("the go command does not say where google.golang.org/api is")
	}
	d := &Discovery{services: map[string]*document{}}
	for service, file := range files() {
		raw, err := os.ReadFile(filepath.Join(module.Dir, filepath.FromSlash(file)))
		if err != nil {
			return nil, err
		}
		doc := &document{}
		if err := json.Unmarshal(raw, doc); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if err := doc.gather(&holder{Methods: doc.Methods, Resources: doc.Resources}); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		d.services[service] = doc
	}
	return d, nil
}

var placeholder = regexp.MustCompile(`\{(\+?)([A-Za-z]+)\}`)

func (d *document) gather(h *holder) error {
	for _, m := range h.Methods {
		text, from := "^", 0
		path := d.ServicePath + m.Path
		for _, at := range placeholder.FindAllStringSubmatchIndex(path, -1) {
			text += regexp.QuoteMeta(path[from:at[0]])
			pattern := `[^/]+`
			if p := m.Parameters[path[at[4]:at[5]]]; at[3] > at[2] && p != nil && p.Pattern != "" {
				pattern = strings.TrimSuffix(strings.TrimPrefix(p.Pattern, "^"), "$")
			}
			text += "(?:" + pattern + ")"
			from = at[1]
		}
		form, err := regexp.Compile(text + regexp.QuoteMeta(path[from:]) + "$")
		if err != nil {
			return err
		}
		m.form = form
		d.all = append(d.all, m)
	}
	for _, r := range h.Resources {
		if err := d.gather(r); err != nil {
			return err
		}
	}
	return nil
}

// Judge checks one call, and its answer if that was no error. It returns the
// method that was called and everything that is wrong.
func (d *Discovery) Judge(s Seen) (id string, wrong []string) {
	doc := d.services[s.Service]
	if doc == nil {
		return "", []string{"unknown service " + s.Service}
	}
	var found *method
	for _, m := range doc.all {
		// Paths of one verb may match the pattern of a longer name: v1/{+name}
		// also fits v1/x:disable. The most particular one counts.
		if m.HTTPMethod == s.Method && m.form.MatchString(s.Path) && (found == nil || len(m.Path) > len(found.Path)) {
			found = m
		}
	}
	if found == nil {
		return "", []string{"no method of " + s.Service + " is " + s.Method + " " + s.Path}
	}
	j := &judgement{doc: doc, method: found}
	j.query(s.Query)
	switch {
	case found.Request == nil && len(s.Request) > 0:
		j.addf("has a body, and the method takes none")
	case found.Request != nil && len(s.Request) == 0:
		j.addf("has no body")
	case found.Request != nil:
		j.body("request", found.Request.Ref, s.Request, true)
	}
	if s.Status == 200 && found.Response != nil {
		j.body("answer", found.Response.Ref, s.Answer, false)
	}
	return found.ID, j.wrong
}

// judgement gathers what is wrong with one call.
type judgement struct {
	doc    *document
	method *method
	wrong  []string
}

func (j *judgement) addf(format string, args ...any) {
	j.wrong = append(j.wrong, j.method.ID+": "+fmt.Sprintf(format, args...))
}

func (j *judgement) query(raw string) {
	given := parseForm([]byte(raw))
	for name, value := range given {
		p := j.method.Parameters[name]
		if p == nil || p.Location != "query" {
			p = j.doc.Parameters[name]
		}
		if p == nil {
			j.addf("unknown parameter %s", name)
			continue
		}
		if len(p.Enum) > 0 && !slices.Contains(p.Enum, value) {
			j.addf("parameter %s has no value of its list", name)
		}
		if p.Type == "integer" && strings.Trim(value, "0123456789") != "" {
			j.addf("parameter %s is no number", name)
		}
	}
	for name, p := range j.method.Parameters {
		if _, ok := given[name]; p.Required && p.Location == "query" && !ok {
			j.addf("lacks the parameter %s", name)
		}
	}
}

func (j *judgement) body(what, name string, raw []byte, request bool) {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		j.addf("%s is no JSON", what)
		return
	}
	j.value(what, &schema{Ref: name}, value, request)
}

func (j *judgement) value(at string, s *schema, value any, request bool) {
	if s.Ref != "" {
		next := j.doc.Schemas[s.Ref]
		if next == nil {
			j.addf("%s: no schema %s", at, s.Ref)
			return
		}
		s = next
	}
	ok := true
	switch s.Type {
	case "object", "":
		var fields map[string]any
		if fields, ok = value.(map[string]any); ok {
			j.object(at, s, fields, request)
		}
	case "array":
		var list []any
		if list, ok = value.([]any); ok {
			for i, v := range list {
				j.value(fmt.Sprintf("%s[%d]", at, i), s.Items, v, request)
			}
		}
	case "string":
		var text string
		text, ok = value.(string)
		ok = ok && (len(s.Enum) == 0 || slices.Contains(s.Enum, text))
	case "integer", "number":
		_, ok = value.(float64)
	case "boolean":
		_, ok = value.(bool)
	}
	if !ok {
		j.addf("%s is not a %s of its description", at, s.Type)
	}
}

func (j *judgement) object(at string, s *schema, fields map[string]any, request bool) {
	for name, value := range fields {
		p := s.Properties[name]
		if p == nil {
			p = s.Additional
		}
		if p == nil {
			j.addf("%s has no field %s", at, name)
			continue
		}
		if request && (p.ReadOnly || strings.HasPrefix(p.Description, "Output only")) {
			j.addf("%s.%s is only for answers", at, name)
		}
		j.value(at+"."+name, p, value, request)
	}
	if !request {
		return
	}
	for name, p := range s.Properties {
		required := strings.HasPrefix(p.Description, "Required.") || strings.HasPrefix(p.Description, "REQUIRED:") ||
			slices.Contains(p.Annotations.Required, j.method.ID)
		if _, ok := fields[name]; required && !ok {
			j.addf("%s lacks %s", at, name)
		}
	}
}
