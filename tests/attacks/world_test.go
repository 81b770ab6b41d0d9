package attacks

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	badRequest = http.StatusBadRequest
	forbidden  = http.StatusForbidden
	notFound   = http.StatusNotFound
	// promised is within what time the end of an access of the class "immediate" must
	// bite at the target.
	promised = 15 * time.Second
)

// world is a mount with people around it: alice may ask, bob approves. Its role prod
// yields tokens that can read secret/prod.
type world struct {
	pim                *harness.Mount
	target             *harness.HostTarget
	person             string // ACL policy of people
	yields             string // policy of the credentials
	alice, bob         *harness.Person
	eligible, approver *harness.Group
	flooders           []harness.Actor // machines that file without end
}

func newWorld(t *testing.T, p harness.Plugin, config map[string]any) *world {
	t.Helper()
	pim := host.Mount(t, p)
	w := &world{pim: pim, person: pim.PersonPolicy(t)}
	settings := map[string]any{"reap_interval": 1, "issue_rate": 10000, "machine_issue_rate": 10000}
	maps.Copy(settings, config)
	host.Root().Write(t, w.path("config"), settings).OK(t)
	w.yields = host.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`)
	w.target = pim.HostTarget(t, "", nil, w.yields)
	w.alice, w.bob = host.Person(t, "alice", w.person), host.Person(t, "bob", w.person)
	w.eligible, w.approver = host.Group(t, "eng", w.alice), host.Group(t, "leads", w.bob)
	w.role(t, "prod", nil).OK(t)
	return w
}

func plain(t *testing.T) *world { t.Helper(); return newWorld(t, harness.Plugin{}, nil) }

func (w *world) path(below string) string { return w.pim.Path + "/" + below }

// role writes a role; fields come on top of those that every role here has.
func (w *world) role(t *testing.T, name string, fields map[string]any) harness.Answer {
	t.Helper()
	body := map[string]any{
		"target": w.target.Name, "token_policies": w.yields, "max_active": 5,
		"eligible_groups": w.eligible.Name, "approver_groups": w.approver.Name,
	}
	maps.Copy(body, fields)
	return host.Root().Write(t, w.path("roles/"+name), body)
}

// ask files alice's request and returns its id and digest.
func (w *world) ask(t *testing.T, role string, fields map[string]any) (id, digest string) {
	t.Helper()
	body := map[string]any{"justification": "order 4711 is stuck"}
	maps.Copy(body, fields)
	asked := w.alice.Write(t, w.path("request/"+role), body).OK(t)
	return asked.String(t, "request_id"), asked.String(t, "digest")
}

func yes(digest string) map[string]any {
	return map[string]any{"decision": "approve", "digest": digest}
}

func (w *world) decide(t *testing.T, who harness.Actor, id string, body map[string]any) harness.Answer {
	t.Helper()
	return who.Write(t, w.path("approvals/"+id), body)
}

// grant is a request of alice that bob approved.
func (w *world) grant(t *testing.T, role string, fields map[string]any) (id string) {
	t.Helper()
	id, digest := w.ask(t, role, fields)
	w.decide(t, w.bob.Actor, id, yes(digest)).OK(t)
	return id
}

func (w *world) creds(t *testing.T, who harness.Actor, role string) harness.Answer {
	t.Helper()
	return who.Read(t, w.path("creds/"+role))
}

// works tells whether a token still opens what credentials open: the policy lets it
// look, and there is no such secret.
func works(t *testing.T, token string) bool {
	t.Helper()
	return host.Anonymous().With("credential", token).Read(t, "secret/data/prod/none").Status == notFound
}

// dies waits until a credential is refused.
func dies(t *testing.T, token string) {
	t.Helper()
	poll.Until(t, promised, func() error {
		if works(t, token) {
			return fmt.Errorf("the credential still works")
		}
		return nil
	})
}

// merge makes one entity of two, as somebody does who administers identities.
func merge(t *testing.T, from, to *harness.Person) {
	t.Helper()
	kept := host.Root().Read(t, "identity/entity/id/"+to.EntityID).OK(t)
	aliases, _ := kept.Data["aliases"].([]any)
	if len(aliases) != 1 {
		t.Fatalf("%s has %d aliases, want 1", to.Name, len(aliases))
	}
	alias, _ := aliases[0].(map[string]any)
	host.Root().Write(t, "identity/entity/merge", map[string]any{
		"from_entity_ids": []string{from.EntityID}, "to_entity_id": to.EntityID, "force": true,
		"conflicting_alias_ids_to_keep": []any{alias["id"]},
	}).OK(t)
}

// mail sets the metadata that names the person behind an entity.
func mail(t *testing.T, p *harness.Person, value string) {
	t.Helper()
	host.Root().Write(t, "identity/entity/id/"+p.EntityID, map[string]any{"metadata": map[string]string{"mail": value}}).OK(t)
}

// state is what an auditor sees of a request.
func (w *world) state(t *testing.T, id string) string {
	t.Helper()
	return host.Root().Read(t, w.path("audit/requests/"+id)).OK(t).String(t, "state")
}

// do is a call whatever comes of it.
func do(t *testing.T, who harness.Actor, method, path string, body any) harness.Answer {
	t.Helper()
	answer, err := who.Do(t.Context(), method, path, body, nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func mustHex(s string) []byte {
	raw, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return raw
}

// seconds is how much later than another a time is.
func seconds(t *testing.T, from, until string) float64 {
	t.Helper()
	start, err := time.Parse(time.RFC3339, from)
	if err != nil {
		t.Fatal(err)
	}
	end, err := time.Parse(time.RFC3339, until)
	if err != nil {
		t.Fatal(err)
	}
	return end.Sub(start).Seconds()
}
