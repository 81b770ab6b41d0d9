package operations

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	// settles bounds what comes by itself: ticks of the reaper, and a process that
	// starts.
	settles = 40 * time.Second
	// pauses is beyond the first pauses between two tries of an end.
	pauses = 90 * time.Second
)

// site is a node of its own. pim is mounted there by the page's own commands.
type site struct {
	cluster *harness.Cluster // of three nodes, or nil
	node    *harness.Host
	pim     *harness.Mount
	dir     string // where the commands run

	proxy      *harness.Recorder // between pim and the host
	target     *harness.HostTarget
	policy     string // that the role prod-read yields
	alice, bob *harness.Person
	eng, leads *harness.Group
}

// newSite is a single node, or the active one of three.
func newSite(t *testing.T, three bool) *site {
	t.Helper()
	s := &site{dir: t.TempDir()}
	if three {
		s.cluster = harness.StartCluster(t, harness.Options{})
		s.node = s.cluster.Leader(t)
	} else {
		s.node = harness.StartNode(t, harness.Options{})
	}
	for to, version := range map[string]string{"vault-plugin-secrets-pim": "v0.1.0", "vault-plugin-secrets-pim-next": "v0.2.0"} {
		if err := os.Symlink(filepath.Join(binaries, version), filepath.Join(s.dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	s.pim = &harness.Mount{Path: "pim", Host: s.node}
	return s
}

// install runs the first block of the page.
func (s *site) install(t *testing.T) {
	t.Helper()
	first := &runbook{site: s, blocks: sections(t)[0].blocks}
	first.next(t, map[string]string{"PIM_ALLOW_LOCAL=false": "PIM_ALLOW_LOCAL=true"})
}

// open is what is in use: a target at the host itself, and the role prod-read for alice.
func (s *site) open(t *testing.T) {
	t.Helper()
	s.install(t)
	root := s.node.Root()
	root.Write(t, "pim/config", map[string]any{"reap_interval": 1}).OK(t)
	s.proxy = harness.NewRecorder(t, s.node.Addr)
	s.policy = s.node.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`)
	s.target = s.pim.HostTarget(t, s.proxy.URL, map[string]string{"sys/leases/revoke/+/creds/+/*": `"update"`}, s.policy)
	person := s.pim.PersonPolicy(t)
	s.alice, s.bob = s.node.Person(t, "alice", person), s.node.Person(t, "bob", person)
	s.eng, s.leads = s.node.Group(t, "eng", s.alice), s.node.Group(t, "leads", s.bob)
	s.role(t, "prod-read", map[string]any{"token_policies": s.policy})
}

func (s *site) role(t *testing.T, name string, fields map[string]any) {
	t.Helper()
	body := map[string]any{"target": "local", "eligible_groups": s.eng.Name, "approver_groups": s.leads.Name}
	maps.Copy(body, fields)
	s.node.Root().Write(t, "pim/roles/"+name, body).OK(t)
}

// grant is alice's request that bob approved.
func (s *site) grant(t *testing.T, role string) (id string) {
	t.Helper()
	id = s.ask(t, role)
	digest := s.bob.Read(t, "pim/approvals/"+id).OK(t).String(t, "digest")
	s.bob.Write(t, "pim/approvals/"+id, map[string]any{"decision": "approve", "digest": digest}).OK(t)
	return id
}

func (s *site) ask(t *testing.T, role string) (id string) {
	t.Helper()
	return s.alice.Write(t, "pim/request/"+role, map[string]any{"justification": "order 4711"}).OK(t).String(t, "request_id")
}

// held is a credential that alice holds.
type held struct{ request, token, lease string }

func (s *site) held(t *testing.T) held {
	t.Helper()
	id := s.grant(t, "prod-read")
	creds := s.alice.Read(t, "pim/creds/prod-read").OK(t)
	h := held{id, creds.String(t, "token"), creds.LeaseID}
	if got := s.look(t, h); got != http.StatusNotFound {
		t.Fatalf("a credential that was just read is answered with %d", got)
	}
	return h
}

// look is what the host answers a credential; its policy lets it look for a secret that
// is not there.
func (s *site) look(t *testing.T, h held) int {
	t.Helper()
	return s.alice.With("credential", h.token).Read(t, "secret/data/prod/none").Status
}

// ends waits until a credential is refused.
func (s *site) ends(t *testing.T, h held, within time.Duration) {
	t.Helper()
	poll.Until(t, within, func() error {
		if got := s.look(t, h); got != http.StatusForbidden {
			return fmt.Errorf("the credential is answered with %d", got)
		}
		return nil
	})
}

// state waits until a request is in a state.
func (s *site) state(t *testing.T, id, want string) {
	t.Helper()
	poll.Until(t, settles, func() error {
		if got := s.node.Root().Read(t, "pim/audit/requests/"+id); got.Data["state"] != want {
			return fmt.Errorf("the request is %v, want %s: %d", got.Data["state"], want, got.Status)
		}
		return nil
	})
}

// live waits until so many credentials are alive at the target.
func (s *site) live(t *testing.T, want float64, within time.Duration) {
	t.Helper()
	poll.Until(t, within, func() error {
		if got := s.node.Root().Read(t, "pim/targets/local").OK(t).Data["live"]; got != want {
			return fmt.Errorf("%v credentials are alive, want %v", got, want)
		}
		return nil
	})
}

// serves waits until pim takes a write.
func (s *site) serves(t *testing.T) {
	t.Helper()
	poll.Until(t, settles, func() error {
		answer, err := s.node.Root().Do(t.Context(), http.MethodPut, "pim/config", map[string]any{"reap_interval": 1}, nil)
		if err == nil && answer.Status != http.StatusOK {
			err = fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return err
	})
}

// breaks makes everything that pim asks of the host fail, or ends that.
func (s *site) breaks(broken bool) {
	if !broken {
		s.proxy.Fault(nil)
		return
	}
	s.proxy.Fault(func(*http.Request) int { return http.StatusServiceUnavailable })
}

// loginPolicy is the one policy of the engine's login.
func (s *site) loginPolicy(t *testing.T) string {
	t.Helper()
	list, ok := s.node.Root().Read(t, "auth/approle/role/"+s.target.Login.Name).OK(t).Data["token_policies"].([]any)
	if !ok || len(list) != 1 {
		t.Fatalf("the login has the policies %v", list)
	}
	return fmt.Sprint(list[0])
}

// keys are those of a list, none when there is nothing.
func (s *site) keys(t *testing.T, path string) []string {
	t.Helper()
	keys := s.node.Root().List(t, path).Keys(t)
	slices.Sort(keys)
	return keys
}
