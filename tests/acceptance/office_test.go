package acceptance

import (
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// office is a mount with people around it: alice may ask, bob and carol approve,
// dave works elsewhere. Its roles hand out tokens.
type office struct {
	pim                     *harness.Mount
	alice, bob, carol, dave *harness.Person
	eng, leads              *harness.Group
	target, policy          string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	pim := host.Mount(t, harness.Plugin{})
	person := pim.PersonPolicy(t)
	o := &office{
		pim:   pim,
		alice: host.Person(t, "alice", person), bob: host.Person(t, "bob", person),
		carol: host.Person(t, "carol", person), dave: host.Person(t, "dave", person),
		policy: host.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`),
	}
	o.eng, o.leads = host.Group(t, "eng", o.alice), host.Group(t, "leads", o.bob, o.carol)
	o.target = pim.HostTarget(t, "", nil, o.policy).Name
	host.Root().Write(t, o.path("config"), map[string]any{"reap_interval": 1, "issue_rate": 1000}).OK(t)
	return o
}

func (o *office) path(below string) string { return o.pim.Path + "/" + below }

// role writes a role for alice with bob and carol as approvers; fields come on top.
func (o *office) role(t *testing.T, name string, fields map[string]any) {
	t.Helper()
	all := map[string]any{
		"target": o.target, "token_policies": o.policy, "eligible_groups": o.eng.Name, "approver_groups": o.leads.Name,
	}
	maps.Copy(all, fields)
	host.Root().Write(t, o.path("roles/"+name), all).OK(t)
}

// ask files a request of alice and returns its id.
func (o *office) ask(t *testing.T, role string, fields map[string]any) string {
	t.Helper()
	all := map[string]any{"justification": "order 4711 is stuck"}
	maps.Copy(all, fields)
	return o.alice.Write(t, o.path("request/"+role), all).OK(t).String(t, "request_id")
}

// decide is what an approver does: read what is asked, and decide on exactly that.
func (o *office) decide(t *testing.T, who *harness.Person, id, verdict string) harness.Answer {
	t.Helper()
	digest := who.Read(t, o.path("approvals/"+id)).OK(t).String(t, "digest")
	return who.Write(t, o.path("approvals/"+id), map[string]any{"decision": verdict, "digest": digest})
}

// granted files a request of alice and has bob approve it.
func (o *office) granted(t *testing.T, role string, fields map[string]any) string {
	t.Helper()
	id := o.ask(t, role, fields)
	o.decide(t, o.bob, id, "approve").OK(t)
	return id
}

// state is what the requester sees of a request.
func (o *office) state(t *testing.T, id string) string {
	t.Helper()
	return o.alice.Read(t, o.path("requests/"+id)).OK(t).String(t, "state")
}

// same makes what a person sees the same in every run: the mount is pim, the host
// HOST, the program vault; ids, times and the random parts of names are gone.
func (o *office) same(text string) string {
	for _, r := range []struct{ from, to string }{
		{regexp.QuoteMeta(o.pim.Path) + `\b`, "pim"},
		{regexp.QuoteMeta(o.alice.Host().Addr), "HOST"},
		{`\bbao (read|write|list|delete)\b`, "vault $1"},
		{`\b[0-7][0-9a-hjkmnp-tv-z]{25}\b`, "ID"},
		{`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, "TIME"},
		{`\b(eng|leads|alice|bob|carol|dave)-[a-z2-7]{8}\b`, "$1"},
	} {
		text = regexp.MustCompile(r.from).ReplaceAllString(text, r.to)
	}
	return text
}

// paste runs a line in a shell, as somebody who copies it does.
func paste(t *testing.T, who *harness.Person, line string) harness.Printed {
	t.Helper()
	bin, name := t.TempDir(), "vault"
	if host.OpenBao {
		name = "bao"
	}
	if err := os.Symlink(host.Bin, filepath.Join(bin, name)); err != nil {
		t.Fatal(err)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := who.Command(t)
	cmd.Path, cmd.Args = shell, []string{"sh", "-c", line}
	cmd.Env = append(cmd.Env, "PATH="+bin)
	return harness.RunPrinted(t, cmd)
}

// refusal is how the command line ends when the host refuses: exit code 2, nothing
// on standard output, and one line for the person.
func refusal(t *testing.T, o *office, p harness.Printed) string {
	t.Helper()
	if p.Code != 2 || p.Stdout != "" {
		t.Fatalf("want exit code 2 and nothing on standard output, got %d\n%s%s", p.Code, p.Stdout, p.Stderr)
	}
	_, after, _ := strings.Cut(p.Stderr, "Code: ")
	status, rest, found := strings.Cut(after, ". Errors:\n\n")
	if !found {
		t.Fatalf("no refusal of the host in\n%s", p.Stderr)
	}
	return status + " " + o.same(strings.TrimSpace(rest))
}

// field finds a value in the table that the command line prints.
func field(t *testing.T, p harness.Printed, name string) string {
	t.Helper()
	if p.Code != 0 {
		t.Fatalf("exit code %d\n%s", p.Code, p.Stderr)
	}
	for line := range strings.Lines(p.Stdout) {
		if key, value, found := strings.Cut(strings.TrimRight(line, "\n"), " "); found && strings.TrimSuffix(key, ":") == name {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no field %s in\n%s", name, p.Stdout)
	return ""
}

const (
	badRequest = http.StatusBadRequest
	forbidden  = http.StatusForbidden
)
