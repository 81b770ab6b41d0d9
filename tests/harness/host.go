package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// startBound is how long a host may take until it answers; on a busy machine a
// Raft election is part of it.
const startBound = 60 * time.Second

// Options says how a host is started.
type Options struct {
	LogLevel string   // of the host; "debug" if empty
	Env      []string // further KEY=value for the host process, which its plugins inherit
	// Of StartNode only.
	RaftLines   string // further lines of the storage stanza
	InMemory    bool   // storage in memory instead of Raft: nothing survives Kill
	AuditSocket string // host:port that takes the audit entries, instead of a file
}

// Host is one running host process, in development mode or as a node of a
// Cluster.
type Host struct {
	Addr    string // http://127.0.0.1:port
	Bin     string // server and command line
	OpenBao bool   // otherwise Vault

	root string // of the repository
	dir  string
	proc *process
	site *site

	options Options  // that it was started with
	args    []string // of the server
	groups  []int    // process groups of killed processes, which their plugins may live in
}

// site is what all nodes of one cluster share; a host in development mode has one
// of its own.
type site struct {
	auditFile   string
	auditSocket string // instead of the file, unless it is empty
	rootToken   string
	unsealKey   string // none in development mode
	plugins     string // the directory that plugins are loaded from

	mu   sync.Mutex
	sums map[Variant]string // what is in plugins → its sha256
	auth map[string]string  // path of an enabled auth method → its accessor

	contracts sync.Map // path of a mount of the plugin → its API, an *openapi.Document
}

