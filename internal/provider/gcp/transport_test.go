package gcp

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// socketTarget is the usual target with every service at one address.
func (k *kit) socketTarget(address string) contract.Target {
	endpoints := map[string]string{}
	for _, s := range services() {
		endpoints[string(s)] = address + "/" + string(s)
	}
	return k.target(contract.Values{"endpoints": endpoints})
}

// socket opens the provider as it is outside of tests.
func (k *kit) socket(t *testing.T, address string, allowLocal bool) (*Provider, error) {
	t.Helper()
	env := k.env()
	env.AllowLocal = allowLocal
	p, err := open(machine(), env, k.socketTarget(address))
	if err == nil {
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return p, err
}

func TestOverARealSocket(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	server := httptest.NewServer(k.cloud)
	t.Cleanup(server.Close)
	p, err := k.socket(t, server.URL, true)
	if err != nil {
		t.Fatal(err)
	}
	issued, h := k.mustIssue(t, p, ownKey())
	if !k.works(t, issued) {
		t.Error("the key does not work")
	}
	k.mustEnd(t, p, h)
}

func TestNoRedirectIsFollowed(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	var elsewhere atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(thief.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/oauth2/") {
			k.cloud.ServeHTTP(w, r)
			return
		}
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	p, err := k.socket(t, server.URL, true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Place(t.Context())
	wantError(t, err, "HTTP_307", "refused the call")
	if elsewhere.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

func TestAnEndpointOnThisMachineIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := newKit(t).socket(t, "http://127.0.0.1:1", false); err == nil {
		t.Error("an endpoint on this machine was taken")
	}
	wantError(t, failure("read project", remote.ErrLocal), remote.CodeLocal, "PIM_ALLOW_LOCAL")
}

// say answers with a text, all of it.
func say(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoGoogle(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		answer http.HandlerFunc
		code   string
		words  string
	}{
		"a web page": {func(w http.ResponseWriter, _ *http.Request) { say(t, w, "<html>") }, remote.CodeAnswer, "not one of Google's"},
		"half an answer": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				say(t, w, `{"name"`)
			}, remote.CodeAnswer, "not one of Google's",
		},
		"an answer without a number": {func(w http.ResponseWriter, _ *http.Request) { say(t, w, `{"projectId":"prod-access"}`) }, "no_place", "not the project"},
		"another project": {func(w http.ResponseWriter, _ *http.Request) {
			say(t, w, `{"projectId":"other-1","name":"projects/1"}`)
		}, "no_place", "not the project"},
		"an answer without end": {func(w http.ResponseWriter, _ *http.Request) {
			block := []byte(`"` + strings.Repeat("x", 1<<20) + `",`)
			for range maxAnswer>>20 + 2 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, remote.CodeAnswer, "not one of Google's"},
		"a web page as a refusal": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			say(t, w, "<html>upstream-words-of-the-cloud")
		}, "HTTP_502", "could not do it now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/oauth2/") {
					k.cloud.ServeHTTP(w, r)
					return
				}
				row.answer(w, r)
			}))
			t.Cleanup(server.Close)
			env := k.env()
			env.AllowLocal = true
			w := machine()
			w.pace = k.surroundings().pace
			p, err := open(w, env, k.socketTarget(server.URL))
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Place(t.Context())
			wantError(t, err, row.code, row.words)
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatCannotBeReached(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	p, err := k.socket(t, server.URL, true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Place(t.Context())
	wantError(t, err, remote.CodeUnreachable, "could not be reached")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.Place(ctx)
	wantError(t, err, remote.CodeTimeout, "in the time there was")
	plain := httptest.NewUnstartedServer(http.NotFoundHandler())
	plain.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of our refusal
	plain.StartTLS()
	t.Cleanup(plain.Close)
	p, err = k.socket(t, plain.URL, true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Place(t.Context())
	wantError(t, err, remote.CodeCertificate, "no certificate that can be trusted")
}
