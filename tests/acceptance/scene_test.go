package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// promised is within what time the end of an access of the class "immediate"
// must bite at the target. settles bounds everything else that comes by itself.
const (
	promised = 15 * time.Second
	settles  = 30 * time.Second
)

// scene is a mount with a target on the host itself, for any number of casts. Its
// reaper looks every second.
type scene struct {
	pim    *harness.Mount
	target *harness.HostTarget
	policy string // what people need to use pim
}

func newScene(t *testing.T, paths map[string]string, allowedPolicies ...string) *scene {
	t.Helper()
	pim := host.Mount(t, harness.Plugin{})
	s := &scene{pim: pim, policy: pim.PersonPolicy(t)}
	host.Root().Write(t, s.path("config"), map[string]any{"reap_interval": 1}).OK(t)
	s.target = pim.HostTarget(t, "", paths, allowedPolicies...)
	return s
}

func (s *scene) path(below string) string { return s.pim.Path + "/" + below }

// cast are the people of one test: alice is eligible for its roles and bob
// approves.
type cast struct {
	*scene
	alice, bob         *harness.Person
	eligible, approver *harness.Group
}

func (s *scene) cast(t *testing.T) *cast {
	t.Helper()
	c := &cast{scene: s, alice: host.Person(t, "alice", s.policy), bob: host.Person(t, "bob", s.policy)}
	c.eligible, c.approver = host.Group(t, "eng", c.alice), host.Group(t, "leads", c.bob)
	return c
}

// role writes a role for the cast; fields say what it yields, and override the
// rest.
func (c *cast) role(t *testing.T, name string, fields map[string]any) harness.Answer {
	t.Helper()
	body := map[string]any{
		"target": c.target.Name, "eligible_groups": c.eligible.Name, "approver_groups": c.approver.Name,
	}
	maps.Copy(body, fields)
	return host.Root().Write(t, c.path("roles/"+name), body)
}

// ask files alice's request and returns its id and digest.
func (c *cast) ask(t *testing.T, role string) (id, digest string) {
	t.Helper()
	asked := c.alice.Write(t, c.path("request/"+role), map[string]any{"justification": "order 4711 is stuck"}).OK(t)
	return asked.String(t, "request_id"), asked.String(t, "digest")
}

// approve is bob's.
func (c *cast) approve(t *testing.T, id, digest string) {
	t.Helper()
	c.bob.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).OK(t)
}

// grant is a request of alice that bob approved.
func (c *cast) grant(t *testing.T, role string) (id string) {
	t.Helper()
	id, digest := c.ask(t, role)
	c.approve(t, id, digest)
	return id
}

// access is a credential that somebody holds.
type access struct {
	*cast
	role, id string
	creds    harness.Answer
}

// access is the way there: alice asks, bob approves, alice reads.
func (c *cast) access(t *testing.T, role string) *access {
	t.Helper()
	id := c.grant(t, role)
	creds := c.alice.Read(t, c.path("creds/"+role)).OK(t)
	return &access{cast: c, role: role, id: id, creds: creds}
}

// request is the request as an auditor sees it.
func (a *access) request(t *testing.T) harness.Answer {
	t.Helper()
	return host.Root().Read(t, a.path("audit/requests/"+a.id)).OK(t)
}

// confirmed waits until the record says that the target confirmed the end of
// every credential, and compares the request's state.
func (a *access) confirmed(t *testing.T, state string) {
	t.Helper()
	poll.Until(t, settles, func() error {
		request := a.request(t)
		if live, ok := request.Data["live_credentials"].(float64); !ok || live != 0 {
			return fmt.Errorf("live_credentials is %v: %v", request.Data["live_credentials"], request.Data["credentials"])
		}
		if got := request.String(t, "state"); got != state {
			return fmt.Errorf("the request is %s, want %s", got, state)
		}
		return nil
	})
	if live := host.Root().Read(t, a.path("targets/"+a.target.Name)).OK(t).Data["live"]; live == nil {
		t.Error("the target does not say how many credentials are alive")
	}
}