// Main starts a host, stores it in *host, runs the tests and stops it. It
// returns what TestMain passes to os.Exit: 1 too when the plugin raced.
func Main(m *testing.M, host **Host, o Options) int {
	// These tests wait for processes far more than they compute. -parallel on the
	// command line is read later and wins.
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	h, err := Start(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	*host = h
	code := m.Run()
	if err := h.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	return code
}

// Start runs a host in development mode. The caller stops it.
func Start(o Options) (*Host, error) {
	h, err := prepare()
	if err != nil {
		return nil, err
	}
	h.site.rootToken = "root-" + short()
	// Another process may take the port between finding and using it.
	for range 3 {
		if err = h.startDev(o); err == nil {
			break
		}
		if h.proc != nil {
			err = errors.Join(err, h.proc.stop(syscall.SIGKILL))
		}
	}
	if err == nil {
		err = h.enableAudit()
	}
	if err != nil {
		return nil, errors.Join(err, h.Stop())
	}
	return h, nil
}

// prepare finds the binary and makes the directories; nothing runs yet.
func prepare() (*Host, error) {
	root, err := RepoRoot()
	if err != nil {
		return nil, err
	}
	bin, err := script(root, "host.sh")
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(context.Background(), bin, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s version: %w", bin, err)
	}
	dir, err := os.MkdirTemp("", "pim-host-")
	if err != nil {
		return nil, err
	}
	h := &Host{
		Bin: bin, OpenBao: strings.HasPrefix(string(version), "OpenBao"), root: root, dir: dir,
		site: &site{
			auditFile: filepath.Join(dir, "audit.log"), plugins: filepath.Join(dir, "plugins"),
			sums: map[Variant]string{}, auth: map[string]string{},
		},
	}
	for _, sub := range []string{"home", "plugins", "race"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *Host) startDev(o Options) error {
	ports, err := FreePorts(1)
	if err != nil {
		return err
	}
	listen := fmt.Sprintf("127.0.0.1:%d", ports[0])
	config := filepath.Join(h.dir, "host.hcl")
	text := fmt.Sprintf("plugin_directory = %q\ndisable_clustering = true\n%s", h.site.plugins, h.auditStanza())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	h.Addr = "http://" + listen
	return h.run(o, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id="+h.site.rootToken,
		"-dev-listen-address="+listen, "-config="+config)
}

// run starts the server process and waits until it answers.
func (h *Host) run(o Options, args ...string) error {
	level := o.LogLevel
	if level == "" {
		level = "debug"
	}
	cmd := exec.CommandContext(context.Background(), h.Bin, append(args, "-log-level="+level)...)
	cmd.Dir = h.dir
	cmd.Env = append([]string{
		"HOME=" + filepath.Join(h.dir, "home"), "PATH=" + os.Getenv("PATH"),
		// The plugin inherits this: where its race detector reports to.
		"GORACE=log_path=" + filepath.Join(h.dir, "race", "report"),
		// So does the Faults variant: how its clock is moved, and what its storage refuses.
		"PIM_CLOCK_FILE=" + h.clockFile(), "PIM_STORAGE_FILE=" + h.storageFile(),
	}, o.Env...)
	h.options, h.args = o, args
	proc, err := startProcess(filepath.Join(h.dir, "host.log"), cmd)
	if err != nil {
		return err
	}
	h.proc = proc
	err = poll.Within(startBound, func() error {
		if err := proc.running(); err != nil {
			return nil //nolint:nilerr // looked at again below: waiting on is pointless
		}
		_, err := h.Anonymous().Do(context.Background(), http.MethodGet, "sys/seal-status", nil, nil)
		return err
	})
	if err := errors.Join(err, proc.running()); err != nil {
		return fmt.Errorf("the host does not answer: %w\n%s", err, proc.tail(0, 30))
	}
	return nil
}

// auditStanza is how OpenBao takes its audit device; Vault takes it by API.
func (h *Host) auditStanza() string {
	switch {
	case !h.OpenBao:
		return ""
	case h.site.auditSocket != "":
		return fmt.Sprintf("audit \"socket\" \"socket\" {\n  options = { address = %q, socket_type = \"tcp\" }\n}\n", h.site.auditSocket)
	}
	return fmt.Sprintf("audit \"file\" \"file\" {\n  options = { file_path = %q }\n}\n", h.site.auditFile)
}

func (h *Host) enableAudit() error {
	if h.OpenBao {
		return nil
	}
	if h.site.auditSocket != "" {
		return h.admin(http.MethodPut, "sys/audit/socket", map[string]any{
			"type": "socket", "options": map[string]string{"address": h.site.auditSocket, "socket_type": "tcp"},
		})
	}
	return h.admin(http.MethodPut, "sys/audit/file", map[string]any{
		"type": "file", "options": map[string]string{"file_path": h.site.auditFile},
	})
}

// admin does as root what no test looks at; anything but success is an error.
func (h *Host) admin(method, path string, body any) error {
	answer, err := h.Root().Do(context.Background(), method, path, body, nil)
	if err == nil && answer.Status/100 != 2 {
		err = fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
	}
	return err
}

// Root is the operator with the root token.
func (h *Host) Root() Actor { return Actor{Name: "root", Token: h.site.rootToken, host: h} }

// Anonymous has no token.
func (h *Host) Anonymous() Actor { return Actor{Name: "anonymous", host: h} }

// Log returns all that the host and its plugins have logged.
func (h *Host) Log() (string, error) {
	raw, err := os.ReadFile(filepath.Join(h.dir, "host.log"))
	return string(raw), err
}

// Audit returns the audit file as it is now.
func (h *Host) Audit() (string, error) {
	raw, err := os.ReadFile(h.site.auditFile)
	return string(raw), err
}

// Stop ends the host and removes its files. Data races of the plugin are an
// error.
func (h *Host) Stop() error {
	return errors.Join(h.halt(), h.reapGroups(), h.races(), os.RemoveAll(h.dir))
}

// halt ends the process; its files stay.
func (h *Host) halt() error {
	if h.proc == nil {
		return nil
	}
	return h.proc.stop(syscall.SIGTERM)
}

func (h *Host) races() error {
	reports, err := filepath.Glob(filepath.Join(h.dir, "race", "*"))
	if err != nil || len(reports) == 0 {
		return err
	}
	raw, err := os.ReadFile(reports[0])
	return errors.Join(fmt.Errorf("the plugin has data races, the first report is:\n%s", raw), err)
}

// showLogOnFailure prints what the host logged during a test that failed.
func (h *Host) showLogOnFailure(t testing.TB) {
	t.Helper()
	from := h.proc.size()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the host's log during this test:\n%s", h.proc.tail(from, 60))
		}
	})
}
