package faults

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	// settles is two ticks of the reaper, of a second each, and what a busy machine
	// needs to start a process and to carry them out.
	settles = 20 * time.Second
	// retries is how long a client goes on after an answer of 5xx.
	retries = 30 * time.Second
)

// kind is what a role yields.
type kind string

const (
	tokens kind = "token"
	leases kind = "lease"
)

// world is a mount whose plugin process is its own and can be made to die at a
// named step; alice asks, bob approves.
type world struct {
	pim        *harness.Mount
	alice, bob *harness.Person
	target     *harness.HostTarget
	kind       kind
	proxy      *harness.Recorder // between plugin and host
	pg         *harness.Postgres // behind leases
	database   string            // mount of the database engine
	fields     map[string]any    // of its roles
	roles      int
	handed     []string // accessors of the tokens that a client was given
	remainder  map[string]bool
}

// newWorld sets up a mount. pg is the database behind leases; env goes to the
// plugin's process.
func newWorld(t *testing.T, k kind, pg *harness.Postgres, env ...string) *world {
	t.Helper()
	w := &world{kind: k, pg: pg, remainder: map[string]bool{}}
	w.pim = host.Mount(t, harness.Plugin{Variant: harness.Faults, Env: env})
	person := w.pim.PersonPolicy(t)
	w.alice, w.bob = host.Person(t, "alice", person), host.Person(t, "bob", person)
	w.proxy = harness.NewRecorder(t, host.Addr)
	engineering, leads := host.Group(t, "eng", w.alice), host.Group(t, "leads", w.bob)
	paths, policy := map[string]string{"auth/approle/role/+/secret-id": `"update", "list"`}, ""
	for _, below := range []string{"secret-id/destroy", "secret-id-accessor/lookup", "secret-id-accessor/destroy"} {
		paths["auth/approle/role/+/"+below] = `"update"`
	}
	switch k {
	case tokens:
		policy = host.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`)
		w.fields = map[string]any{"token_policies": policy}
	case leases:
		w.database = host.DatabaseEngine(t, pg, harness.DropAndDisconnect)
		path := w.database + "/creds/reader"
		paths["sys/leases/revoke/"+path+"/*"] = `"update"`
		policy = host.Policy(t, "reader", `path "`+path+`" { capabilities = ["read"] }`)
		w.fields = map[string]any{"path": path, "engine": "database", "ends_sessions": true}
	}
	w.target = w.pim.HostTarget(t, w.proxy.URL, paths, policy)
	w.fields["target"], w.fields["eligible_groups"], w.fields["approver_groups"] = w.target.Name, engineering.Name, leads.Name
	host.Root().Write(t, w.path("config"), map[string]any{"reap_interval": 1, "issue_rate": 100_000}).OK(t)
	return w
}

func (w *world) path(below string) string { return w.pim.Path + "/" + below }

// role writes a role of its own for one crash and returns its name.
func (w *world) role(t *testing.T, fields map[string]any) string {
	t.Helper()
	w.roles++
	name := fmt.Sprintf("role-%d", w.roles)
	all := maps.Clone(w.fields)
	maps.Copy(all, fields)
	again(t, func() (harness.Answer, error) { return do(t, host.Root(), http.MethodPut, w.path("roles/"+name), all) })
	return name
}

func (w *world) ask(t *testing.T, role string) string {
	t.Helper()
	return again(t, func() (harness.Answer, error) {
		return do(t, w.alice.Actor, http.MethodPut, w.path("request/"+role), map[string]any{"justification": "order 4711"})
	}).String(t, "request_id")
}

func (w *world) decide(t *testing.T, id string) (harness.Answer, error) {
	t.Helper()
	shown, err := do(t, w.bob.Actor, http.MethodGet, w.path("approvals/"+id), nil)
	if err != nil || shown.Status != http.StatusOK {
		return shown, err
	}
	return do(t, w.bob.Actor, http.MethodPut, w.path("approvals/"+id), map[string]any{"decision": "approve", "digest": shown.Data["digest"]})
}

func (w *world) grant(t *testing.T, role string) string {
	t.Helper()
	id := w.ask(t, role)
	again(t, func() (harness.Answer, error) { return w.decide(t, id) })
	return id
}

// read is one read of creds; what it hands out is noted.
func (w *world) read(t *testing.T, role string) (harness.Answer, error) {
	t.Helper()
	answer, err := do(t, w.alice.Actor, http.MethodGet, w.path("creds/"+role), nil)
	if accessor, ok := answer.Data["accessor"].(string); ok && answer.Status == http.StatusOK {
		w.handed = append(w.handed, accessor)
	}
	return answer, err
}

// works shows that what was handed out is good.
func (w *world) works(t *testing.T, creds harness.Answer) {
	t.Helper()
	if w.kind == tokens {
		// The policy lets it look; there is no such secret.
		if a := w.alice.With("credential", creds.String(t, "token")).Read(t, "secret/data/prod/none"); a.Status != http.StatusNotFound {
			t.Fatalf("the credential is refused: %d %s", a.Status, a.Body)
		}
		return
	}
	conn, err := w.pg.Connect(t.Context(), creds.String(t, "username"), creds.String(t, "password"))
	if err != nil {
		t.Fatalf("the credential does not log in: %v", err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// arm makes the process die at a step ("<step>" or "<step>#<n>").
func (w *world) arm(t *testing.T, step string) { t.Helper(); w.pim.CrashAt(t, step) }

// crashed waits until the armed step has killed the process.
func (w *world) crashed(t *testing.T) {
	t.Helper()
	poll.Until(t, settles, func() error {
		if !w.pim.Crashed(t) {
			return errors.New("the process did not come to the step")
		}
		return nil
	})
}

// attempt is a call in which the process dies. Mostly it is answered with 500; now
// and then the host itself sends it again to the new process, and it may succeed.
func (w *world) attempt(t *testing.T, call func() (harness.Answer, error)) {
	t.Helper()
	if answer, err := call(); err != nil {
		t.Logf("no answer: %v", err)
	} else if answer.Status/100 == 2 {
		t.Logf("%s was sent again and answered with %d", answer.Request, answer.Status)
	}
	w.crashed(t)
}

func do(t *testing.T, who harness.Actor, method, path string, body any) (harness.Answer, error) {
	t.Helper()
	return who.Do(t.Context(), method, path, body, nil)
}

// again does what a client does: it repeats what was answered with 5xx, or not at
// all, and what the answer itself says to try again soon.
func again(t *testing.T, call func() (harness.Answer, error)) harness.Answer {
	t.Helper()
	var answer harness.Answer
	poll.Until(t, retries, func() error {
		var err error
		if answer, err = call(); err != nil {
			return err
		}
		if answer.Status >= http.StatusInternalServerError || answer.Data["poll_after_seconds"] != nil {
			return fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
		}
		return nil
	})
	return answer.OK(t)
}

// sentence is a credential of a request as an auditor reads it.
type sentence struct{ id, state string }

func (w *world) audit(t *testing.T, request string) (state string, creds []sentence, err error) {
	t.Helper()
	answer, err := do(t, host.Root(), http.MethodGet, w.path("audit/requests/"+request), nil)
	if err != nil {
		return "", nil, err
	}
	if answer.Status != http.StatusOK {
		return "", nil, fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
	}
	list, _ := answer.Data["credentials"].([]any)
	for _, item := range list {
		id, rest, _ := strings.Cut(fmt.Sprint(item), " ")
		state, _, _ := strings.Cut(rest, ",")
		creds = append(creds, sentence{id, state})
	}
	return fmt.Sprint(answer.Data["state"]), creds, nil
}
