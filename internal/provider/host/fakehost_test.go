package host_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

// upstream is in every error text of the fake host; it must never come out of
// the provider.
const upstream = "upstream-text-marker"

const (
	rootToken  = "fake-root-token-marker"
	roleID     = "fake-role-id"
	secretID   = "fake-secret-id-marker"
	dbPassword = "fake-db-password-"
)

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// fakeToken is a token of the fake host.
type fakeToken struct {
	id, accessor string
	login        bool
	used         bool
	policies     []string
	entity       string
	meta         map[string]any
	until        time.Time
	maxTTL       int64
	fields       map[string]any // overrides in look-ups
}

// fakeLease is a lease of the fake host.
type fakeLease struct {
	id, token, password string
	until               time.Time
}

// fakeHost answers the part of the host's API that the provider uses, as the
// real ones do. It is an HTTP server with switches.
type fakeHost struct {
	*httptest.Server
	clk *clock.Manual

	mu            sync.Mutex
	cluster       string
	tokens        map[string]*fakeToken // by id
	leases        map[string]*fakeLease
	secrets       map[string]map[string]any // secret_id to its properties
	mounts        map[string]string         // path to type
	auths         map[string]string         // auth mounts: path to accessor
	role          map[string]any            // the token role, as it reads
	child         map[string]any            // overrides in look-ups of tokens that the token role yields
	answer        map[string]http.HandlerFunc
	calls         []string
	watch         func(after bool)
	broken        bool
	denied        []string // path prefixes that the login may not call
	loginPolicies []string
	next          int
	ssh           *fakeSSH
	pki           *fakePKI
}

