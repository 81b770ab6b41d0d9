package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// agents is how docs/agent.md says that applications get their credentials: the
// host's own Agent, with the page's configuration, under a supervisor that does
// what the page's unit says.
type agents struct {
	*cast
	v      *vaultScene
	role   string
	login  *harness.AppRole
	config string // file
	run    string // the runtime directory: gone whenever the Agent is not running
	log    string // file
}

// The page promises the file within ten seconds of the approval, and its end within
// forty of the last refused read; a busy machine may take longer to start an Agent.
const (
	appears = 30 * time.Second
	isGone  = 90 * time.Second
)

// newAgents writes everything that the page names. query goes with the path in the
// template, fields change the page's role.
func newAgents(t *testing.T, v *vaultScene, role, query string, fields map[string]any) *agents {
	t.Helper()
	dir := t.TempDir()
	g := &agents{cast: v.cast(t), v: v, role: role, config: filepath.Join(dir, "agent.hcl"), run: filepath.Join(dir, "run"), log: filepath.Join(dir, "agent.log")}
	creds := g.path("creds/" + role)
	policy := replaced(t, docBlock(t, "agent.md", "## The policy of the Agent's login"), map[string]string{
		"pim/creds/orders": creds, "pim/request/orders": g.path("request/" + role),
	})
	g.login = host.AppRole(t, "orders", "20m", host.Policy(t, "orders", policy))

	var body map[string]any
	if err := json.Unmarshal([]byte(docBlock(t, "agent.md", "## The role")), &body); err != nil {
		t.Fatal(err)
	}
	delete(body, "path") // a token costs less to make than a database user
	body["token_policies"] = v.policy
	body["eligible_entities"] = replaced(t, fmt.Sprint(body["eligible_entities"]), map[string]string{
		"ACCESSOR": accessorOf(t, "approle/"), "ROLE_ID": g.login.RoleID,
	})
	body["approver_groups"], body["eligible_groups"] = g.approver.Name, ""
	maps.Copy(body, fields)
	g.cast.role(t, role, body).OK(t)

	for name, value := range map[string]string{"role_id": g.login.RoleID, "secret_id": g.login.SecretID} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := replaced(t, docBlock(t, "agent.md", "## The Agent"), map[string]string{
		"https://vault.example.com:8200": host.Addr, "/etc/orders": dir, "/run/orders": g.run, "pim/creds/orders": creds + query,
		"username={{ .Data.username }}": "token={{ .Data.token }}", "password={{ .Data.password }}\n": "",
	})
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

func accessorOf(t *testing.T, mount string) string {
	t.Helper()
	info, ok := host.Root().Read(t, "sys/auth").OK(t).Data[mount].(map[string]any)
	if !ok {
		t.Fatalf("no auth mount %s", mount)
	}
	return fmt.Sprint(info["accessor"])
}

// supervise runs the Agent as the page's unit does, until the test ends.
func (g *agents) supervise(t *testing.T) {
	t.Helper()
	unit := docBlock(t, "agent.md", "## Its supervisor")
	for _, line := range []string{"Restart=always", "RuntimeDirectory=orders", "RestartSec=5", "vault agent -config=/etc/orders/agent.hcl"} {
		if !strings.Contains(unit, line) {
			t.Fatalf("the unit lacks %q, which this supervisor does:\n%s", line, unit)
		}
	}
	log, err := os.Create(g.log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			if err := g.once(t, ctx, log); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the Agent's log:\n%s", g.logged(t))
		}
	})
}

// once is one life of the Agent and of its runtime directory.
func (g *agents) once(t *testing.T, ctx context.Context, log *os.File) error { //nolint:revive // the test's own context ends too early
	if err := os.Mkdir(g.run, 0o700); err != nil {
		return err
	}
	cmd := host.Anonymous().Command(t, "agent", "-config="+g.config) //nolint:contextcheck // it ends with the test in any case
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	stopped := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stopped()
	_ = cmd.Wait() // it ends with an error when it gives up
	return os.RemoveAll(g.run)
}

