// Package fakeazure is Entra and Azure Resource Manager in memory, as far as
// the azure provider calls them: the token service, applications, principals,
// groups, role assignments and role assignment schedules, with the semantics
// that make the real thing hard: objects that are not known everywhere yet, a
// bin, quotas, throttling, pages, requests that take their time, and answers
// that get lost after the work was done. It serves real sockets, one per
// service, and is an http.RoundTripper for tests that cut calls at exact
// places. Calls to Azure Resource Manager go through the vendor's own fake
// servers; Judge holds calls to Microsoft Graph to the vendor's description.
package fakeazure

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

// UpstreamWords are in every error text of the fake and must never get out of
// a provider.
const UpstreamWords = "Correlation ID: 1b2c-words-of-the-cloud"

// The services.
const (
	Login    = "login"
	Graph    = "graph"
	Manage   = "arm"
	Metadata = "metadata" // of the machine
)

// Cloud is one Azure. Its fields and those of what is in it are read and
// changed under Lock.
type Cloud struct {
	mu sync.Mutex

	// Lag is how long what was made is not known everywhere.
	Lag time.Duration
	// PageSize is how many entries a page of a list has.
	PageSize int
	Tenants  map[string]*Tenant

	clk      clock.Clock
	managers map[string]*Manager
	watchers map[int]func(bool)
	nextID   int
	broken   bool
	rules    []*Rule
	seen     []Seen
	machine  struct{ tenant, client string }
}

// Rule changes how calls end: the next N calls whose method, service and path
// have Match in them, as in "PATCH graph/v1.0/applications".
type Rule struct {
	Match  string
	N      int
	Status int
	Code   string
	Header http.Header
	Lost   bool // the call takes effect, and its answer is lost
}

// Seen is one call that reached the cloud.
type Seen struct {
	Service, Method, Path string
	Query                 url.Values
	Body                  []byte
	Header                http.Header
}

// New makes an empty cloud.
func New(clk clock.Clock) *Cloud {
	return &Cloud{
		clk: clk, Tenants: map[string]*Tenant{}, managers: map[string]*Manager{}, watchers: map[int]func(bool){}, PageSize: 2,
	}
}

// Lock keeps calls out while a test looks at the cloud or changes it.
func (c *Cloud) Lock() { c.mu.Lock() }

// Unlock lets calls in again.
func (c *Cloud) Unlock() { c.mu.Unlock() }

// Machine gives the machine that the caller runs on a principal of its own.
func (c *Cloud) Machine(tenant, client string) { c.machine.tenant, c.machine.client = tenant, client }

// visible tells whether what was made then is known everywhere now.
func (c *Cloud) visible(born time.Time) bool { return !c.clk.Now().Before(born.Add(c.Lag)) }

// Watch has see called for each call, before and after it took effect.
func (c *Cloud) Watch(see func(after bool)) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextID
	c.nextID++
	c.watchers[id] = see
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, id)
	}
}

func (c *Cloud) tell(after bool) {
	c.mu.Lock()
	all := slices.Collect(maps.Values(c.watchers))
	c.mu.Unlock()
	for _, w := range all {
		w(after)
	}
}

// Break has every call fail until restored.
func (c *Cloud) Break() (restore func()) {
	set := func(on bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.broken = on
	}
	set(true)
	return func() { set(false) }
}

// Plan has calls go wrong from now on.
func (c *Cloud) Plan(r Rule) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rules = append(c.rules, &r)
}

// Forget drops what was planned and has not happened yet.
func (c *Cloud) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rules = nil
}

// ruled gives the rule that a call falls under.
func (c *Cloud) ruled(service string, req *http.Request) (Rule, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return Rule{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"}, true
	}
	for _, r := range c.rules {
		if r.N > 0 && strings.Contains(req.Method+" "+service+req.URL.Path, r.Match) {
			r.N--
			return *r, true
		}
	}
	return Rule{}, false
}

// Calls lists the calls to a service so far, or to all of them ("").
func (c *Cloud) Calls(service string) []Seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.seen), func(s Seen) bool { return service != "" && s.Service != service })
}

var errLost = errors.New("the answer was lost: " + UpstreamWords)

// RoundTrip serves a call in this process: a context that ends before the call
// takes effect keeps it from taking effect, and one that ends after loses the
// answer.
func (c *Cloud) RoundTrip(req *http.Request) (*http.Response, error) {
	service := map[string]string{
		"login.microsoftonline.com": Login, "graph.microsoft.com": Graph, "management.azure.com": Manage, "169.254.169.254": Metadata,
	}[req.URL.Host]
	if service == "" {
		return nil, errors.New("no such host")
	}
	c.tell(false)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	resp, err := c.call(service, req)
	if err == nil || errors.Is(err, errLost) {
		c.tell(true)
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return resp, err
}

// Serve is one service on a socket.
func (c *Cloud) Serve(service string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.tell(false)
		req := r.Clone(r.Context())
		req.URL.Scheme, req.URL.Host = "https", r.Host
		resp, err := c.call(service, req)
		c.tell(true)
		if err != nil {
			panic(http.ErrAbortHandler) // the connection ends without an answer
		}
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body) // whoever went away reads nothing
		_ = resp.Body.Close()        // memory
	})
}

// call serves a call whose outcome may be lost or refused on purpose.
func (c *Cloud) call(service string, req *http.Request) (*http.Response, error) {
	r, ruled := c.ruled(service, req)
	if ruled && !r.Lost {
		return answer(req, r.Status, r.Header, errorBody(r.Code)), nil
	}
	resp, err := c.serve(service, req)
	if ruled && err == nil {
		return nil, errLost
	}
	return resp, err
}

func (c *Cloud) serve(service string, req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	c.seen = append(c.seen, Seen{service, req.Method, req.URL.Path, req.URL.Query(), body, req.Header.Clone()})
	c.mu.Unlock()
	switch service {
	case Login:
		return c.login(req, body), nil
	case Graph:
		return c.graph(req, body), nil
	case Manage:
		return c.manage(req, body)
	}
	return c.metadata(req), nil
}

func errorBody(code string) map[string]any {
	return map[string]any{"error": map[string]string{"code": code, "message": UpstreamWords}}
}

// reply is an answer on its way.
type reply struct {
	status int
	body   any
}

func refuse(status int, code string) reply { return reply{status, errorBody(code)} }

func answer(req *http.Request, status int, header http.Header, body any) *http.Response {
	raw := []byte{}
	if body != nil && status != http.StatusNoContent {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			panic(err)
		}
	}
	h := http.Header{"Content-Type": {"application/json"}}
	maps.Copy(h, header)
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status, Header: h, Request: req,
		Body: io.NopCloser(strings.NewReader(string(raw))), ContentLength: int64(len(raw)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}