func newFakeHost(t testing.TB, cluster string) *fakeHost {
	t.Helper()
	f := &fakeHost{
		clk: clock.NewManual(start), cluster: cluster,
		tokens:  map[string]*fakeToken{rootToken: {id: rootToken, accessor: "root-accessor", login: true, policies: []string{"pim-login"}, entity: "entity-of-token"}},
		leases:  map[string]*fakeLease{},
		secrets: map[string]map[string]any{secretID: {"accessor": "first"}},
		mounts: map[string]string{
			"database/": "database", "custom/": "snowflake", "secret/": "kv", "access/": "pim", "sys/": "system", "aws/": "aws",
			"ssh/": "ssh", "pki/": "pki",
		},
		auths: map[string]string{"token/": "auth_token_1", "userpass/": "auth_userpass_1", "people/eu/": "auth_ldap_1"},
		role: map[string]any{
			"orphan": true, "renewable": false, "token_type": "service", "token_period": 0, "token_num_uses": 0,
			"allowed_policies": []string{"db-app", "prod-read"}, "allowed_policies_glob": []string{},
		},
		child: map[string]any{}, answer: map[string]http.HandlerFunc{}, loginPolicies: []string{"pim-login"},
		ssh: newFakeSSH(t), pki: newFakePKI(t),
	}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

// on replaces the answer to one call: "GET database/creds/app".
func (f *fakeHost) on(call string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer[call] = h
}

func (f *fakeHost) with(change func(f *fakeHost)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeHost) setWatch(see func(after bool)) (stop func()) {
	f.with(func(f *fakeHost) { f.watch = see })
	return func() { f.with(func(f *fakeHost) { f.watch = nil }) }
}

func (f *fakeHost) breakAll() (restore func()) {
	f.with(func(f *fakeHost) { f.broken = true })
	return func() { f.with(func(f *fakeHost) { f.broken = false }) }
}

// count returns how many calls with that prefix came in.
func (f *fakeHost) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func (f *fakeHost) serve(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	name := r.Method + " " + path
	f.mu.Lock()
	f.calls = append(f.calls, name)
	see, broken, replaced := f.watch, f.broken, f.answer[name]
	f.mu.Unlock()
	if see != nil {
		see(false)
		defer see(true)
	}
	switch {
	case broken:
		fail(w, http.StatusInternalServerError)
	case replaced != nil:
		replaced(w, r)
	default:
		var body map[string]any
		if r.ContentLength > 0 {
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				fail(w, http.StatusBadRequest)
				return
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.route(w, r, path, body)
	}
}

func fail(w http.ResponseWriter, status int) { failWith(w, status, upstream) }

func failWith(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	reply(w, map[string]any{"errors": []string{text}})
}

func reply(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

func replyData(w http.ResponseWriter, data map[string]any) { reply(w, map[string]any{"data": data}) }

// route answers like the host. The caller holds mu.
func (f *fakeHost) route(w http.ResponseWriter, r *http.Request, path string, body map[string]any) {
	switch path {
	case "sys/health":
		reply(w, map[string]any{"initialized": true, "sealed": false, "cluster_id": f.cluster})
		return
	case "auth/approle/login":
		f.logIn(w, body)
		return
	}
	if strings.HasPrefix(path, "pki/") && f.pki.public(f, w, strings.TrimPrefix(path, "pki/")) {
		return
	}
	token := f.tokens[r.Header.Get("X-Vault-Token")]
	if token == nil || (!token.until.IsZero() && !f.clk.Now().Before(token.until)) {
		fail(w, http.StatusForbidden)
		return
	}
	token.used = true
	if token.login && slices.ContainsFunc(f.denied, func(p string) bool { return strings.HasPrefix(path, p) }) {
		fail(w, http.StatusForbidden)
		return
	}
	switch {
	case path == "sys/internal/ui/mounts":
		mounts := map[string]any{}
		for at, kind := range f.mounts {
			mounts[at] = map[string]any{"type": kind}
		}
		replyData(w, map[string]any{"secret": mounts})
	case path == "sys/auth":
		auths := map[string]any{}
		for at, accessor := range f.auths {
			auths[at] = map[string]any{"accessor": accessor, "type": "userpass"}
		}
		replyData(w, auths)
	case strings.HasPrefix(path, "auth/token/"):
		f.tokenStore(w, r, token, body)
	case strings.HasPrefix(path, "auth/approle/role/pim/"):
		f.appRole(w, r, strings.TrimPrefix(path, "auth/approle/role/pim/"), body)
	case strings.HasPrefix(path, "sys/leases/revoke/"):
		delete(f.leases, strings.TrimPrefix(path, "sys/leases/revoke/"))
		w.WriteHeader(http.StatusNoContent)
	case path == "sys/capabilities-self":
		f.capabilities(w, body)
	case strings.HasPrefix(path, "ssh/"):
		f.ssh.serve(f, w, r, token, strings.TrimPrefix(path, "ssh/"), body)
	case strings.HasPrefix(path, "pki/"):
		f.pki.serve(f, w, r, token, strings.TrimPrefix(path, "pki/"), body)
	case token.login:
		fail(w, http.StatusForbidden) // the login reads no engine
	case path == "secret/prod":
		replyData(w, map[string]any{"answer": "42"})
	default:
		f.lease(w, token, path, body)
	}
}

func (f *fakeHost) logIn(w http.ResponseWriter, body map[string]any) {
	given, _ := body["secret_id"].(string)
	if _, ok := f.secrets[given]; !ok || body["role_id"] != roleID {
		fail(w, http.StatusBadRequest)
		return
	}
	f.next++
	t := &fakeToken{
		id: fmt.Sprintf("fake-login-token-%d", f.next), accessor: fmt.Sprintf("login-accessor-%d", f.next),
		login: true, policies: f.loginPolicies, entity: "entity-of-login", until: f.clk.Now().Add(20 * time.Minute),
	}
	f.tokens[t.id] = t
	reply(w, map[string]any{"auth": map[string]any{
		"client_token": t.id, "accessor": t.accessor, "policies": t.policies, "entity_id": t.entity,
		"token_type": "service", "lease_duration": 1200,
	}})
}

func (f *fakeHost) tokenStore(w http.ResponseWriter, r *http.Request, caller *fakeToken, body map[string]any) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/auth/token/")
	switch {
	case path == "lookup-self":
		replyData(w, f.look(caller))
	case path == "lookup-accessor", path == "revoke-accessor":
		t := f.byAccessor(body["accessor"])
		switch {
		case path == "revoke-accessor" && t == nil:
			reply(w, map[string]any{"warnings": []string{"No token found with this accessor"}})
		case t == nil:
			fail(w, http.StatusBadRequest)
		case path == "lookup-accessor":
			replyData(w, f.look(t))
		default:
			delete(f.tokens, t.id)
			maps.DeleteFunc(f.leases, func(_ string, l *fakeLease) bool { return l.token == t.id })
			w.WriteHeader(http.StatusNoContent)
		}
	case strings.HasPrefix(path, "roles/pim"):
		replyData(w, f.role)
	case strings.HasPrefix(path, "create/pim"):
		f.create(w, r.Header.Get("X-Vault-Namespace"), body)
	default:
		fail(w, http.StatusNotFound)
	}
}

func (f *fakeHost) byAccessor(accessor any) *fakeToken {
	for _, t := range f.tokens {
		if t.accessor == accessor && (t.until.IsZero() || f.clk.Now().Before(t.until)) {
			return t
		}
	}
	return nil
}

func (f *fakeHost) create(w http.ResponseWriter, namespace string, body map[string]any) {
	f.next++
	life, err := time.ParseDuration(fmt.Sprint(body["ttl"]))
	if err != nil || body["explicit_max_ttl"] != body["ttl"] || body["no_default_policy"] != true {
		fail(w, http.StatusBadRequest)
		return
	}
	meta, _ := body["meta"].(map[string]any)
	t := &fakeToken{
		id: fmt.Sprintf("fake-child-token-%d", f.next), accessor: fmt.Sprintf("accessor-%d", f.next), meta: meta,
		until: f.clk.Now().Add(life), maxTTL: int64(life.Seconds()), policies: []string{"db-app"}, fields: maps.Clone(f.child),
	}
	if asked, ok := body["policies"].([]any); ok {
		t.policies = nil
		for _, p := range asked {
			t.policies = append(t.policies, fmt.Sprint(p))
		}
	}
	if namespace != "" {
		t.fields["namespace_path"] = namespace + "/"
	}
	f.tokens[t.id] = t
	reply(w, map[string]any{"auth": map[string]any{
		"client_token": t.id, "accessor": t.accessor, "policies": t.policies, "token_type": "service", "lease_duration": t.maxTTL,
	}})
}

func (f *fakeHost) look(t *fakeToken) map[string]any {
	out := map[string]any{
		"id": "", "accessor": t.accessor, "policies": t.policies, "meta": t.meta, "orphan": true, "type": "service",
		"renewable": false, "explicit_max_ttl": t.maxTTL, "entity_id": t.entity, "num_uses": 0, "ttl": 0,
	}
	if !t.until.IsZero() {
		out["ttl"] = int64(t.until.Sub(f.clk.Now()).Seconds())
	}
	maps.Copy(out, t.fields)
	return out
}

func (f *fakeHost) appRole(w http.ResponseWriter, r *http.Request, path string, body map[string]any) {
	given, _ := body["secret_id"].(string)
	switch path {
	case "secret-id":
		if r.Method == "LIST" {
			var keys []any
			for _, s := range f.secrets {
				keys = append(keys, s["accessor"])
			}
			replyData(w, map[string]any{"keys": keys})
			return
		}
		f.next++
		made := fmt.Sprintf("fake-secret-id-marker-%d", f.next)
		meta := map[string]any{}
		if err := json.Unmarshal([]byte(fmt.Sprint(body["metadata"])), &meta); err != nil {
			fail(w, http.StatusBadRequest)
			return
		}
		f.secrets[made] = map[string]any{"accessor": fmt.Sprintf("secret-accessor-%d", f.next), "metadata": meta}
		replyData(w, map[string]any{"secret_id": made})
	case "secret-id/lookup":
		replyData(w, f.secrets[given])
	case "secret-id/destroy":
		delete(f.secrets, given)
		w.WriteHeader(http.StatusNoContent)
	case "secret-id-accessor/lookup", "secret-id-accessor/destroy":
		f.secretIDAccessor(w, path, body["secret_id_accessor"])
	default:
		fail(w, http.StatusNotFound)
	}
}

func (f *fakeHost) secretIDAccessor(w http.ResponseWriter, path string, accessor any) {
	for id, s := range f.secrets {
		if s["accessor"] != accessor {
			continue
		}
		if path == "secret-id-accessor/lookup" {
			replyData(w, s)
			return
		}
		delete(f.secrets, id)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	fail(w, http.StatusNotFound)
}

func (f *fakeHost) capabilities(w http.ResponseWriter, body map[string]any) {
	out := map[string]any{}
	paths, _ := body["paths"].([]any)
	for _, p := range paths {
		path := fmt.Sprint(p)
		out[path] = []string{"create", "update", "read", "list"}
		if slices.ContainsFunc(f.denied, func(d string) bool { return strings.HasPrefix(path, d) }) {
			out[path] = []string{"deny"}
		}
	}
	replyData(w, out)
}

func (f *fakeHost) lease(w http.ResponseWriter, t *fakeToken, path string, body map[string]any) {
	f.next++
	l := &fakeLease{
		id: fmt.Sprintf("%s/lease%d", path, f.next), token: t.id,
		password: fmt.Sprintf("%s%d", dbPassword, f.next), until: f.clk.Now().Add(5 * time.Minute),
	}
	f.leases[l.id] = l
	data := map[string]any{"username": fmt.Sprintf("v-user-%d", f.next), "password": l.password}
	for key, value := range body {
		data["given_"+key] = value
	}
	reply(w, map[string]any{"lease_id": l.id, "lease_duration": 300, "data": data})
}
