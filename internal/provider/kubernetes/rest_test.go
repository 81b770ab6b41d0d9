package kubernetes

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const wireToken = "token-on-the-wire"

// server is an HTTPS server that answers as told, and what it heard.
type server struct {
	*httptest.Server
	ca string

	mu   sync.Mutex
	list []string // method, path, query and token of each call
}

func (s *server) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

func newServer(t *testing.T, answer http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.list = append(s.list, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
		s.mu.Unlock()
		answer(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	s.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return s
}

func (s *server) target() contract.Target {
	return contract.Target{
		Name: "prod", Fields: contract.Values{"host": s.URL, "ca_cert": s.ca}, Secrets: map[string]secret.String{"token": secret.New(wireToken)},
	}
}

func openAt(t *testing.T, env contract.Env, target contract.Target) *Provider {
	t.Helper()
	env.Clock = clock.System{}
	p, err := Descriptor().New(env, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	own, ok := p.(*Provider)
	if !ok {
		t.Fatal("the descriptor makes another provider")
	}
	return own
}

var local = contract.Env{AllowLocal: true}

// says answers with a Status of the API server's.
func says(code int, reason, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":%q,"message":%q}`, code, reason, message)
	}
}

func TestErrorsOfTheAPIServerInOurOwnWords(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		answer    http.HandlerFunc
		code      string
		public    string
		refused   bool
		throttled bool
	}{
		{name: "our token is not accepted", answer: says(401, "Unauthorized", upstreamWords), code: "Unauthorized", public: "own token", refused: true},
		{name: "we may not", answer: says(403, "Forbidden", upstreamWords), code: "Forbidden", public: "lacks a permission", refused: true},
		{
			name: "we may not grant that", code: "Forbidden", public: "exceed", refused: true,
			answer: says(403, "Forbidden", upstreamWords+" is attempting to grant RBAC permissions not currently held:"),
		},
		{name: "a quota", answer: says(403, "Forbidden", upstreamWords+" exceeded quota: x"), code: "Forbidden", public: "quota", refused: true},
		{name: "an admission webhook", answer: says(403, "Forbidden", `admission webhook "x" denied the request: `+upstreamWords), code: "Forbidden", public: "admission rule", refused: true},
		{name: "it is not there", answer: says(404, "NotFound", upstreamWords), code: "NotFound", refused: true},
		{name: "it is invalid", answer: says(422, "Invalid", upstreamWords), code: "Invalid", refused: true},
		{name: "too often", answer: says(429, "TooManyRequests", upstreamWords), code: "TooManyRequests", throttled: true},
		{name: "it broke", answer: says(500, "InternalError", upstreamWords), code: "InternalError"},
		{name: "a reason that is no word", answer: says(500, upstreamWords+" <b>", upstreamWords), code: "HTTP_500"},
		{name: "a page instead of an answer", code: "ServiceUnavailable", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprint(w, "<html>", upstreamWords)
		}},
		{name: "an answer that is no JSON", code: remote.CodeUnreachable, answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, upstreamWords)
		}},
		{name: "an answer without end", code: remote.CodeUnreachable, answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, `{"kind":"Namespace","apiVersion":"v1","metadata":{"uid":"`)
			for r.Context().Err() == nil {
				if _, err := fmt.Fprint(w, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := openAt(t, local, newServer(t, row.answer).target())
			_, err := p.Place(t.Context())
			e := failureWith(t, err, row.code)
			if e.Refused != row.refused || e.Throttled != row.throttled || !strings.Contains(e.Public, row.public) {
				t.Errorf("got %+v", e)
			}
			for err := error(e); err != nil; {
				if text := fmt.Sprintf("%+v %#v", err, err); strings.Contains(text, upstreamWords) || strings.Contains(text, wireToken) {
					t.Errorf("the chain of errors has somebody else's words: %s", text)
				}
				wrapped, ok := err.(interface{ Unwrap() error })
				if !ok {
					break
				}
				err = wrapped.Unwrap()
			}
		})
	}
}

func TestTheTokenGoesToNobodyElse(t *testing.T) {
	t.Parallel()
	other := newServer(t, says(200, "", ""))
	first := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	p := openAt(t, local, first.target())
	if _, err := p.Place(t.Context()); err == nil {
		t.Error("a redirect was taken for an answer")
	}
	if len(other.seen()) > 0 {
		t.Errorf("a redirect was followed: %v", other.seen())
	}
	if want := "GET /api/v1/namespaces/kube-system?timeout=15s Bearer " + wireToken; len(first.seen()) != 1 || first.seen()[0] != want {
		t.Errorf("heard %v", first.seen())
	}
}

