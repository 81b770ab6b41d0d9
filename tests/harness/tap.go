package harness

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
)

// Tap stands between the plugin and its host. It keeps what the host's engines make,
// and loses the answers that hold it when it is told to.
type Tap struct {
	URL string // instead of the host's

	makes func(path string) bool
	field string

	mu   sync.Mutex
	made []string
	lose bool
}

// NewTap starts a tap of a host until the test ends. It keeps one field of each
// successful answer to a call whose path makes something.
func NewTap(t *testing.T, host *Host, field string, makes func(path string) bool) *Tap {
	t.Helper()
	target, err := url.Parse(host.Addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &Tap{makes: makes, field: field}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = p.see
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

func (p *Tap) see(res *http.Response) error {
	if res.StatusCode != http.StatusOK || !p.makes(res.Request.URL.Path) {
		return nil
	}
	var body struct {
		Data map[string]any `json:"data"`
	}
	if err := Peek(res, &body); err != nil {
		return err
	}
	made, _ := body.Data[p.field].(string)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = append(p.made, made)
	if p.lose {
		return http.ErrAbortHandler // the connection breaks
	}
	return nil
}

// Peek decodes the JSON of an answer that a proxy passes on unchanged.
func Peek(res *http.Response, into any) error {
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	res.Body = io.NopCloser(bytes.NewReader(raw))
	return json.Unmarshal(raw, into)
}

// LoseAnswers breaks the connection instead of answering with what was made, or no
// longer does.
func (p *Tap) LoseAnswers(lose bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = lose
}

// Made is everything that the engines have made so far, in order.
func (p *Tap) Made() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.made)
}

// Last is what they made last.
func (p *Tap) Last(t *testing.T) string {
	t.Helper()
	return p.at(t, -1)
}

// Next returns a function for the first thing that is made from now on: a call in
// which the plugin dies may be sent again by the host, and make another one.
func (p *Tap) Next(t *testing.T) func() string {
	t.Helper()
	n := len(p.Made())
	return func() string {
		t.Helper()
		return p.at(t, n)
	}
}

// at is the thing made n-th, counted from 0; -1 is the last one.
func (p *Tap) at(t *testing.T, n int) string {
	t.Helper()
	made := p.Made()
	if n < 0 {
		n += len(made)
	}
	if n < 0 || n >= len(made) {
		t.Fatal("the engine has made nothing")
	}
	return made[n]
}
