// Package fakegcp is Google Cloud in memory, as far as the gcp provider calls
// it: projects, service accounts and their keys, tokens, and allow policies,
// with the semantics that make the real thing hard: etags, conditions that a
// careless reader does not see, new things that are not known everywhere yet,
// soft deletion, quotas, throttling, pages, and answers that get lost after
// the work was done. It is an http.Handler for real sockets and an
// http.RoundTripper for tests that cut calls at exact places.
package fakegcp

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

// UpstreamWords are in every error text of the fake and must never get out of
// a provider.
const UpstreamWords = "upstream-words-of-the-cloud"

// Lag is how long new things are not known everywhere.
type Lag struct {
	Members time.Duration // policies refuse a new account
	Tokens  time.Duration // no tokens of a new account
	Reads   time.Duration // a new account is not found by name
	Keys    time.Duration // a new key is not accepted
	Grants  time.Duration // a new binding has no effect
}

// Cloud is one Google Cloud.
type Cloud struct {
	// Observe sees every call with its answer. Set it before the first call.
	Observe func(Seen)

	clk clock.Clock

	mu       sync.Mutex
	lag      Lag
	serial   int
	projects map[string]*Project // by id
	folders  map[string]string   // folders/NUMBER to its parent
	accounts map[string]*Account // by address, deleted ones gone
	deleted  []*Account
	policies map[string]*policy  // by service and name
	tokens   map[string]*token   // by value
	roles    map[string][]string // permissions of roles
	subjects map[string]string   // federated subject token to principal
	engines  map[string]bool     // accounts that have the engine's permissions
	machine  string              // address of the machine's own account
	faults   faults
	watchers map[int]func(after bool)
	writes   map[string]int // accepted policy writes, by policy
}

// Seen is one call and its answer.
type Seen struct {
	Service, Method, Path, Query string
	Request, Answer              []byte
	Status                       int
}

// Project is one project.
type Project struct {
	ID, Number, Parent string
	MaxAccounts        int
}

// New makes an empty cloud.
func New(clk clock.Clock) *Cloud {
	return &Cloud{
		clk: clk, projects: map[string]*Project{}, folders: map[string]string{}, accounts: map[string]*Account{},
		policies: map[string]*policy{}, tokens: map[string]*token{}, subjects: map[string]string{},
		watchers: map[int]func(bool){}, engines: map[string]bool{}, writes: map[string]int{}, faults: faults{denied: map[string]bool{}},
		roles: map[string][]string{
			"roles/viewer":                           {"resourcemanager.projects.get", "storage.buckets.list"},
			"roles/compute.viewer":                   {"compute.instances.list", "compute.instances.get"},
			"roles/storage.objectViewer":             {"storage.objects.get", "storage.objects.list"},
			"roles/storage.admin":                    {"storage.buckets.get", "storage.buckets.setIamPolicy"},
			"roles/custom.harmless":                  {"compute.instances.get"},
			"roles/custom.impersonator":              {"compute.instances.get", "iam.serviceAccounts.getAccessToken"},
			"roles/iam.serviceAccountTokenCreator":   {"iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.signJwt"},
			"roles/secretmanager.secretAccessor":     {"secretmanager.versions.access"},
			"roles/cloudkms.cryptoKeyEncrypter":      {"cloudkms.cryptoKeyVersions.useToEncrypt"},
			"roles/run.invoker":                      {"run.routes.invoke"},
			"projects/prod-access/roles/reader":      {"compute.instances.get"},
			"organizations/42/roles/networkObserver": {"compute.networks.get"},
		},
	}
}

// AddProject makes a project with the usual quota.
func (c *Cloud) AddProject(id, number, parent string) *Project {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &Project{ID: id, Number: number, Parent: parent, MaxAccounts: 100}
	c.projects[id] = p
	c.newPolicy("cloudresourcemanager", "projects/"+id)
	return p
}

// AddFolder makes a folder below parent.
func (c *Cloud) AddFolder(name, parent string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.folders[name] = parent
	c.newPolicy("cloudresourcemanager", name)
}

// AddResource makes something else that has an allow policy.
func (c *Cloud) AddResource(service, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newPolicy(service, name)
}

// SetLag says how long new things are not known everywhere, from now on.
func (c *Cloud) SetLag(lag Lag) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag = lag
}

// Machine gives the machine that the caller runs on a service account.
func (c *Cloud) Machine(email string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.machine = email
}

// Trust has the token service take a subject token for a principal.
func (c *Cloud) Trust(subject, principal string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subjects[subject] = principal
}

// Watch has see called for each call, before and after it took effect.
func (c *Cloud) Watch(see func(after bool)) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	id := c.serial
	c.watchers[id] = see
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, id)
	}
}

func (c *Cloud) see(after bool) {
	c.mu.Lock()
	list := make([]func(bool), 0, len(c.watchers))
	for _, w := range c.watchers {
		list = append(list, w)
	}
	c.mu.Unlock()
	for _, w := range list {
		w(after)
	}
}

// Project returns a project by id or number.
func (c *Cloud) project(name string) *Project {
	for _, p := range c.projects {
		if p.ID == name || p.Number == name {
			return p
		}
	}
	return nil
}

// refusal is an answer that is an error.
type refusal struct {
	status     int
	code       string
	text       string
	reason     string
	permission string
	retryAfter string
	oauth      bool
}

func refuse(status int, code, text string) *refusal {
	return &refusal{status: status, code: code, text: text}
}

func notFound() *refusal { return refuse(http.StatusNotFound, "NOT_FOUND", "not found") }

func invalid(text string) *refusal { return refuse(http.StatusBadRequest, "INVALID_ARGUMENT", text) }

func (r *refusal) write(w http.ResponseWriter) []byte {
	text := r.text + " " + UpstreamWords
	var body any
	if r.oauth {
		body = map[string]any{"error": r.code, "error_description": text}
	} else {
		inner := map[string]any{"code": r.status, "message": text, "status": r.code}
		if r.reason != "" || r.permission != "" {
			inner["details"] = []any{map[string]any{
				"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": r.reason,
				"metadata": map[string]string{"permission": r.permission},
			}}
		}
		body = map[string]any{"error": inner}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		raw = []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if r.retryAfter != "" {
		w.Header().Set("Retry-After", r.retryAfter)
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(raw) // whoever went away reads nothing
	return raw
}

// Accounts lists the addresses of the accounts whose address begins so.
func (c *Cloud) Accounts(prefix string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for email := range c.accounts {
		if strings.HasPrefix(email, prefix) {
			out = append(out, email)
		}
	}
	slices.Sort(out)
	return out
}