func (g *agents) logged(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// file is what the application would read; "" when there is no file.
func (g *agents) file() (string, error) {
	raw, err := os.ReadFile(filepath.Join(g.run, "credentials"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(raw), err
}

var rendered = regexp.MustCompile(`^\ntoken=(\S+)\nvalid_until=(\S+)\n$`)

// watch looks at the file all the time and fails the test if it ever holds anything
// but a whole credential.
func (g *agents) watch(t *testing.T) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if text, err := g.file(); err != nil || text != "" && (!rendered.MatchString(text) || strings.Contains(text, "<no value>")) {
				t.Errorf("the application reads %q (%v)", text, err)
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

// token waits until the file holds another token than the one before, and returns it.
func (g *agents) token(t *testing.T, before string) string {
	t.Helper()
	var token string
	poll.Until(t, appears, func() error {
		text, err := g.file()
		if err != nil {
			return err
		}
		m := rendered.FindStringSubmatch(text)
		if m == nil || m[1] == before {
			return fmt.Errorf("no new credential in the file: %d bytes", len(text))
		}
		if until, err := time.Parse(time.RFC3339, m[2]); err != nil || until.IsZero() {
			return fmt.Errorf("valid_until=%s", m[2])
		}
		token = m[1]
		return nil
	})
	return token
}

// gone waits until there is no file.
func (g *agents) gone(t *testing.T) {
	t.Helper()
	poll.Until(t, isGone, func() error {
		text, err := g.file()
		if err == nil && text != "" {
			err = fmt.Errorf("the file is still there: %d bytes", len(text))
		}
		return err
	})
}

// requests are those for the Agent's role, whatever their state.
func (g *agents) requests(t *testing.T) []harness.Answer {
	t.Helper()
	var mine []harness.Answer
	for _, id := range host.Root().List(t, g.path("audit/requests/")).Keys(t) {
		if request := host.Root().Read(t, g.path("audit/requests/"+id)).OK(t); request.Data["role"] == g.role {
			mine = append(mine, request)
		}
	}
	return mine
}

// only returns the one request that exists.
func (g *agents) only(t *testing.T, state string) harness.Answer {
	t.Helper()
	all := g.requests(t)
	if len(all) != 1 || all[0].Data["state"] != state {
		t.Fatalf("want one request, %s; there are %d: %v", state, len(all), all)
	}
	return all[0]
}

// refusals counts how often the Agent was refused so far.
func (g *agents) refusals(t *testing.T, text string) int {
	t.Helper()
	return strings.Count(g.logged(t), text)
}

// wait is for the n-th refusal of a kind.
func (g *agents) wait(t *testing.T, text string, n int) {
	t.Helper()
	poll.Until(t, settles, func() error {
		if got := g.refusals(t, text); got < n {
			return fmt.Errorf("the Agent was told %q %d times, want %d", text, got, n)
		}
		return nil
	})
}

// approved is bob's decision on the one request.
func (g *agents) approved(t *testing.T) (id string) {
	t.Helper()
	request := g.only(t, "pending")
	id = request.String(t, "request_id")
	g.approve(t, id, request.String(t, "digest"))
	return id
}

func TestAgent(t *testing.T) {
	t.Parallel()
	v := newVaultScene(t)
	t.Run("writes the file once it is approved, replaces it, and removes it when the window ends", func(t *testing.T) {
		t.Parallel()
		g := newAgents(t, v, "window", "", map[string]any{"ttl": "25s", "lease_ttl": "10s", "min_ttl": "5s"})
		g.watch(t)
		g.supervise(t)
		g.wait(t, "approval pending: request ", 4)
		if text, err := g.file(); text != "" || err != nil {
			t.Fatalf("there is a file before the approval: %q (%v)", text, err)
		}
		g.approved(t)
		first := g.token(t, "")
		if !v.reads(t, first) {
			t.Error("the credential in the file does not work")
		}
		second := g.token(t, first)
		if !v.reads(t, second) {
			t.Error("the second credential in the file does not work")
		}
		g.gone(t)
		g.only(t, "ended")
		v.dies(t, second)
		g.wait(t, "no active grant: the access of request ", 1)
		g.asksAgain(t)
		host.NoTrace(t, first)
	})
	t.Run("removes the file at the end of the lease when the grant is ended early", func(t *testing.T) {
		t.Parallel()
		g := newAgents(t, v, "early", "", map[string]any{"ttl": "10m", "lease_ttl": "10s", "min_ttl": "5s"})
		g.watch(t)
		g.supervise(t)
		g.wait(t, "approval pending: request ", 1)
		id := g.approved(t)
		token := g.token(t, "")
		g.bob.Write(t, g.path("grants/"+id+"/revoke"), map[string]any{"reason": "enough"}).OK(t)
		v.dies(t, token)
		g.gone(t)
		g.only(t, "revoked")
	})
	t.Run("files nothing again when it is denied", func(t *testing.T) {
		t.Parallel()
		g := newAgents(t, v, "denied", "?justification=nightly+import", map[string]any{"require_justification": true})
		g.watch(t)
		g.supervise(t)
		g.wait(t, "approval pending: request ", 1)
		request := g.only(t, "pending")
		if why := request.String(t, "why"); why != "nightly import" {
			t.Errorf("the request says %q", why)
		}
		g.bob.Write(t, g.path("approvals/"+request.String(t, "request_id")), map[string]any{"decision": "deny"}).OK(t)
		g.wait(t, "access denied: request ", 3)
		g.only(t, "denied")
	})
	t.Run("cannot be given a role that it could never read", func(t *testing.T) {
		t.Parallel()
		c := v.cast(t)
		c.role(t, "never", v.tokens(map[string]any{"auto_request": true, "wrap_ttl": "1m"})).
			Refused(t, http.StatusBadRequest, "invalid input: wrap_ttl: ")
	})
}

// asksAgain files a second request with the Agent's own login; once it is approved
// the Agent goes on by itself.
func (g *agents) asksAgain(t *testing.T) {
	t.Helper()
	asked := g.login.LogIn(t).Write(t, g.path("request/"+g.role), nil).OK(t)
	g.approve(t, asked.String(t, "request_id"), asked.String(t, "digest"))
	if again := g.token(t, ""); !g.v.reads(t, again) {
		t.Error("the credential of the second grant does not work")
	}
	if all := g.requests(t); len(all) != 2 {
		t.Errorf("there are %d requests, want 2", len(all))
	}
}
