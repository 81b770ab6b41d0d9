package fakegcp

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
)

// visit is one call on its way through the fake.
type visit struct {
	service string
	method  string
	path    string // without the service's own prefix
	query   map[string][]string
	body    []byte
	caller  *token
	agent   string
	form    func(string) string
}

func (v *visit) arg(name string) string {
	if list := v.query[name]; len(list) > 0 {
		return list[0]
	}
	return ""
}

func (v *visit) decode(out any) *refusal {
	if len(v.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(v.body, out); err != nil {
		return invalid("the body is not JSON")
	}
	return nil
}

// RoundTrip serves a call in this process: a context that ends before the call
// takes effect keeps it from taking effect, and one that ends after loses the
// answer.
func (c *Cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	c.see(false)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	c.serve(w, r)
	c.see(true)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// ServeHTTP serves a call over a socket: the first part of the path is the
// service.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.see(false)
	c.serve(w, r)
	c.see(true)
}

func (c *Cloud) serve(w http.ResponseWriter, r *http.Request) {
	v, err := readVisit(r)
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	status := http.StatusOK
	out, wrong := c.answer(v, bearer(r))
	var raw []byte
	switch {
	case wrong != nil:
		status = wrong.status
		raw = wrong.write(w)
	default:
		raw = encode(out)
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_, _ = w.Write(raw) //nolint:gosec // JSON of a test; whoever went away reads nothing
	}
	if c.Observe != nil {
		c.Observe(Seen{v.service, v.method, v.path, r.URL.RawQuery, v.body, raw, status})
	}
}

func encode(out any) []byte {
	switch x := out.(type) {
	case nil:
		return []byte("{}")
	case []byte:
		return x
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return []byte("{}")
	}
	return raw
}

func readVisit(r *http.Request) (*visit, error) {
	v := &visit{method: r.Method, path: strings.TrimPrefix(r.URL.Path, "/"), query: r.URL.Query(), agent: r.UserAgent()}
	switch host, _, _ := strings.Cut(r.URL.Host, ":"); {
	case strings.HasSuffix(host, ".googleapis.com"):
		v.service = strings.TrimSuffix(host, ".googleapis.com")
	case host == "169.254.169.254":
		v.service = "metadata"
	default:
		v.service, v.path, _ = strings.Cut(v.path, "/")
	}
	if r.Body != nil {
		raw, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
		if err != nil {
			return nil, err
		}
		v.body = raw
	}
	v.form = func(name string) string {
		fields := parseForm(v.body)
		return fields[name]
	}
	if v.service == "metadata" && r.Header.Get("Metadata-Flavor") != "Google" {
		v.service = "metadata without its header"
	}
	return v, nil
}

func bearer(r *http.Request) string {
	value, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return value
}

// answer serves a call whose outcome may be lost or refused on purpose.
func (c *Cloud) answer(v *visit, bearer string) (any, *refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, after := c.faults.next(v)
	if before != nil {
		return nil, before
	}
	open := v.service == "oauth2" || v.service == "sts" || v.service == "metadata"
	if !open {
		caller, wrong := c.caller(bearer)
		if wrong != nil {
			return nil, wrong
		}
		v.caller = caller
	}
	out, wrong := c.route(v)
	if after != nil {
		return nil, after
	}
	return out, wrong
}

func (c *Cloud) route(v *visit) (any, *refusal) {
	switch v.service {
	case "oauth2":
		return c.oauth(v)
	case "sts":
		return c.exchange(v)
	case "metadata":
		return c.metadata(v)
	case "iam":
		return c.iam(v)
	case "iamcredentials":
		return c.credentials(v)
	case "cloudresourcemanager":
		return c.manager(v)
	case "storage":
		return c.storage(v)
	case "secretmanager", "cloudkms":
		return c.policyCall(v, "v1/", http.MethodGet)
	case "run":
		return c.policyCall(v, "v2/", http.MethodGet)
	}
	return nil, notFound()
}

// manager is Resource Manager.
func (c *Cloud) manager(v *visit) (any, *refusal) {
	name := strings.TrimPrefix(v.path, "v3/")
	if strings.Contains(name, ":") && strings.HasSuffix(name, "Policy") || strings.HasSuffix(name, ":testIamPermissions") {
		return c.policyCall(v, "v3/", http.MethodPost)
	}
	if v.method != http.MethodGet {
		return nil, notFound()
	}
	if id, ok := strings.CutPrefix(name, "projects/"); ok {
		p := c.project(id)
		if p == nil {
			return nil, c.hidden("resourcemanager.projects.get")
		}
		if wrong := c.need(v, "resourcemanager.projects.get"); wrong != nil {
			return nil, wrong
		}
		return map[string]any{"name": "projects/" + p.Number, "projectId": p.ID, "parent": p.Parent, "state": "ACTIVE"}, nil
	}
	parent, ok := c.folders[name]
	if !ok {
		return nil, c.hidden("resourcemanager.folders.get")
	}
	if wrong := c.need(v, "resourcemanager.folders.get"); wrong != nil {
		return nil, wrong
	}
	return map[string]any{"name": name, "parent": parent, "state": "ACTIVE"}, nil
}

// hidden is how Google answers for what does not exist and would need a
// permission: it does not say which of the two it is.
func (c *Cloud) hidden(permission string) *refusal {
	return &refusal{
		status: http.StatusForbidden, code: "PERMISSION_DENIED", text: "permission denied, or it may not exist",
		reason: "IAM_PERMISSION_DENIED", permission: permission,
	}
}

// need refuses callers that lack a permission. The engine's identities have
// all that were not denied; what was issued has what policies give it.
func (c *Cloud) need(v *visit, permission string) *refusal {
	if v.caller.engine && !c.faults.denied[permission] {
		return nil
	}
	return c.hidden(permission)
}
