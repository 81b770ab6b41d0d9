package ssh

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/krl"
)

func listOf(t *testing.T, number uint64, serials ...uint64) []byte {
	t.Helper()
	raw, err := krl.List{Number: number, Generated: time.Now(), CAs: []krl.CA{{Key: newSigner(t).PublicKey().Marshal(), Serials: serials}}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// hostOf is a server's own files, without a server.
func hostOf(t *testing.T) *sshd {
	t.Helper()
	d := &sshd{dir: t.TempDir()}
	d.krl = d.at("pim.krl")
	return d
}

// serve answers every fetch with what it points to.
func serve(t *testing.T, answer *atomic.Pointer[http.HandlerFunc]) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) }))
	t.Cleanup(s.Close)
	return s.URL + "/v1/pim/public/ssh/local/krl"
}

func bytesOf(raw []byte) *http.HandlerFunc {
	f := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write(raw); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
	return &f
}

func status(code int) *http.HandlerFunc {
	f := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(code)
	})
	return &f
}

func TestFetchKeepsTheOldListOnAnyError(t *testing.T) {
	t.Parallel()
	good := listOf(t, 10, 1, 2, 3)
	cutShort := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(good)))
		_, _ = w.Write(good[:len(good)/2]) // the caller notices that the rest does not come
	})
	for name, answer := range map[string]*http.HandlerFunc{
		"not found":                 status(http.StatusNotFound),
		"sealed":                    status(http.StatusServiceUnavailable),
		"a redirect":                status(http.StatusTemporaryRedirect),
		"an empty answer":           bytesOf(nil),
		"a page":                    bytesOf([]byte("<html>please log in to the network</html>")),
		"half an answer":            &cutShort,
		"a list that is cut":        bytesOf(listOf(t, 11, 4, 5, 6)[:60]),
		"a list with a wrong tail":  bytesOf(append(listOf(t, 11, 4), "and more"...)),
		"an older list":             bytesOf(listOf(t, 9, 1)),
		"magic and nothing else":    bytesOf([]byte("SSHKRL\n\x00")),
		"a public key":              bytesOf([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8 x")),
		"a certificate of nonsense": bytesOf(bytes.Repeat([]byte{0}, 4096)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := hostOf(t)
			var now atomic.Pointer[http.HandlerFunc]
			url := serve(t, &now)
			now.Store(bytesOf(good))
			if code, out := d.fetchFrom(t, url); code != 0 {
				t.Fatalf("%d %s", code, out)
			}
			now.Store(answer)
			if code, out := d.fetchFrom(t, url); code != 1 || !strings.Contains(out, "(1 of 3)") {
				t.Errorf("ended with %d: %s", code, out)
			}
			if kept, err := os.ReadFile(d.krl); err != nil || !bytes.Equal(kept, good) {
				t.Errorf("the list was not kept: %v", err)
			}
			left, err := filepath.Glob(d.krl + ".*")
			if err != nil || len(left) != 1 || left[0] != d.krl+".misses" {
				t.Errorf("files are left behind: %v", left)
			}
		})
	}
}

func TestFetchAlarmsAfterMissesInARow(t *testing.T) {
	d := hostOf(t)
	var now atomic.Pointer[http.HandlerFunc]
	url := serve(t, &now)
	step := func(answer *http.HandlerFunc, code int, says string) {
		t.Helper()
		now.Store(answer)
		if got, out := d.fetchFrom(t, url, "PIM_MISSES=2"); got != code || !strings.Contains(out, says) {
			t.Fatalf("ended with %d: %s", got, out)
		}
	}
	first, second := listOf(t, 1, 1), listOf(t, 2, 2)
	step(bytesOf(first), 0, "")
	step(status(http.StatusBadGateway), 1, "(1 of 2)")
	step(status(http.StatusBadGateway), 2, "ALARM")
	step(status(http.StatusBadGateway), 2, "3 times in a row")
	step(bytesOf(second), 0, "")
	if kept, err := os.ReadFile(d.krl); err != nil || !bytes.Equal(kept, second) {
		t.Errorf("the new list is not there: %v", err)
	}
	step(status(http.StatusBadGateway), 1, "(1 of 2)")
	info, err := os.Stat(d.krl)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("sshd has to read it: %v %v", info.Mode(), err)
	}
}

func TestFetchSaysWhenItIsCalledWrongly(t *testing.T) {
	d := hostOf(t)
	for name, url := range map[string]string{
		"no encryption":                        "http://vault.example:8200/v1/pim/public/ssh/local/krl",
		"a host that only looks like this one": "http://127.0.0.1.example/krl",
		"a file":                               "file:///etc/passwd",
		"nothing":                              "",
	} {
		if code, out := d.fetchFrom(t, url); code != 64 {
			t.Errorf("%s: %d %s", name, code, out)
		}
	}
	if _, err := os.Stat(d.krl); !os.IsNotExist(err) {
		t.Error("a list was made of nothing")
	}
}

func TestFetchWithAToken(t *testing.T) {
	d := hostOf(t)
	const token = "hvs.a-token-for-the-list"
	good := listOf(t, 3, 1)
	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != token {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		(*bytesOf(good))(w, r)
	})
	var now atomic.Pointer[http.HandlerFunc]
	now.Store(&guarded)
	url := serve(t, &now)
	if code, _ := d.fetchFrom(t, url); code != 1 {
		t.Errorf("without the token: %d", code)
	}
	write(t, d.at("token"), token+"\n")
	if code, out := d.fetchFrom(t, url, "PIM_TOKEN_FILE="+d.at("token")); code != 0 {
		t.Errorf("with the token: %d %s", code, out)
	}
}
