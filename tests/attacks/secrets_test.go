package attacks

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// surface is every operation of the running plugin, as it describes itself.
type surface []operation

type operation struct {
	method, path string   // path with {captures}
	captures     []string // their names
	query        []string // fields of the query
	body         map[string]string
}

// schema is what is needed of an OpenAPI schema.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       string            `json:"type"`
	Properties map[string]schema `json:"properties"`
}

func readSurface(t *testing.T, pim *harness.Mount) surface {
	t.Helper()
	type method struct {
		Parameters []struct{ Name, In string }
		Body       struct {
			Content map[string]struct{ Schema schema }
		} `json:"requestBody"`
	}
	var help struct {
		OpenAPI struct {
			Paths      map[string]map[string]json.RawMessage
			Components struct{ Schemas map[string]schema }
		}
	}
	if err := json.Unmarshal(host.Root().Read(t, pim.Path+"/?help=1").OK(t).Body, &help); err != nil {
		t.Fatal(err)
	}
	var all surface
	for _, path := range slices.Sorted(maps.Keys(help.OpenAPI.Paths)) {
		item := help.OpenAPI.Paths[path]
		var captures []struct{ Name string }
		if raw, ok := item["parameters"]; ok {
			if err := json.Unmarshal(raw, &captures); err != nil {
				t.Fatal(err)
			}
		}
		for name, verb := range map[string]string{"get": http.MethodGet, "post": http.MethodPut, "delete": http.MethodDelete} {
			raw, ok := item[name]
			if !ok {
				continue
			}
			var m method
			if err := json.Unmarshal(raw, &m); err != nil {
				t.Fatal(err)
			}
			o := operation{method: verb, path: strings.TrimPrefix(path, "/"), body: map[string]string{}}
			if verb == http.MethodGet && strings.HasSuffix(path, "/") {
				o.method = "LIST"
			}
			for _, c := range captures {
				o.captures = append(o.captures, c.Name)
			}
			for _, p := range m.Parameters {
				o.query = append(o.query, p.Name)
			}
			ref := strings.TrimPrefix(m.Body.Content["application/json"].Schema.Ref, "#/components/schemas/")
			for field, s := range help.OpenAPI.Components.Schemas[ref].Properties {
				o.body[field] = s.Type
			}
			if verb == http.MethodPut && ref != "" && len(o.body) == 0 {
				t.Fatalf("%s: no fields in %s", path, ref)
			}
			all = append(all, o)
		}
	}
	if len(all) < 40 {
		t.Fatalf("the plugin describes only %d operations", len(all))
	}
	return all
}

// misplaced are values with a secret in them that no field of the type takes.
func misplaced(kind, secret string) []any {
	object := map[string]any{"password": secret}
	nested := map[string]any{"a": map[string]any{"b": []any{secret}}}
	switch kind {
	case "string":
		return []any{object, nested, []any{secret}, secret + "\x07"}
	case "array":
		return []any{object, []any{object}, []any{[]any{secret}}}
	case "object":
		return []any{secret, []any{object}, nested}
	}
	return []any{secret, object, []any{secret}}
}

// canaries is one walk over all operations with one caller.
type canaries struct {
	*world
	*attack
	ids    map[string]string // capture → something that exists
	secret string            // sent as a value: must be nowhere afterwards
	name   string            // sent as a name, or in the URL: the host audits those in clear
}

func newCanaries(t *testing.T, a *attack) *canaries {
	t.Helper()
	w := plain(t)
	c := &canaries{world: w, attack: a, secret: host.Canary(t), name: "k3y" + strings.ToLower(rand.Text())}
	id := w.grant(t, "prod", nil)
	hold := host.Root().Write(t, w.path("holds"), map[string]any{"ticket": "none"}).OK(t).String(t, "hold_id")
	job := host.Root().Write(t, w.path("revoke"), map[string]any{"ticket": "none", "hold": 0}).OK(t).String(t, "job")
	c.ids = map[string]string{"role": "prod", "request_id": id, "id": hold, "job": job, "target": "local"}
	return c
}

