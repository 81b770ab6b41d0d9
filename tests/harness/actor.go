package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// Actor speaks to one host with one token.
type Actor struct {
	Name  string // for messages
	Token string
	host  *Host
}

// requestBound ends a call that hangs; no answer of the host takes that long.
const requestBound = 90 * time.Second

// A client of its own: no proxy of the environment, no redirects followed, no
// retries. All actors share its connections.
//
//nolint:gochecknoglobals // one pool of connections for the whole run
var httpClient = &http.Client{
	Timeout:       requestBound,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Do sends one request exactly as given and returns exactly what comes back.
// path has no leading slash and may carry a query; body is sent as JSON unless
// it is nil. header may be nil.
func (a Actor) Do(ctx context.Context, method, path string, body any, header http.Header) (Answer, error) {
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return Answer{}, err
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.host.Addr+"/v1/"+path, payload)
	if err != nil {
		return Answer{}, err
	}
	maps.Copy(req.Header, header)
	if a.Token != "" {
		req.Header.Set("X-Vault-Token", a.Token)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return Answer{}, err
	}
	raw, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return parseAnswer(a.Name+": "+method+" "+path, resp.StatusCode, resp.Header, raw), nil
}

func (a Actor) must(t testing.TB, method, path string, body any) Answer {
	t.Helper()
	answer, err := a.Do(t.Context(), method, path, body, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.host.asDeclared(t, method, path, answer)
	return answer
}

// Read is what vault read does.
func (a Actor) Read(t testing.TB, path string) Answer {
	t.Helper()
	return a.must(t, http.MethodGet, path, nil)
}

// Write is what vault write does.
func (a Actor) Write(t testing.TB, path string, data map[string]any) Answer {
	t.Helper()
	if data == nil {
		data = map[string]any{}
	}
	return a.must(t, http.MethodPut, path, data)
}

// List is what vault list does.
func (a Actor) List(t testing.TB, path string) Answer {
	t.Helper()
	return a.must(t, "LIST", path, nil)
}

// Delete is what vault delete does.
func (a Actor) Delete(t testing.TB, path string) Answer {
	t.Helper()
	return a.must(t, http.MethodDelete, path, nil)
}

// With is the same host under another token, for example one that pim issued.
func (a Actor) With(name, token string) Actor { return Actor{Name: name, Token: token, host: a.host} }

// At is the same token at another node of the cluster.
func (a Actor) At(node *Host) Actor { return Actor{Name: a.Name, Token: a.Token, host: node} }

// Host is the host, or the node, that this actor speaks to.
func (a Actor) Host() *Host { return a.host }

// Client is the official client of this actor, with retries off.
func (a Actor) Client(t testing.TB) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	config.Address = a.host.Addr
	config.MaxRetries = 0
	config.HttpClient = httpClient
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	client.SetToken(a.Token)
	return client
}

// Printed is what a command printed and how it ended.
type Printed struct {
	Stdout, Stderr string
	Code           int // exit code
}

// CLI runs the host's own command line as this actor, with nothing else in its
// environment.
func (a Actor) CLI(t testing.TB, args ...string) Printed {
	t.Helper()
	return RunPrinted(t, a.Command(t, args...))
}

// RunPrinted runs a command that ends by itself. Any exit code is fine.
func RunPrinted(t testing.TB, cmd *exec.Cmd) Printed {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return Printed{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// Command prepares the host's own command line as this actor, for commands that
// keep running, such as agent. It ends with the test.
func (a Actor) Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), a.host.Bin, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{
		"HOME=" + cmd.Dir, "PATH=" + os.Getenv("PATH"),
		"VAULT_ADDR=" + a.host.Addr, "VAULT_TOKEN=" + a.Token,
		"BAO_ADDR=" + a.host.Addr, "BAO_TOKEN=" + a.Token,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(cmd.SysProcAttr)
	return cmd
}