// ending is one way in which access ends before or at its time.
type ending struct {
	name  string
	ttl   string // of the role's window
	end   func(t *testing.T, a *access)
	state string // of the request afterwards
}

func endings() []ending {
	return []ending{
		{"its lease is revoked", "10m", func(t *testing.T, a *access) {
			t.Helper()
			host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": a.creds.LeaseID, "sync": true}).OK(t)
		}, "active"},
		{"its access window ends", "8s", func(*testing.T, *access) {}, "ended"},
		{"the kill switch is pulled for its role", "10m", func(t *testing.T, a *access) {
			t.Helper()
			a.kill(t, map[string]any{"role": a.role, "reason": "a laptop was stolen"})
		}, "revoked"},
		{"the kill switch is pulled for its requester", "10m", func(t *testing.T, a *access) {
			t.Helper()
			a.kill(t, map[string]any{"entity_id": a.alice.EntityID})
		}, "revoked"},
		{"its requester is disabled", "10m", func(t *testing.T, a *access) {
			t.Helper()
			host.Disable(t, a.alice, true)
		}, "revoked"},
		{"an approver ends it", "10m", func(t *testing.T, a *access) {
			t.Helper()
			a.bob.Write(t, a.path("grants/"+a.id+"/revoke"), map[string]any{"reason": "order 4711 is through"}).OK(t)
		}, "revoked"},
		{"its requester gives it back", "10m", func(t *testing.T, a *access) {
			t.Helper()
			a.alice.Delete(t, a.path("requests/"+a.id)).OK(t)
		}, "ended"},
	}
}

// kill pulls the kill switch and waits for its job, which must say that this one
// credential is gone.
func (a *access) kill(t *testing.T, selector map[string]any) {
	t.Helper()
	pulled := host.Root().Write(t, a.path("revoke"), selector).OK(t)
	job, hold := pulled.String(t, "job"), pulled.String(t, "hold_id")
	poll.Until(t, promised, func() error {
		if seen := host.Root().Read(t, a.path("revoke/"+job)).OK(t); seen.Data["done"] != true {
			return fmt.Errorf("the job is not done: %s", seen.Body)
		}
		return nil
	})
	seen := host.Root().Read(t, a.path("revoke/"+job)).OK(t)
	if seen.Data["requests_ended"] != 1.0 || seen.Data["credentials_ended"] != 1.0 {
		t.Errorf("the job should have ended one request and one credential: %s", seen.Body)
	}
	a.alice.Read(t, a.path("creds/"+a.role)).Refused(t, http.StatusForbidden, "access denied: ")
	a.alice.Write(t, a.path("request/"+a.role), map[string]any{"justification": "once more"}).
		Refused(t, http.StatusForbidden, "access denied: a hold is in force")
	host.Root().Delete(t, a.path("holds/"+hold))
}

// docBlock returns the first fenced block below a heading of a page in docs, so
// that tests run what the page tells people to write.
func docBlock(t *testing.T, page, heading string) string {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	block, err := fenced(string(raw), heading)
	if err != nil {
		t.Fatalf("docs/%s: %v", page, err)
	}
	return block
}

func fenced(page, heading string) (string, error) {
	_, below, ok := strings.Cut(page, "\n"+heading+"\n")
	if !ok {
		return "", errors.New("no heading " + heading)
	}
	_, after, ok := strings.Cut(below, "\n```")
	if !ok {
		return "", errors.New("no fenced block below " + heading)
	}
	_, block, _ := strings.Cut(after, "\n")
	block, _, ok = strings.Cut(block, "\n```")
	if !ok {
		return "", errors.New("the block below " + heading + " does not end")
	}
	return block + "\n", nil
}

// replaced puts a test's own names into a block of a page; every one of them must
// be there.
func replaced(t *testing.T, block string, names map[string]string) string {
	t.Helper()
	for from, to := range names {
		if !strings.Contains(block, from) {
			t.Fatalf("the block does not hold %q:\n%s", from, block)
		}
		block = strings.ReplaceAll(block, from, to)
	}
	return block
}
