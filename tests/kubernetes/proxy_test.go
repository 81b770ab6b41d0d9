package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// upstreamWords stands in what a failing cluster says.
const upstreamWords = "words-of-a-failing-cluster"

// proxy stands between the provider and its API server. A call that its caller
// gives up before it was sent on is dropped; one that was sent on takes effect,
// whether its caller waits or not.
type proxy struct {
	addr   string
	server *http.Server

	mu       sync.Mutex
	watchers map[int]func(after bool)
	next     int
	broken   bool
	inFlight int
}

func newProxy(c *cluster) (*proxy, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.pki.ca)
	cert, err := tls.LoadX509KeyPair(c.pki.certFile, c.pki.keyFile)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{addr: l.Addr().String(), watchers: map[int]func(bool){}}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: c.addr}) },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		},
		ModifyResponse: func(*http.Response) error {
			p.see(true)
			return nil
		},
	}
	p.server = &http.Server{
		Handler:           p.handle(forward),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: startBound,
	}
	go func() {
		if err := p.server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	return p, nil
}

func (p *proxy) handle(forward http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.count(1)
		defer p.count(-1)
		// The whole request is here before anybody may give it up.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if p.see(false) && givenUp(r.Context()) {
			return
		}
		if p.isBroken() {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":500,"reason":"InternalError","message":%q}`,
				upstreamWords)
			return
		}
		ctx, done := context.WithCancel(context.WithoutCancel(r.Context()))
		defer done()
		r = r.WithContext(ctx)
		r.Body = io.NopCloser(bytes.NewReader(body))
		forward.ServeHTTP(w, r)
	})
}

// givenUp gives the news that a caller went away the time to get here.
func givenUp(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(50 * time.Millisecond):
		return false
	}
}

func (p *proxy) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight += n
}

// settle waits until every call that was ever begun has taken effect.
func (p *proxy) settle() error {
	return poll.Within(startBound, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.inFlight > 0 {
			return fmt.Errorf("%d calls are still on their way", p.inFlight)
		}
		return nil
	})
}

// see tells the watchers, and whether there are any.
func (p *proxy) see(after bool) bool {
	p.mu.Lock()
	list := make([]func(bool), 0, len(p.watchers))
	for _, see := range p.watchers {
		list = append(list, see)
	}
	p.mu.Unlock()
	for _, see := range list {
		see(after)
	}
	return len(list) > 0
}

func (p *proxy) isBroken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// watch has see called before and after each call took effect, until stop.
func (p *proxy) watch(see func(after bool)) (stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	n := p.next
	p.watchers[n] = see
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watchers, n)
	}
}

// outage fails every call until restored.
func (p *proxy) outage() (restore func()) {
	set := func(broken bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.broken = broken
	}
	set(true)
	return func() { set(false) }
}

func (p *proxy) close() { _ = p.server.Close() } // its connections are local and end with the test
