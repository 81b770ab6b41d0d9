package acceptance

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// story is the cast of make demo: alice works in a group that is eligible, bob
// leads, carol works elsewhere.
type story struct {
	pim               *harness.Mount
	alice, bob, carol *harness.Person
	secret            string // path of a secret that no person can read
	password          string // what it holds
}

func newStory(t *testing.T, host *harness.Host, plugin harness.Plugin) *story {
	t.Helper()
	pim := host.Mount(t, plugin)
	person := pim.PersonPolicy(t)
	s := &story{
		pim:   pim,
		alice: host.Person(t, "alice", person), bob: host.Person(t, "bob", person), carol: host.Person(t, "carol", person),
		secret: "prod/" + pim.Path, password: host.Canary(t),
	}
	host.Secret(t, s.secret, map[string]string{"password": s.password})
	prodRead := host.Policy(t, "prod-read", `path "secret/data/`+s.secret+`" { capabilities = ["read"] }`)
	target := pim.HostTarget(t, "", nil, prodRead)
	host.Root().Write(t, s.path("roles/prod-read"), map[string]any{
		"target": target.Name, "token_policies": prodRead,
		"eligible_groups": host.Group(t, "eng", s.alice).Name,
		"approver_groups": host.Group(t, "leads", s.bob).Name,
	}).OK(t)
	return s
}

func (s *story) path(below string) string { return s.pim.Path + "/" + below }

// at is the same story with alice at another node.
func (s *story) at(node *harness.Host) *story {
	there, alice := *s, *s.alice
	alice.Actor = s.alice.At(node)
	there.alice = &alice
	return &there
}

// readsSecret tells whether a token can read the secret at this moment.
func (s *story) readsSecret(t *testing.T, token string) bool {
	t.Helper()
	answer := s.alice.With("credential", token).Read(t, "secret/data/"+s.secret)
	if answer.Status == http.StatusForbidden {
		return false
	}
	data, ok := answer.OK(t).Data["data"].(map[string]any)
	if !ok || data["password"] != s.password {
		t.Fatalf("%s: another secret than expected: %s", answer.Request, answer.Body)
	}
	return true
}

// request files alice's request and returns its id and digest.
func (s *story) request(t *testing.T) (id, digest string) {
	t.Helper()
	asked := s.alice.Write(t, s.path("request/prod-read"), map[string]any{"justification": "order 4711 is stuck"}).OK(t)
	if state := asked.String(t, "state"); state != "pending" {
		t.Fatalf("a new request is %q, want pending", state)
	}
	return asked.String(t, "request_id"), asked.String(t, "digest")
}

func TestStory(t *testing.T) {
	t.Parallel()
	s := newStory(t, host, harness.Plugin{})
	creds := s.path("creds/prod-read")

	if s.readsSecret(t, s.alice.Token) {
		t.Fatal("alice reads the secret without any request")
	}
	s.alice.Read(t, creds).Refused(t, http.StatusBadRequest, "no active grant: ")
	id, digest := s.request(t)
	decision := map[string]any{"decision": "approve", "digest": digest, "comment": "go ahead"}

	pending := s.alice.Read(t, creds).Refused(t, http.StatusBadRequest, "approval pending: ")
	if got := pending.String(t, "request_id"); got != id {
		t.Errorf("the refusal names request %s, want %s", got, id)
	}
	s.alice.Write(t, s.path("approvals/"+id), decision).Refused(t, http.StatusForbidden, "access denied: ")
	s.carol.Read(t, creds).Refused(t, http.StatusForbidden, "access denied: ")
	s.carol.Write(t, s.path("request/prod-read"), map[string]any{"justification": "me too"}).
		Refused(t, http.StatusForbidden, "access denied: ")

	if inbox := s.bob.List(t, s.path("approvals/")).Keys(t); !slices.Contains(inbox, id) {
		t.Fatalf("bob's inbox is %v, want %s in it", inbox, id)
	}
	shown := s.bob.Read(t, s.path("approvals/"+id)).OK(t)
	if got := shown.String(t, "digest"); got != digest {
		t.Fatalf("bob is shown the digest %s, alice was given %s", got, digest)
	}
	s.bob.Write(t, s.path("approvals/"+id), decision).OK(t)

	first := s.alice.Read(t, creds).OK(t)
	if first.LeaseID == "" || first.LeaseDuration <= 0 || first.Renewable {
		t.Errorf("want a lease that cannot be renewed, got %q for %d s, renewable %v", first.LeaseID, first.LeaseDuration, first.Renewable)
	}
	if !s.readsSecret(t, first.String(t, "token")) {
		t.Error("the credential cannot read the secret")
	}
	if s.readsSecret(t, s.alice.Token) {
		t.Error("alice's own login reads the secret")
	}

	host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": first.LeaseID, "sync": true}).OK(t)
	if s.readsSecret(t, first.String(t, "token")) {
		t.Error("the credential outlives its lease")
	}

	second := s.alice.Read(t, creds).OK(t)
	if second.String(t, "token") == first.String(t, "token") || !s.readsSecret(t, second.String(t, "token")) {
		t.Error("the second read under the grant should give another credential that works")
	}
	s.bob.Write(t, s.path("grants/"+id+"/revoke"), map[string]any{"reason": "order 4711 is through"}).OK(t)
	if s.readsSecret(t, second.String(t, "token")) {
		t.Error("the credential outlives its grant")
	}
	s.alice.Read(t, creds).Refused(t, http.StatusForbidden, "access denied: ")

	host.NoTrace(t, first.String(t, "token"))
	host.NoTrace(t, second.String(t, "token"))
}

func TestCrashInTheMiddleOfAnIssueLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newStory(t, host, harness.Plugin{Variant: harness.Faults})
	id, digest := s.request(t)
	s.bob.Write(t, s.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).OK(t)

	s.pim.CrashAt(t, "after provider issue")
	// The host answers 500, or starts the process anew and asks it again by itself.
	answer := s.alice.Read(t, s.path("creds/prod-read"))
	if !s.pim.Crashed(t) {
		t.Fatal("the process lived on")
	}
	poll.Until(t, 30*time.Second, func() error {
		if answer.Status != http.StatusOK {
			answer = s.alice.Read(t, s.path("creds/prod-read"))
		}
		if answer.Status != http.StatusOK {
			return fmt.Errorf("no credential after the crash: %d %s", answer.Status, answer.Body)
		}
		return nil
	})
	token := answer.String(t, "token")
	if !s.readsSecret(t, token) {
		t.Error("the credential after the crash does not work")
	}
	poll.Until(t, 30*time.Second, func() error {
		shown := s.alice.Read(t, s.path("requests/"+id)).OK(t)
		if live := shown.Data["live_credentials"]; live != 1.0 {
			return fmt.Errorf("%v credentials live, want the new one alone: %s", live, shown.Body)
		}
		return nil
	})
}
