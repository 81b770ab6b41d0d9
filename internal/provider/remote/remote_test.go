package remote_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// data is a provider's own part of a handle.
type data struct {
	Kind string `json:"k"`
	Key  string `json:"y,omitempty"`
}

func (d data) sane() bool { return d.Kind != "" && !strings.Contains(d.Key, "/") }

const credential = domain.CredentialID("01jn8q5zk00000000000000000")

func own() domain.Handle {
	return domain.Handle{Provider: "cloud", V: 1, Target: "prod", Place: "here", Credential: credential}
}

func wantCode(t *testing.T, err error, code, words string) {
	t.Helper()
	e, ok := errors.AsType[*contract.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Public, words) {
		t.Errorf("wanted %s (%s), got %v", code, words, err)
	}
}

func TestAHandleIsReadOnlyIfItIsOurs(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*domain.Handle)
		words  string // "" = it is taken
	}{
		"as it was written":                {func(*domain.Handle) {}, ""},
		"of another place":                 {func(h *domain.Handle) { h.Place = "there" }, ""}, // Prove refuses it
		"of another provider":              {func(h *domain.Handle) { h.Provider = "host" }, "is of another target"},
		"of another target":                {func(h *domain.Handle) { h.Target = "stage" }, "is of another target"},
		"of a newer version":               {func(h *domain.Handle) { h.V = 2 }, "was written by a newer version of the plugin"},
		"without a credential":             {func(h *domain.Handle) { h.Credential = "" }, "names no credential"},
		"with a field that is not known":   {func(h *domain.Handle) { h.Data = []byte(`{"k":"key","z":1}`) }, "is not readable"},
		"with data that is no object":      {func(h *domain.Handle) { h.Data = []byte(`{"k":`) }, "is not readable"},
		"with a part that leads elsewhere": {func(h *domain.Handle) { h.Data = []byte(`{"k":"key","y":"../x"}`) }, "is not readable"},
	} {
		h, err := remote.WithData(own(), data{Kind: "key", Key: "7"})
		if err != nil || string(h.Data) != `{"k":"key","y":"7"}` {
			t.Fatalf("%s, %v", h.Data, err)
		}
		row.change(&h)
		got, err := remote.ReadData("read", own(), h, data.sane)
		switch {
		case row.words != "":
			wantCode(t, err, "bad_handle", "the handle "+row.words)
		case err != nil || got != data{Kind: "key", Key: "7"}:
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestWhatIsLearntIsNotedOnce(t *testing.T) {
	t.Parallel()
	var saved []string
	save := func(h domain.Handle) error { saved = append(saved, string(h.Data)); return nil }
	learn := func(d *data) { d.Key = "7" }
	h, d, err := remote.Note(own(), data{Kind: "key"}, learn, save)
	if err != nil || d.Key != "7" || string(h.Data) != `{"k":"key","y":"7"}` {
		t.Fatalf("%+v, %s, %v", d, h.Data, err)
	}
	if _, _, err = remote.Note(h, d, learn, save); err != nil || len(saved) != 1 {
		t.Errorf("%d checkpoints, %v", len(saved), err)
	}
	full := errors.New("storage is full")
	_, d, err = remote.Note(own(), data{Kind: "key"}, learn, func(domain.Handle) error { return full })
	if !errors.Is(err, full) || d.Key != "" {
		t.Errorf("what could not be noted counts as noted: %+v, %v", d, err)
	}
}

// placed is a provider that knows nothing but its place.
type placed struct {
	contract.Provider
	place string
	err   error
}

func (p placed) Place(context.Context) (string, error) { return p.place, p.err }

func TestThePlaceIsProved(t *testing.T) {
	t.Parallel()
	silent := errors.New("silent")
	for name, row := range map[string]struct {
		p              placed
		pinned, wanted string
		err            error
	}{
		"it is the one":              {placed{place: "here"}, "here", "here", nil},
		"the target moved":           {placed{place: "there"}, "here", "here", contract.ErrPlace},
		"the handle is of another":   {placed{place: "here"}, "here", "there", contract.ErrPlace},
		"the target does not say":    {placed{err: silent}, "here", "here", silent},
		"another place is not asked": {placed{err: silent}, "here", "there", contract.ErrPlace},
	} {
		if err := remote.Prove(t.Context(), "issue", row.p, row.pinned, row.wanted); !errors.Is(err, row.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAbsentIsLookedForAgainUntilNothingIsOnItsWay(t *testing.T) {
	t.Parallel()
	begun := domain.TimeOf(string(credential))
	last := begun.Add(time.Minute)
	for age, want := range map[time.Duration]time.Duration{ // since the plan; 0 = final
		0: 2 * time.Second, time.Second: 3 * time.Second, 20 * time.Second: 40 * time.Second, 40 * time.Second: time.Minute, time.Minute: 0,
	} {
		ended := remote.LookAgain(own(), begun.Add(age), last)
		if !ended.AccessGone || ended.Done() != (want == 0) || (want > 0 && !ended.Again.Equal(begun.Add(want))) {
			t.Errorf("after %s: %+v", age, ended)
		}
	}
}

func TestASecretIsKeptUntilItIsDropped(t *testing.T) {
	t.Parallel()
	var u remote.Unready[string]
	has := func(id domain.CredentialID, want bool) {
		t.Helper()
		if s, ok := u.Get(id); ok != want || ok != (s != "") {
			t.Errorf("%s: %q, %v", id, s, ok)
		}
	}
	u.Drop("a")
	has("a", false)
	u.Put("a", "one")
	u.Put("b", "two")
	u.Drop("a")
	has("a", false)
	has("b", true)
	u.Clear()
	has("b", false)
}

func TestAFileIsBelowItsRoot(t *testing.T) {
	t.Parallel()
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "key")
	for path, text := range map[string]string{filepath.Join(root, "key"): "inside", outside: "outside"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		root, file string
		below      bool
		text       string // "" = it cannot be read
	}{
		"a name":                  {root, "key", true, "inside"},
		"its whole path":          {root, filepath.Join(root, "key"), true, "inside"},
		"a link that leads out":   {root, "link", true, ""},
		"one that is not there":   {root, "other", true, ""},
		"a name that leads out":   {root, "../key", false, ""},
		"a whole path outside":    {root, outside, false, ""},
		"no name":                 {root, "", false, ""},
		"a name where no root is": {"", "key", false, ""},
	} {
		f, ok := remote.FileBelow(row.root, row.file)
		if ok != row.below {
			t.Errorf("%s: %v", name, ok)
		}
		if !ok {
			continue
		}
		raw, err := f.Read()
		if string(raw) != row.text || (err == nil) != (row.text != "") || (err != nil && strings.Contains(err.Error(), root)) {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
	if raw, err := (remote.File{Path: outside}).Read(); err != nil || string(raw) != "outside" {
		t.Errorf("a trusted path: %q, %v", raw, err)
	}
	if _, err := (remote.File{Path: outside + "x"}).Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a trusted path that leads nowhere: %v", err)
	}
}

func TestThePrincipalIsOneName(t *testing.T) {
	t.Parallel()
	alias := func(accessor, name string) domain.Alias { return domain.Alias{MountAccessor: accessor, Name: name} }
	who := domain.Entity{
		Metadata: map[string]string{"mail": "alice@example.com", "": "nobody"},
		Aliases:  []domain.Alias{alias("oidc", "alice"), alias("twice", "a"), alias("twice", "b"), alias("", "nobody")},
	}
	for source, want := range map[string]string{
		"alias:oidc": "alice", "metadata:mail": "alice@example.com",
		"alias:none": "your identity has no name there: log in the way", "metadata:none": "your identity has no name there: log in the way",
		"alias:twice": "your identity has several names there, and nothing says",
	} {
		var report contract.Report
		s := remote.ReadPrincipalSource(contract.Values{"principal_source": source}, &report)
		if !report.OK() || s.Missing() {
			t.Errorf("%s: %v", source, report.Problems)
		}
		got, err := s.Principal(who, "name there", "names there")
		if err != nil {
			wantCode(t, err, "no_principal", want)
		} else if got != want {
			t.Errorf("%s: %q", source, got)
		}
	}
	for _, bad := range []string{"", "oidc", "alias:", "metadata:", "name:oidc", "alias:a b", "alias:ä", "alias:" + strings.Repeat("x", 257)} {
		var report contract.Report
		if s := remote.ReadPrincipalSource(contract.Values{"principal_source": bad}, &report); !s.Missing() || report.Fields() != "principal_source" {
			t.Errorf("%q was taken: %v", bad, report)
		}
	}
}

func TestACallSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	const product = "vault-plugin-secrets-pim"
	ctx := t.Context()
	marked := remote.Marked(ctx, "c1", "r1")
	for want, ctx := range map[string]context.Context{
		product + " credential/c1 request/r1": marked, product + " credential/c2": remote.Marked(marked, "c2", ""),
	} {
		if got := remote.UserAgent(ctx); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	if remote.UserAgent(ctx) != product || remote.UserAgent(remote.Unmarked(marked)) != product {
		t.Error("a call for nobody names somebody")
	}
}

func TestAFailureIsToldInOurWords(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		err         error
		code, words string
		refused     bool
	}{
		"this machine":      {remote.ErrLocal, remote.CodeLocal, "PIM_ALLOW_LOCAL", true},
		"no time":           {context.DeadlineExceeded, remote.CodeTimeout, "the cloud did not answer in the time there was", false},
		"cut short":         {context.Canceled, remote.CodeTimeout, "the cloud did not answer in the time there was", false},
		"no time to read":   {os.ErrDeadlineExceeded, remote.CodeTimeout, "the cloud did not answer in the time there was", false},
		"a bad certificate": {&tls.CertificateVerificationError{Err: errors.New("theirs")}, remote.CodeCertificate, "can be trusted", true},
		"no TLS":            {tls.RecordHeaderError{Msg: "theirs"}, remote.CodeCertificate, "can be trusted", true},
		"a strange answer":  {remote.ErrAnswer, remote.CodeAnswer, "the answer is not one of the cloud's", false},
		"a long answer":     {remote.ErrTooLong, remote.CodeAnswer, "the answer is not one of the cloud's", false},
		"something else":    {&json.SyntaxError{}, remote.CodeUnreachable, "the cloud could not be reached", false},
	} {
		e := remote.Unanswered("read", "the cloud", row.err)
		wantCode(t, e, row.code, row.words)
		if e.Refused != row.refused || strings.Contains(e.Cause.Error(), "theirs") {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if remote.WithoutText(nil) != nil {
		t.Error("no error became one")
	}
	if !remote.IsOwnIdentity(contract.Refused("issue", remote.CodeOwnIdentity, "it is us")) || remote.IsOwnIdentity(remote.ErrLocal) {
		t.Error("the engine's own identity is not told apart")
	}
}

// get calls an address over the real way and tells the answer's status.
func get(t *testing.T, way http.RoundTripper, address string) (int, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := remote.NewClient(way).Do(r)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestTheWayLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	strange := httptest.NewUnstartedServer(http.NotFoundHandler())
	strange.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of our refusal
	strange.StartTLS()
	t.Cleanup(strange.Close)
	for name, row := range map[string]struct {
		env     contract.Env
		onLink  bool
		address string
		code    string // "" = the answer comes, and its redirect is not followed
	}{
		"this machine":                       {contract.Env{}, false, server.URL, remote.CodeLocal},
		"this machine where it is permitted": {contract.Env{AllowLocal: true}, false, server.URL, ""},
		"the metadata service":               {contract.Env{}, true, server.URL, ""},
		"a certificate of nobody's":          {contract.Env{AllowLocal: true}, false, strange.URL, remote.CodeCertificate},
		"where nobody listens":               {contract.Env{AllowLocal: true}, false, "http://127.0.0.1:1", remote.CodeUnreachable},
	} {
		status, err := get(t, remote.CloudTransport(row.env, row.onLink), row.address)
		if row.code != "" {
			wantCode(t, remote.Unanswered("read", "the cloud", err), row.code, "")
		} else if err != nil || status != http.StatusTemporaryRedirect {
			t.Errorf("%s: %d, %v", name, status, err)
		}
	}
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "169.254.169.254": true, "fe80::1": true,
		"0.0.0.0": true, "ff02::1": true, "20.190.128.1": false, "example.com": false,
	} {
		if remote.IsLocalName(host) != want {
			t.Errorf("%s is local: %v", host, !want)
		}
	}
}

func TestWaitingEndsWithTheCaller(t *testing.T) {
	t.Parallel()
	clk := clock.NewManual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- remote.ClockPace(ctx, clk, time.Hour) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := remote.ClockPace(t.Context(), clk, 0); err != nil {
		t.Errorf("a wait of nothing: %v", err)
	}
}
