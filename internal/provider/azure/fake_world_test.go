package azure

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

// upstreamWords are in every error text of the cloud, and may be nowhere else.
const upstreamWords = "Correlation ID: 1b2c-words-of-the-cloud"

// fakeCloud is Entra and Azure Resource Manager in memory: objects that are not
// visible at once, a bin, quotas, throttling, pages.
type fakeCloud struct {
	mu       sync.Mutex
	clk      *clock.Manual
	lag      time.Duration // until what was made is known everywhere
	tenants  map[string]*fakeTenant
	managers map[string]*fakeManager
	watchers map[int]func(bool)
	nextID   int
	broken   bool
	rules    []rule
	seen     []seen
	pageSize int
}

// rule changes how one kind of call ends: the next n times, every call whose
// method and address have this in them.
type rule struct {
	match  string
	n      int
	status int
	code   string
	header http.Header
	lost   bool // the call takes effect, and its answer is lost
}

// seen is one call that reached the cloud.
type seen struct {
	method, host, path string
	query              url.Values
	body               []byte
	header             http.Header
}

func newFakeCloud(clk *clock.Manual) *fakeCloud {
	return &fakeCloud{
		clk: clk, tenants: map[string]*fakeTenant{}, managers: map[string]*fakeManager{}, watchers: map[int]func(bool){}, pageSize: 2,
	}
}

// visible tells whether what was made then is known everywhere now.
func (c *fakeCloud) visible(born time.Time) bool { return !c.clk.Now().Before(born.Add(c.lag)) }

// watch has see called for each call, before and after it took effect.
func (c *fakeCloud) watch(see func(bool)) (stop func()) {
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

func (c *fakeCloud) tell(after bool) {
	c.mu.Lock()
	var all []func(bool)
	for _, w := range c.watchers {
		all = append(all, w)
	}
	c.mu.Unlock()
	for _, w := range all {
		w(after)
	}
}

func (c *fakeCloud) breakDown() (restore func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.broken = false
	}
}

func (c *fakeCloud) add(r rule) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rules = append(c.rules, r)
}

// ruled gives the rule that a call falls under.
func (c *fakeCloud) ruled(req *http.Request) (rule, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return rule{status: http.StatusServiceUnavailable, code: "ServiceUnavailable"}, true
	}
	for i, r := range c.rules {
		if r.n > 0 && strings.Contains(req.Method+" "+req.URL.Host+req.URL.Path, r.match) {
			c.rules[i].n--
			return r, true
		}
	}
	return rule{}, false
}

var errLost = errors.New("the answer was lost: " + upstreamWords)

// RoundTrip implements http.RoundTripper.
func (c *fakeCloud) RoundTrip(req *http.Request) (*http.Response, error) {
	c.tell(false)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	r, ruled := c.ruled(req)
	if ruled && !r.lost {
		return answer(req, r.status, r.header, errorBody(r.code)), nil
	}
	resp, err := c.serve(req)
	c.tell(true)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if ruled {
		return nil, errLost
	}
	return resp, err
}

func (c *fakeCloud) serve(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	c.note(req, body)
	switch req.URL.Host {
	case "login.microsoftonline.com":
		return c.login(req, body), nil
	case "graph.microsoft.com":
		return c.graph(req, body), nil
	case "management.azure.com":
		return c.manage(req, body)
	case "169.254.169.254":
		return c.metadata(req), nil
	}
	return nil, errors.New("no such host")
}

func (c *fakeCloud) note(req *http.Request, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, seen{req.Method, req.URL.Host, req.URL.Path, req.URL.Query(), body, req.Header.Clone()})
}

// calls lists the calls to a host, as METHOD path.
func (c *fakeCloud) calls(host string) []seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []seen
	for _, s := range c.seen {
		if s.host == host {
			out = append(out, s)
		}
	}
	return out
}

func errorBody(code string) map[string]any {
	return map[string]any{"error": map[string]string{"code": code, "message": upstreamWords}}
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

// token makes an access token for a principal.
func token(tenant, object, client string, roles []string) string {
	raw, err := json.Marshal(claims{Tenant: tenant, Object: object, Client: client, Roles: roles})
	if err != nil {
		panic(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"none"}`)) + "." + enc(raw) + "." + enc([]byte("signature-of-the-cloud"))
}

// bearer reads who calls.
func bearer(req *http.Request) (claims, bool) {
	var out claims
	parts := strings.Split(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), ".")
	if len(parts) != 3 {
		return out, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	return out, err == nil && json.Unmarshal(raw, &out) == nil
}

// login is the token service.
func (c *fakeCloud) login(req *http.Request, body []byte) *http.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	t := c.tenants[parts[0]]
	base := "https://login.microsoftonline.com/" + parts[0]
	if strings.HasSuffix(req.URL.Path, "/openid-configuration") {
		return answer(req, http.StatusOK, nil, map[string]string{
			"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
		})
	}
	if t == nil {
		return answer(req, http.StatusBadRequest, nil, loginError("AADSTS90002"))
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return answer(req, http.StatusBadRequest, nil, loginError("AADSTS900144"))
	}
	sp, code := t.authenticate(c, form)
	if code != "" {
		return answer(req, http.StatusUnauthorized, nil, loginError(code))
	}
	return answer(req, http.StatusOK, nil, map[string]any{
		"token_type": "Bearer", "expires_in": 3599, "access_token": token(t.id, sp.id, sp.client, sp.roles),
	})
}

// metadata is the service on the link that gives a machine its own identity.
func (c *fakeCloud) metadata(req *http.Request) *http.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tenants[homeTenant]
	sp := t.principalOf(engineClient)
	if req.Header.Get("Metadata") != "true" || sp == nil {
		return answer(req, http.StatusBadRequest, nil, map[string]string{"error": "invalid_request", "error_description": upstreamWords})
	}
	return answer(req, http.StatusOK, nil, map[string]string{
		"token_type": "Bearer", "expires_in": "3599", "resource": req.URL.Query().Get("resource"),
		"access_token": token(t.id, sp.id, sp.client, sp.roles),
	})
}

func loginError(code string) map[string]any {
	return map[string]any{"error": "invalid_client", "error_description": code + ": " + upstreamWords}
}

// noWait is a pace for tests: nothing waits, and nothing goes on after the end.
func noWait(ctx context.Context, _ clock.Clock, _ time.Duration) error { return ctx.Err() }