func TestWhoeverAnswersMustProveIt(t *testing.T) {
	t.Parallel()
	s, stranger := newServer(t, says(200, "", "")), newServer(t, says(200, "", ""))
	target := s.target()
	target.Fields["ca_cert"] = stranger.ca
	if stranger.ca == s.ca {
		target.Fields["tls_server_name"] = "another.example.org" // test servers share one certificate
	}
	_, err := openAt(t, local, target).Place(t.Context())
	wantCode(t, err, remote.CodeCertificate)
	if len(s.seen()) > 0 {
		t.Error("the token was sent before the proof")
	}
}

func TestThisMachineIsRefusedWhenItIsDialled(t *testing.T) {
	t.Parallel()
	s := newServer(t, says(200, "", ""))
	// A name can lead here although the fields look well: the guard is behind
	// the name's resolution.
	config, report := readTarget(machine(), local, s.target())
	if !report.OK() {
		t.Fatal(report.Problems)
	}
	c, err := dial(contract.Env{}, config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Namespace(t.Context(), placeNamespace)
	wantCode(t, failure("read", err), remote.CodeLocal)
	if len(s.seen()) > 0 {
		t.Error("this machine was spoken to")
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	s := newServer(t, says(200, "", ""))
	p := openAt(t, local, s.target())
	s.Close()
	_, err := p.Place(t.Context())
	if e := failureWith(t, err, remote.CodeUnreachable); e.Refused {
		t.Error("it is worth trying again")
	}
}

func TestAPodUsesWhatItsClusterGaveIt(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system","uid":"the-place"}}`)
	})
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := inPod(dir)
	host, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "https://"), ":")
	w.getenv = func(name string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}[name]
	}
	p, err := describe(w).New(contract.Env{AllowLocal: true, AllowAmbient: []string{Type}, Clock: clock.System{}}, contract.Target{Name: "own"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Place(t.Context()); err == nil {
		t.Error("there was no token yet")
	}
	write("ca.crt", s.ca)
	for _, token := range []string{"one", "two"} {
		write("token", token+"\n")
		if place, err := p.Place(t.Context()); err != nil || place != "the-place" {
			t.Fatalf("got %q, %v", place, err)
		}
		if last := s.seen()[len(s.seen())-1]; !strings.HasSuffix(last, " Bearer "+token) {
			t.Errorf("heard %s", last)
		}
	}
}

func TestListsAreFollowedToTheirEndWithoutContents(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList") {
			http.Error(w, "contents were asked for", http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		next := ""
		if r.URL.Query().Get("continue") == "" {
			next = "more"
		}
		_, _ = fmt.Fprintf(w, `{"kind":"PartialObjectMetadataList","metadata":{"continue":%q},"items":[{"metadata":{"name":"x%s"}}]}`, next, next)
	})
	p := openAt(t, local, s.target())
	var names []string
	err := p.api.List(t.Context(), secretObject, "", "a=b", func(m metav1.ObjectMeta) error {
		names = append(names, m.Name)
		return nil
	})
	if err != nil || strings.Join(names, " ") != "xmore x" {
		t.Errorf("got %v, %v", names, err)
	}
}

func TestADeletionThatWaitsIsNone(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, answer string
		held         bool
	}{
		{name: "a Status", answer: `{"kind":"Status","status":"Success"}`},
		{name: "the object that is gone", answer: `{"kind":"ServiceAccount","metadata":{"name":"x"}}`},
		{name: "the object that waits for a finalizer", answer: `{"kind":"RoleBinding","metadata":{"name":"x","finalizers":["a/b"]}}`, held: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = fmt.Fprint(w, row.answer)
			})
			found, held, err := openAt(t, local, s.target()).api.Delete(t.Context(), key{serviceAccount, "team-a", "x"})
			if err != nil || !found || held != row.held {
				t.Errorf("found %v, held %v, %v", found, held, err)
			}
			if !strings.HasPrefix(s.seen()[0], "DELETE /api/v1/namespaces/team-a/serviceaccounts/x?propagationPolicy=Background&timeout=15s ") {
				t.Errorf("heard %s", s.seen()[0])
			}
		})
	}
}

func TestACutCallSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	k := key{secretObject, "team-a", "x"}
	_, err := openAt(t, local, s.target()).api.Create(ctx, k, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, false)
	wantCode(t, failure("create", err), remote.CodeTimeout)
}
