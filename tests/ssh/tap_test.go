package ssh

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// tap stands between pim and the host. It keeps the certificates that the
// engine signs, and loses the answers that hold them when it is told to.
type tap struct {
	URL string

	mu     sync.Mutex
	signed []string
	lose   bool
}

func newTap(t *testing.T) *tap {
	t.Helper()
	target, err := url.Parse(host.Addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = p.see
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

func (p *tap) see(res *http.Response) error {
	if !strings.Contains(res.Request.URL.Path, "/sign/") || res.StatusCode != http.StatusOK {
		return nil
	}
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	res.Body = io.NopCloser(bytes.NewReader(raw))
	var body struct {
		Data struct {
			Signed string `json:"signed_key"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signed = append(p.signed, body.Data.Signed)
	if p.lose {
		return http.ErrAbortHandler // the connection breaks
	}
	return nil
}

// last is the certificate that the engine signed last.
func (p *tap) last(t *testing.T) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.signed) == 0 {
		t.Fatal("the engine has signed nothing")
	}
	return p.signed[len(p.signed)-1]
}

// next returns a function for the first certificate that is signed from now on: a
// call in which the plugin dies may be sent again by the host, and sign another one.
func (p *tap) next(t *testing.T) func() string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.signed)
	return func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.signed) <= n {
			t.Fatal("the engine has signed nothing")
		}
		return p.signed[n]
	}
}

func (p *tap) loseAnswers(lose bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = lose
}