// at fills the path of an operation with what exists.
func (c *canaries) at(t *testing.T, o operation) string {
	t.Helper()
	path := o.path
	for _, name := range o.captures {
		value, ok := c.ids[name]
		if name == "name" {
			value, ok = "prod", true
			if strings.HasPrefix(path, "targets/") {
				value = "local"
			}
		}
		if !ok { // well-formed, and nobody's: what is misplaced is refused before it is looked for
			value = "01jnb000000000000000000001"
		}
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	return c.path(path)
}

// send sends one call with something misplaced. It must be refused, and what was
// misplaced must not come back.
func (c *canaries) send(t *testing.T, who harness.Actor, method, path string, body any) {
	t.Helper()
	answer, err := who.Do(t.Context(), method, path, body, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.NoTrace(t, c.secret)
	answer.NoTrace(t, c.name)
	c.tried(t, answer.Status/100 == 4, "%s %v: want a refusal, got %d %s", answer.Request, body, answer.Status, answer.Body)
}

func TestMisplacedSecretsNeverComeBack(t *testing.T) {
	t.Parallel()
	a := begin(t, "S1", "a secret in every wrong field, type and place comes back in an answer, the log or the audit file")
	c := newCanaries(t, a)
	all := readSurface(t, c.pim)
	for _, who := range []harness.Actor{host.Root(), c.alice.Actor} {
		for _, o := range all {
			c.misplace(t, who, o)
		}
	}
	// Nothing of this has changed anything.
	for path, want := range map[string]string{"roles/prod": "prod", "targets/local": "local"} {
		if got := c.control(t, host.Root().Read(t, c.path(path))).NoTrace(t, c.secret).String(t, "name"); got != want {
			t.Errorf("%s is now called %s", path, got)
		}
	}
	for _, kind := range []string{"log", "audit file"} {
		read := map[string]func() (string, error){"log": host.Log, "audit file": host.Audit}[kind]
		text, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if kind == "log" && strings.Contains(text, c.name) {
			t.Error("the name of a field is in the log")
		}
		if kind == "audit file" {
			a.seen(t, strings.Contains(text, c.path("roles/prod")), "the audit file does not know of these calls")
		}
	}
}

func (c *canaries) misplace(t *testing.T, who harness.Actor, o operation) {
	t.Helper()
	path := c.at(t, o)
	if o.method != http.MethodPut {
		for _, field := range append(o.query, "nosuch", "password") {
			if field != "after" { // any text is a place in a list
				c.send(t, who, o.method, path+"?"+url.Values{field: {c.name + "\x07"}}.Encode(), nil)
			}
		}
		c.send(t, who, o.method, path+"?"+url.Values{c.name: {c.name}, "X" + c.name: {"1"}}.Encode(), nil)
	} else {
		whole := map[string]any{}
		for field, kind := range o.body {
			for _, value := range misplaced(kind, c.secret) {
				c.send(t, who, o.method, path, map[string]any{field: value})
				whole[field] = value
			}
		}
		whole["nosuch"], whole[c.name] = c.secret, c.secret
		for _, capture := range o.captures {
			c.send(t, who, o.method, path, map[string]any{capture: c.secret})
			whole[capture] = map[string]any{"password": c.secret}
		}
		c.send(t, who, o.method, path, map[string]any{"nosuch": c.secret, "password": map[string]any{"a": c.secret}})
		c.send(t, who, o.method, path, map[string]any{c.name: c.secret, "X-" + c.name: []any{c.secret}})
		c.send(t, who, o.method, path, whole)
	}
	// In the place of a name or an id.
	for _, capture := range o.captures {
		c.send(t, who, o.method, strings.ReplaceAll(c.path(o.path), "{"+capture+"}", c.name+"_X"), map[string]any{})
	}
}

// echo is a target that says everything that it is told, in its answers and in
// their headers.
func echo(t *testing.T, status int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sys/health" {
			_, _ = io.WriteString(w, `{"initialized":true,"sealed":false,"cluster_id":"11111111-2222-3333-4444-555555555555"}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			body = []byte(err.Error())
		}
		said := string(body) + fmt.Sprint(r.Header)
		w.Header().Set("X-Said", strings.ReplaceAll(said, "\n", " "))
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{ //nolint:errchkjson // whoever asked may be gone
			"errors": []string{said}, "warnings": []string{said}, "data": map[string]any{"said": said},
			"auth": map[string]any{"client_token": "", "policies": []string{said}},
		})
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestWhatTargetsSayNeverComesBack(t *testing.T) {
	t.Parallel()
	a := begin(t, "S2", "a target repeats the secret that it was sent, in its answers and their headers")
	w := plain(t) // its target is one that takes the login
	a.control(t, host.Root().Read(t, w.path("targets/local")))
	for _, status := range []int{200, 204, 301, 400, 403, 404, 429, 500, 503} {
		t.Run(fmt.Sprint("a target that repeats its secret with status ", status), func(t *testing.T) {
			t.Parallel()
			address := echo(t, status)
			pim := host.Mount(t, harness.Plugin{})
			for _, secret := range []string{"secret_id", "token"} {
				canary := host.Canary(t)
				body := map[string]any{"type": "host", "address": address, "token_role": "pim", secret: canary}
				if secret == "secret_id" {
					body["role_id"] = "r"
				}
				answer := host.Root().Write(t, pim.Path+"/targets/echo", body)
				answer.NoTrace(t, canary)
				a.tried(t, answer.Status/100 != 2, "a target that takes no login was written: %s", answer.Body)
				host.Root().Read(t, pim.Path+"/targets/echo").NoTrace(t, canary)
			}
		})
	}
}

func TestStoredSecretsAreNowhereToBeRead(t *testing.T) {
	t.Parallel()
	a := begin(t, "S3", "stored secrets and issued credentials are read through any other operation")
	c := newCanaries(t, a)
	creds := a.control(t, c.creds(t, c.alice.Actor, "prod"))
	secrets := map[string]string{
		"the target's secret_id": c.target.Login.SecretID, "a credential": creds.String(t, "token"), "its accessor": creds.String(t, "accessor"),
	}
	for _, o := range readSurface(t, c.pim) {
		if o.method == http.MethodPut || o.method == http.MethodDelete || strings.HasPrefix(o.path, "creds/") || strings.HasSuffix(o.path, "/wait") {
			continue
		}
		for _, who := range []harness.Actor{host.Root(), c.alice.Actor, c.bob.Actor} {
			answer, err := who.Do(t.Context(), o.method, c.at(t, o), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			for what, secret := range secrets {
				a.tried(t, !strings.Contains(string(answer.Body), secret), "%s shows %s: %s", answer.Request, what, answer.Body)
			}
		}
	}
	for _, secret := range []string{secrets["the target's secret_id"], secrets["a credential"]} {
		host.NoTrace(t, secret)
	}
}
