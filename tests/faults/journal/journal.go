// Package journal is a target that writes down everything that is made and deleted
// at it, when, and by which process: the witness of the fault tests. To the plugin
// it is a Kubernetes cluster whose credentials are role bindings, or tokens that are
// bound to a Secret. The names of both are on record before they exist, so whatever
// stays behind is a fault of ours and not of the target.
package journal

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Entry is one binding or Secret: when it was made and deleted, and what it says of itself.
type Entry struct {
	Credential, Request string
	Made, Deleted       time.Time // Deleted is zero while it exists
	MadeBy, DeletedBy   int       // process ids of the hosts whose plugins called
}

// Call is a call that may change something, before it does.
type Call struct {
	Verb       string // create or delete
	Credential string
	// Gone ends when the caller has given up.
	Gone context.Context //nolint:containedctx // the caller's, of this one call
}

// Target is a journaling target.
type Target struct {
	URL, CA string // address and certificate, as a target's host and ca_cert

	uid    string
	server *httptest.Server

	mu      sync.Mutex
	entries map[string]*Entry // by the binding's name
	objects map[string][]byte
	refused map[string]int // deletions of what was not there, by credential
	before  func(Call) (status int)
	after   func(Call)
	lost    bool // it answers as a proxy that knows nothing
	padding int  // bytes that a token is longer than it needs to be
}

// Start runs a target until the test ends.
func Start(t testing.TB) *Target {
	t.Helper()
	j := &Target{uid: "journal-" + t.Name(), entries: map[string]*Entry{}, objects: map[string][]byte{}, refused: map[string]int{}}
	j.server = httptest.NewUnstartedServer(http.HandlerFunc(j.serve))
	j.server.Config.ErrorLog = log.New(io.Discard, "", 0) // callers that are killed break connections
	j.server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, callerKey{}, j.callerOf(c.RemoteAddr()))
	}
	j.server.StartTLS()
	t.Cleanup(func() {
		j.server.CloseClientConnections()
		j.server.Close()
	})
	j.URL = j.server.URL
	j.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: j.server.Certificate().Raw}))
	return j
}

// Before has f see every create and delete before it takes effect. f may wait; a
// status other than 0 is answered instead. nil ends that.
func (j *Target) Before(f func(Call) (status int)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.before = f
}

// After has f see every create and delete that took effect before it is answered.
func (j *Target) After(f func(Call)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.after = f
}

// Lose makes everything at the target's address 404, as a proxy does that has lost
// its way, or ends that.
func (j *Target) Lose(lost bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lost = lost
}

// Pad makes every token longer by so many bytes.
func (j *Target) Pad(bytes int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.padding = bytes
}

// Entries is everything that was ever made, oldest first.
func (j *Target) Entries() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Entry, 0, len(j.entries))
	for _, e := range j.entries {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return a.Made.Compare(b.Made) })
	return out
}

// Live is what exists now.
func (j *Target) Live() []Entry {
	return slices.DeleteFunc(j.Entries(), func(e Entry) bool { return !e.Deleted.IsZero() })
}

// Remove deletes the binding of a credential by hand, behind everybody's back.
func (j *Target) Remove(credential string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, e := range j.entries {
		if e.Credential == credential && e.Deleted.IsZero() {
			e.Deleted = time.Now()
			delete(j.objects, name)
		}
	}
}

func (j *Target) serve(w http.ResponseWriter, r *http.Request) {
	j.mu.Lock()
	lost := j.lost
	j.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	last := parts[len(parts)-1]
	switch {
	case lost:
		http.Error(w, "no such page", http.StatusNotFound)
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/"):
		write(w, http.StatusOK, map[string]any{
			"kind": "Namespace", "apiVersion": "v1", "metadata": map[string]any{"name": last, "uid": j.uid},
			"status": map[string]any{"phase": "Active"},
		})
	case r.Method == http.MethodPost && strings.HasPrefix(last, "selfsubject"):
		j.review(w, r)
	case r.Method == http.MethodPost && last == "token":
		j.token(w, r, parts)
	case r.Method == http.MethodPost && isJournaled(last):
		j.create(w, r)
	case len(parts) > 1 && isJournaled(parts[len(parts)-2]):
		j.one(w, r, last)
	case r.Method == http.MethodGet:
		j.list(w, r, last)
	default:
		status(w, http.StatusNotFound, "NotFound")
	}
}

