package gcp

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

const (
	robot     = "deployer@prod-access.iam.gserviceaccount.com"
	engine    = "pim-engine@engine-home.iam.gserviceaccount.com"
	policy    = "cloudresourcemanager/projects/prod-access"
	place     = "111111111111"
	aliceMail = "alice@example.com"
	// endBound is how long an end may take: two ticks of the reaper, and a
	// process that starts anew.
	endBound = 60 * time.Second
)

type args = map[string]any

var host *harness.Host

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// These tests wait far more than they compute. -parallel on the command line
	// is read later and wins.
	if err := flag.Set("test.parallel", "12"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if host != nil {
		if err := host.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the host:", err)
			return 1
		}
	}
	return code
}

var startHost = sync.OnceValue(func() error {
	var err error
	host, err = harness.Start(harness.Options{})
	return err
})

var discovery = sync.OnceValues(func() (*fakegcp.Discovery, error) { return fakegcp.LoadDiscovery("../..") })

// cloud is Google on a socket, with the accounts that the tests use.
type cloud struct {
	*fakegcp.Cloud
	url string
	key string // of the engine's account
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{Cloud: fakegcp.New(clock.System{})}
	c.AddFolder("folders/77", "organizations/42")
	c.AddProject("prod-access", place, "folders/77")
	c.AddProject("engine-home", "333333333333", "folders/77")
	c.AddAccount("engine-home", engine)
	c.AddAccount("prod-access", robot)
	var err error
	if c.key, err = c.RootKey(engine); err != nil {
		t.Fatal(err)
	}
	d, err := discovery()
	if err != nil {
		t.Fatal(err)
	}
	c.Observe = func(s fakegcp.Seen) {
		if slices.Contains(fakegcp.Undescribed(), s.Service) {
			return
		}
		if _, wrong := d.Judge(s); len(wrong) > 0 {
			t.Errorf("%s %s: %v", s.Method, s.Path, wrong)
		}
	}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// endpoints leads every service to the cloud.
func (c *cloud) endpoints(change map[string]string) map[string]string {
	out := map[string]string{}
	for _, s := range []string{
		"cloudkms", "cloudresourcemanager", "iam", "iamcredentials", "metadata", "oauth2", "run", "secretmanager", "storage", "sts",
	} {
		out[s] = c.url + "/" + s
	}
	maps.Copy(out, change)
	return out
}

// office is a harness.Office with a cloud of its own as its target.
type office struct {
	*cloud
	*harness.Office
}

func newOffice(t *testing.T) *office {
	t.Helper()
	return newOfficeAs(t, newCloud(t), harness.Plugin{})
}

// newOfficeAs mounts the plugin beside others that may have the same cloud;
// those with the same environment share a process.
func newOfficeAs(t *testing.T, c *cloud, plugin harness.Plugin) *office {
	t.Helper()
	if err := startHost(); err != nil {
		t.Fatal(err)
	}
	o := &office{cloud: c, Office: host.Mount(t, plugin).Office(t)}
	host.Root().Write(t, "identity/entity/id/"+o.Alice.EntityID, args{"metadata": map[string]string{"mail": aliceMail}}).OK(t)
	o.Write(t, "targets/prod", o.target(nil))
	return o
}

func (o *office) target(change args) args {
	fields := args{"type": "gcp", "project": "prod-access", "credentials": o.key, "endpoints": o.endpoints(nil)}
	maps.Copy(fields, change)
	return fields
}

// kinds are the ways to get access that can be ended.
func kinds() map[string]args {
	viewer := []string{"roles/compute.viewer"}
	return map[string]args{
		"own-token":    {"iam_roles": viewer},
		"own-key":      {"credential_type": "service_account_key", "iam_roles": viewer},
		"existing-key": {"credential_type": "service_account_key", "service_account_email": robot},
		"own-user":     {"principal_source": "metadata:mail", "iam_roles": viewer},
	}
}

// access says why a credential gives access at the cloud; "" = it does not.
func (o *office) access(t *testing.T, creds harness.Answer) string {
	t.Helper()
	if token, _ := creds.Data["token"].(string); token != "" {
		if _, ok := o.Valid(token); ok {
			return "the token is accepted"
		}
		return ""
	}
	if id, _ := creds.Data["private_key_id"].(string); id != "" {
		a, ok := o.Find(creds.String(t, "service_account_email"))
		if ok && !a.Disabled && a.Keys[id] != nil {
			return "the key is one of the account"
		}
		return ""
	}
	if o.Gives(policy, creds.String(t, "principal")) {
		return "the policy gives a role"
	}
	return ""
}

// usable lists what is left at the cloud that gives anybody access.
func (o *office) usable() []string {
	var out []string
	for _, b := range o.Bindings(policy) {
		if b.Condition != nil && strings.HasPrefix(b.Condition.Title, "pim-") {
			out = append(out, "binding "+b.Raw)
		}
	}
	for _, email := range o.Accounts("pim-0") {
		if a, ok := o.Find(email); ok && !a.Disabled {
			out = append(out, "account "+email)
		}
	}
	a, _ := o.Find(robot)
	for id := range a.Keys {
		out = append(out, "key "+id)
	}
	return out
}

// tool runs a program of the tools that scripts/test-gcp.sh installs.
func tool(t *testing.T, stdin, name string, arg ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), toolPath(t, name), arg...)
	cmd.Stdin = strings.NewReader(stdin)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, said.String())
	}
	return strings.TrimSpace(string(out))
}

func toolPath(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("PIM_GCP_TOOLS")
	if dir == "" {
		t.Fatal("PIM_GCP_TOOLS is not set: run scripts/test-gcp.sh, or export PIM_GCP_TOOLS=$(scripts/test-gcp.sh --tools)")
	}
	return filepath.Join(dir, "bin", name)
}

func look(t *testing.T, stdin string, arg ...string) string {
	t.Helper()
	return tool(t, stdin, "python3", append([]string{"tools/look.py"}, arg...)...)
}
