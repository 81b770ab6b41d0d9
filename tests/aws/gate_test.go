package aws

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// upstreamWords stands in what a failing AWS says.
const upstreamWords = "words-of-a-failing-aws"

// passed is one call that went through a gate.
type passed struct {
	Action string
	Form   url.Values
	Answer []byte
	At     time.Time
}

// fault is how a kind of call goes wrong.
type fault struct {
	status int
	code   string
	times  int
	hang   bool // no answer until the caller gives up
}

// gate stands between the provider and moto. A call that its caller gives up
// before it was sent on is dropped; one that was sent on takes effect, whether
// its caller waits or not.
type gate struct {
	*httptest.Server
	now func() time.Time

	mu       sync.Mutex
	watchers map[int]func(after bool)
	next     int
	broken   bool
	faults   map[string]*fault // by action
	log      []passed
	inFlight int
	onCall   func(n int, action string) // before a call is sent on
	seen     int
}

func newGate(t testing.TB, now func() time.Time) *gate {
	t.Helper()
	moto, err := url.Parse(bench.moto)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{now: now, watchers: map[int]func(bool){}, faults: map[string]*fault{}}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			host := r.In.Host
			r.SetURL(moto)
			r.Out.Host = host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, forward) }))
	t.Cleanup(g.Close)
	return g
}

// moto names permission sets below their instance; AWS does not.
const (
	realSets = "sso:::permissionSet/"
	motoSets = "sso:::instance/"
)

var motoSet = regexp.MustCompile(`sso:::instance/(ssoins-[^/"]+/ps-)`)

// serve lets one call through.
func (g *gate) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		form = url.Values{}
	}
	body = bytes.ReplaceAll(body, []byte(realSets), []byte(motoSets))
	action := form.Get("Action")
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		action = target[strings.LastIndex(target, ".")+1:]
	}
	g.enter(action)
	defer g.leave()
	g.see(false)
	if r.Context().Err() != nil || g.fails(w, r, action) {
		return
	}
	out := httptest.NewRecorder()
	sent := r.WithContext(context.WithoutCancel(r.Context()))
	sent.Body, sent.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	forward.ServeHTTP(out, sent)
	answer := motoSet.ReplaceAll(out.Body.Bytes(), []byte(realSets+"$1"))
	g.note(passed{Action: action, Form: form, Answer: answer, At: g.now()})
	g.see(true)
	maps.Copy(w.Header(), out.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(out.Code)
	if _, err := w.Write(answer); err != nil {
		return // the caller did not wait
	}
}

func (g *gate) enter(action string) {
	g.mu.Lock()
	g.inFlight++
	g.seen++
	n, on := g.seen, g.onCall
	g.mu.Unlock()
	if on != nil {
		on(n, action)
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
}

func (g *gate) note(p passed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, p)
}

// fails answers in moto's place where the test says so.
func (g *gate) fails(w http.ResponseWriter, r *http.Request, action string) bool {
	g.mu.Lock()
	f := g.faults[action]
	broken := g.broken
	if f != nil {
		if f.times--; f.times <= 0 {
			delete(g.faults, action)
		}
	}
	g.mu.Unlock()
	switch {
	case broken:
		f = &fault{status: http.StatusInternalServerError, code: "ServiceFailure"}
	case f == nil:
		return false
	case f.hang:
		<-r.Context().Done()
		return true
	}
	w.WriteHeader(f.status)
	_, err := fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>`, f.code, upstreamWords)
	return err == nil || true // the caller did not wait, and nothing was sent on
}

// fail makes the next times calls of one action fail.
func (g *gate) fail(action string, f fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.times = max(f.times, 1)
	g.faults[action] = &f
}

func (g *gate) see(after bool) {
	g.mu.Lock()
	list := make([]func(bool), 0, len(g.watchers))
	for _, f := range g.watchers {
		list = append(list, f)
	}
	g.mu.Unlock()
	for _, f := range list {
		f(after)
	}
}

func (g *gate) watch(see func(after bool)) (stop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := g.next
	g.next++
	g.watchers[id] = see
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.watchers, id)
	}
}

func (g *gate) breakDown() (restore func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broken = true
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.broken = false
	}
}

// quiet waits until nothing is on its way any more.
func (g *gate) quiet(t testing.TB) {
	t.Helper()
	poll.Until(t, startBound, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.inFlight > 0 {
			return fmt.Errorf("%d calls are on their way", g.inFlight)
		}
		return nil
	})
}

// calls counts the calls of one action that were sent on.
func (g *gate) calls(action string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, p := range g.log {
		if p.Action == action {
			n++
		}
	}
	return n
}

// sessionAsked is a session as it was asked for: moto keeps neither its policy
// nor its source identity.
type sessionAsked struct {
	Role, Name, SourceIdentity, Policy string
	Federated                          string // name of a federated user
	AccessKey                          string
	Issued, Expires                    time.Time
}

// sessions lists the sessions that were given out through the gate.
func (g *gate) sessions(t testing.TB) []sessionAsked {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []sessionAsked
	for _, p := range g.log {
		if p.Action != "AssumeRole" && p.Action != "GetFederationToken" {
			continue
		}
		var answer struct {
			Key       string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
			Federated string `xml:"GetFederationTokenResult>Credentials>AccessKeyId"`
		}
		if err := xml.Unmarshal(p.Answer, &answer); err != nil || answer.Key+answer.Federated == "" {
			continue // refused
		}
		var life int
		if _, err := fmt.Sscan(p.Form.Get("DurationSeconds"), &life); err != nil {
			t.Fatalf("no duration: %v", err)
		}
		out = append(out, sessionAsked{
			Role: p.Form.Get("RoleArn"), Name: p.Form.Get("RoleSessionName"), SourceIdentity: p.Form.Get("SourceIdentity"),
			Policy: p.Form.Get("Policy"), Federated: p.Form.Get("Name"), AccessKey: answer.Key + answer.Federated,
			Issued: p.At, Expires: p.At.Add(time.Duration(life) * time.Second),
		})
	}
	return out
}
