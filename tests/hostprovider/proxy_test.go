package hostprovider

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// upstreamText is in the proxy's own error answers; it must never come out of
// the provider.
const upstreamText = "upstream-text-marker"

// proxy stands between the provider and the real host. It counts calls, fails
// when it is told to, and knows which tokens were ever used.
type proxy struct {
	URL string

	mu     sync.Mutex
	watch  func(after bool)
	broken bool
	tokens map[string]string // accessor of a token made through here, to the token
	used   map[string]bool   // by token
}

func newProxy(t *testing.T, upstream string) *proxy {
	t.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{tokens: map[string]string{}, used: map[string]bool{}}
	through := httputil.NewSingleHostReverseProxy(target)
	through.ModifyResponse = p.learn
	through.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) {
		w.WriteHeader(http.StatusBadGateway) // the caller went away
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		see, broken := p.enter(r.Header.Get("X-Vault-Token"))
		if see != nil {
			see(false)
			defer see(true)
		}
		if broken {
			http.Error(w, `{"errors":["`+upstreamText+`"]}`, http.StatusInternalServerError)
			return
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

func (p *proxy) enter(token string) (see func(bool), broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[token] = true
	return p.watch, p.broken
}

// learn remembers the tokens that are made.
func (p *proxy) learn(res *http.Response) error {
	if !strings.HasPrefix(res.Request.URL.Path, "/v1/auth/token/create/") {
		return nil
	}
	var body struct {
		Auth struct {
			Token    string `json:"client_token"`
			Accessor string `json:"accessor"`
		} `json:"auth"`
	}
	if err := harness.Peek(res, &body); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens[body.Auth.Accessor] = body.Auth.Token
	return nil
}

func (p *proxy) setWatch(see func(after bool)) (stop func()) {
	set := func(f func(bool)) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.watch = f
	}
	set(see)
	return func() { set(nil) }
}

func (p *proxy) breakAll() (restore func()) {
	set := func(broken bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.broken = broken
	}
	set(true)
	return func() { set(false) }
}

// use notes that a token was used otherwise than through here.
func (p *proxy) use(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[token] = true
}

// unused tells whether the token of an accessor was made through here and never
// used by anybody.
func (p *proxy) unused(accessor string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	token, made := p.tokens[accessor]
	return !made || !p.used[token]
}