// isJournaled tells whether a resource is one whose objects give access.
func isJournaled(resource string) bool { return resource == "rolebindings" || resource == "secrets" }

// review allows everything.
func (j *Target) review(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		status(w, http.StatusBadRequest, "BadRequest")
		return
	}
	body["status"] = map[string]any{
		"allowed": true, "userInfo": map[string]any{"username": "system:serviceaccount:pim-system:pim"},
		"resourceRules": []any{}, "nonResourceRules": []any{}, "incomplete": false,
	}
	write(w, http.StatusCreated, body)
}

type meta struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func (j *Target) create(w http.ResponseWriter, r *http.Request) {
	var body map[string]json.RawMessage
	var m meta
	err := json.NewDecoder(r.Body).Decode(&body)
	if err == nil {
		err = json.Unmarshal(body["metadata"], &m)
	}
	raw, again := json.Marshal(body)
	if err != nil || again != nil {
		status(w, http.StatusBadRequest, "BadRequest")
		return
	}
	call := Call{Verb: "create", Credential: m.Labels["vault-pim.github.io/credential-id"], Gone: r.Context()}
	if r.URL.Query().Get("dryRun") != "" {
		write(w, http.StatusCreated, body)
		return
	}
	if j.interfered(w, call) {
		return
	}
	entry := &Entry{
		Credential: call.Credential, Request: m.Annotations["vault-pim.github.io/request-id"],
		Made: time.Now(), MadeBy: caller(r),
	}
	j.mu.Lock()
	_, exists := j.objects[m.Name]
	if !exists {
		j.entries[m.Name], j.objects[m.Name] = entry, raw
	}
	j.mu.Unlock()
	if exists {
		status(w, http.StatusConflict, "AlreadyExists")
		return
	}
	j.done(call)
	write(w, http.StatusCreated, body)
}

func (j *Target) one(w http.ResponseWriter, r *http.Request, name string) {
	if r.Method == http.MethodGet {
		j.mu.Lock()
		raw, found := j.objects[name]
		j.mu.Unlock()
		if !found {
			status(w, http.StatusNotFound, "NotFound")
			return
		}
		write(w, http.StatusOK, json.RawMessage(raw))
		return
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(name, "pim-"), "-")
	call := Call{Verb: "delete", Credential: id, Gone: r.Context()}
	if j.interfered(w, call) {
		return
	}
	j.mu.Lock()
	_, found := j.objects[name]
	if found {
		delete(j.objects, name)
		j.entries[name].Deleted, j.entries[name].DeletedBy = time.Now(), caller(r)
	} else {
		j.refused[id]++
	}
	j.mu.Unlock()
	if !found {
		status(w, http.StatusNotFound, "NotFound")
		return
	}
	j.done(call)
	status(w, http.StatusOK, "")
}

// list has bindings; there is nothing else.
func (j *Target) list(w http.ResponseWriter, _ *http.Request, resource string) {
	items := []json.RawMessage{}
	if resource == "rolebindings" {
		j.mu.Lock()
		for _, raw := range j.objects {
			items = append(items, raw)
		}
		j.mu.Unlock()
	}
	kinds := map[string]string{
		"rolebindings": "RoleBindingList", "clusterrolebindings": "ClusterRoleBindingList", "roles": "RoleList",
		"clusterroles": "ClusterRoleList", "serviceaccounts": "ServiceAccountList", "secrets": "SecretList",
	}
	version := "rbac.authorization.k8s.io/v1"
	if resource == "serviceaccounts" || resource == "secrets" {
		version = "v1"
	}
	write(w, http.StatusOK, map[string]any{"kind": kinds[resource], "apiVersion": version, "metadata": map[string]any{}, "items": items})
}

// interfered tells whether the test has answered a call itself.
func (j *Target) interfered(w http.ResponseWriter, call Call) bool {
	j.mu.Lock()
	before := j.before
	j.mu.Unlock()
	if before == nil {
		return false
	}
	code := before(call)
	if code != 0 {
		status(w, code, "InternalError")
	}
	return code != 0
}

func (j *Target) done(call Call) {
	j.mu.Lock()
	after := j.after
	j.mu.Unlock()
	if after != nil {
		after(call)
	}
}

func status(w http.ResponseWriter, code int, reason string) {
	text := "Failure"
	if code/100 == 2 {
		text = "Success"
	}
	write(w, code, map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": text, "reason": reason, "code": code,
	})
}

func write(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may have gone
}
