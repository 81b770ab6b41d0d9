package harness

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// Call is one request that went through a Recorder.
type Call struct {
	Method, Path string
	Status       int // of the answer that the caller got
}

// Recorder is a proxy between the plugin and the host (or any other HTTP
// service): it writes down every request, and a test may answer some itself.
type Recorder struct {
	URL string

	mu    sync.Mutex
	calls []Call
	fault func(*http.Request) int
}

// NewRecorder passes requests on to upstream until the test ends.
func NewRecorder(t testing.TB, upstream string) *Recorder {
	t.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	r := &Recorder{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		if status := r.faultFor(req); status != 0 {
			seen.WriteHeader(status)
		} else {
			proxy.ServeHTTP(seen, req)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls = append(r.calls, Call{Method: req.Method, Path: req.URL.Path, Status: seen.status})
	}))
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// Fault answers a request with the status that f returns, without passing it on;
// 0 passes it on. nil ends the faults.
func (r *Recorder) Fault(f func(*http.Request) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

func (r *Recorder) faultFor(req *http.Request) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault == nil {
		return 0
	}
	return r.fault(req)
}

// Calls returns what has been recorded since the last call of Calls.
func (r *Recorder) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets the proxy flush through the recorder.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
