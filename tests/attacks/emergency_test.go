package attacks

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// B: access without an approval, and who looks back at it.

// emergency is a world whose role prod dave, who is not eligible, may have at once;
// carol looks back at it.
type emergency struct {
	*world
	dave, carol      *harness.Person
	onCall, security *harness.Group
}

func newEmergency(t *testing.T, fields map[string]any) *emergency {
	t.Helper()
	w := plain(t)
	e := &emergency{world: w, dave: host.Person(t, "dave", w.person), carol: host.Person(t, "carol", w.person)}
	e.onCall, e.security = host.Group(t, "on-call", e.dave), host.Group(t, "security", e.carol)
	e.glassRole(t, "prod", fields).OK(t)
	return e
}

func (e *emergency) glassRole(t *testing.T, name string, fields map[string]any) harness.Answer {
	t.Helper()
	body := map[string]any{"break_glass_groups": e.onCall.Name, "reviewer_groups": e.security.Name}
	maps.Copy(body, fields)
	return e.role(t, name, body)
}

// glass is a try to get at prod without an approval.
func (e *emergency) glass(t *testing.T, who harness.Actor, ticket string, fields map[string]any) harness.Answer {
	t.Helper()
	body := map[string]any{"justification": "the order database is down", "ticket": ticket}
	maps.Copy(body, fields)
	return who.Write(t, e.path("break-glass/prod"), body)
}

func (e *emergency) sign(t *testing.T, who harness.Actor, id string) harness.Answer {
	t.Helper()
	return who.Write(t, e.path("reviews/"+id), map[string]any{"verdict": "justified", "comment": "read the incident report"})
}

// persons gives people the names by which they count, and has names count.
func (w *world) persons(t *testing.T, names map[*harness.Person]string) {
	t.Helper()
	for p, name := range names {
		mail(t, p, name+"@example.org")
	}
	host.Root().Write(t, w.path("config"), map[string]any{"person_key": "mail"}).OK(t)
}

// persona is one of the policies that docs/policies has for kinds of people.
func (w *world) persona(t *testing.T, name string) string {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "policies", name+".hcl"))
	if err != nil {
		t.Fatal(err)
	}
	return host.Policy(t, name, strings.ReplaceAll(string(text), `path "pim/`, `path "`+w.pim.Path+`/`))
}

// childOf is a token that somebody made of their own.
func (w *world) childOf(t *testing.T, p *harness.Person, policies ...string) harness.Actor {
	t.Helper()
	maker := host.Policy(t, "maker", `path "auth/token/create" { capabilities = ["update"] }`)
	host.Root().Write(t, "auth/userpass/users/"+p.Login, map[string]any{"token_policies": append([]string{maker}, policies...)}).OK(t)
	p.LogIn(t)
	made := p.Write(t, "auth/token/create", map[string]any{"policies": policies}).OK(t)
	return p.With("child of "+p.Name, fmt.Sprint(made.Auth["client_token"]))
}

// machine logs in with what counts as no human being, and is in the groups.
func (w *world) machine(t *testing.T, policy string, groups ...*harness.Group) harness.Actor {
	t.Helper()
	who := host.AppRole(t, "ci", "20m", policy).LogIn(t)
	id := host.Root().Write(t, "auth/token/lookup", map[string]any{"token": who.Token}).OK(t).String(t, "entity_id")
	for _, g := range groups {
		now, _ := host.Root().Read(t, "identity/group/id/"+g.ID).OK(t).Data["member_entity_ids"].([]any)
		host.Root().Write(t, "identity/group/id/"+g.ID, map[string]any{"name": g.Name, "member_entity_ids": append(now, id)}).OK(t)
	}
	return who
}

func TestOwnEmergencySignedOff(t *testing.T) {
	t.Parallel()
	a := begin(t, "B1", "somebody signs off their own emergency")
	e := newEmergency(t, map[string]any{"reviewer_entities": ""})
	second, old := host.Person(t, "dave-admin", e.person), host.Person(t, "dave-old", e.person)
	host.SetMembers(t, e.security, e.carol, second, old, e.dave)
	const own = "access denied: nobody reviews their own request"
	first := e.glass(t, e.dave.Actor, "INC-1", nil).OK(t).String(t, "request_id")
	a.refused(t, e.sign(t, e.dave.Actor, first), forbidden, own)
	a.control(t, e.sign(t, second.Actor, first)) // the host says that they are two
	id := e.glass(t, e.dave.Actor, "INC-2", nil).OK(t).String(t, "request_id")
	child := e.childOf(t, e.dave, e.person)
	a.refused(t, e.sign(t, child, id), forbidden, own)
	a.refused(t, e.sign(t, e.dave.Actor, id), forbidden, own)
	a.refused(t, e.sign(t, e.bob.Actor, id), notFound, "no such review") // approves, and does not review
	a.refused(t, e.sign(t, e.machine(t, e.person, e.security), id), notFound, "no such review")
	a.refused(t, e.sign(t, host.Root(), id), forbidden, "access denied: log in again")
	e.glassRole(t, "prod", map[string]any{"reviewer_entities": e.dave.EntityID, "live": "keep"}).OK(t)
	a.refused(t, e.sign(t, e.dave.Actor, id), forbidden, own)
	// Merged into the one who did it, and what is left of the old token.
	merge(t, old, e.dave)
	a.refused(t, e.sign(t, old.Actor, id), forbidden, "access denied: log in again")
	old.LogIn(t)
	a.refused(t, e.sign(t, old.Actor, id), forbidden, own)
	// What shows that both are one comes after the emergency, is spelled otherwise, and goes.
	e.persons(t, map[*harness.Person]string{e.dave: "dave", second: " Dave", e.carol: "carol"})
	a.refused(t, e.sign(t, second.Actor, id), forbidden, own)
	seen := second.Read(t, e.path("reviews/"+id))
	a.tried(t, seen.Status == notFound, "it is shown: %d %s", seen.Status, seen.Body)
	for name, body := range map[string]map[string]any{
		"no comment": {"verdict": "justified"}, "a blank comment": {"verdict": "justified", "comment": " "},
		"a verdict of something else": {"verdict": "keep", "comment": "x"}, "a principal": {"verdict": "justified", "comment": "x", "principal": "group:eng"},
	} {
		answer := e.carol.Write(t, e.path("reviews/"+id), body)
		a.tried(t, answer.Status == badRequest, "%s: %d %s", name, answer.Status, answer.Body)
	}
	a.control(t, e.sign(t, e.carol.Actor, id))
	a.refused(t, e.sign(t, e.carol.Actor, id), badRequest, "this review is signed off already")
	e.ownUnderAStoredName(t, a, second)
}

// ownUnderAStoredName takes the person key away after the emergency.
func (e *emergency) ownUnderAStoredName(t *testing.T, a *attack, second *harness.Person) {
	t.Helper()
	id := e.glass(t, e.dave.Actor, "INC-3", nil).OK(t).String(t, "request_id")
	host.Root().Write(t, e.path("config"), map[string]any{"person_key": ""}).OK(t)
	a.refused(t, e.sign(t, second.Actor, id), forbidden, "access denied: nobody reviews their own request")
	a.control(t, e.sign(t, e.carol.Actor, id))
}

func TestGlassBrokenTooOften(t *testing.T) {
	t.Parallel()
	a := begin(t, "B2", "the glass is broken again while a review is owed, or beyond its limits")
	limits := map[string]any{"break_glass_max": 2, "break_glass_limit_person": 4}
	e := newEmergency(t, limits)
	second := host.Person(t, "dave-admin", e.person)
	host.SetMembers(t, e.onCall, e.dave, second)
	e.persons(t, map[*harness.Person]string{e.alice: "alice", e.bob: "bob", e.carol: "carol", e.dave: "dave", second: "DAVE"})
	id := a.control(t, e.glass(t, e.dave.Actor, "INC-1", nil)).String(t, "request_id")
	owed := "access denied: request " + id + " for this role waits for its review"
	for _, ticket := range []string{"INC-2", "inc-1", "INC-1.", "INC-01", "ＩＮＣ-1"} {
		a.refused(t, e.glass(t, e.dave.Actor, ticket, nil), forbidden, owed)
		a.refused(t, e.glass(t, second.Actor, ticket, nil), forbidden, owed)
	}
	for _, body := range []map[string]any{{"ticket": ""}, {"justification": ""}, {"start_time": "2099-01-01T00:00:00Z"}, {"ttl": "3h"}} {
		a.refused(t, e.glass(t, e.dave.Actor, "INC-1", body), badRequest, "invalid input: ")
	}
	again := a.control(t, e.glass(t, e.dave.Actor, "INC-1", nil))
	a.tried(t, again.String(t, "request_id") == id && again.Data["existing"] == true, "the same ask: %s", again.Body)
	// Given back it is owed all the same, and the role's end pays nothing.
	a.control(t, e.dave.Delete(t, e.path("requests/"+id)))
	a.refused(t, e.glass(t, e.dave.Actor, "INC-2", nil), forbidden, owed)
	do(t, host.Root(), http.MethodDelete, e.path("roles/prod?live=revoke"), nil).OK(t)
	e.glassRole(t, "prod", limits).OK(t)
	a.refused(t, e.glass(t, e.dave.Actor, "INC-2", nil), forbidden, owed)
	// At once: what is left of the ticket's two uses is one.
	var n atomic.Int64
	got, _ := atOnce(t, 20, func() (harness.Answer, error) {
		who := []harness.Actor{e.dave.Actor, second.Actor}[n.Add(1)%2]
		return who.Do(t.Context(), http.MethodPut, e.path("break-glass/prod"),
			map[string]any{"justification": "down", "ticket": "INC-1", "ttl": 600 + n.Load()}, nil)
	})
	a.tried(t, got[http.StatusOK] == 1 && got[forbidden] == 19, "answers by status: %v", got)
	for _, id := range e.carol.List(t, e.path("reviews/")).Keys(t) {
		a.control(t, e.sign(t, e.carol.Actor, id))
	}
	for i := range 2 { // four in a period
		id := a.control(t, e.glass(t, second.Actor, fmt.Sprint("INC-", 5+i), nil)).String(t, "request_id")
		a.control(t, e.sign(t, e.carol.Actor, id))
	}
	a.refused(t, e.glass(t, e.dave.Actor, "INC-9", nil), forbidden, "access denied: limit reached: you broke this glass 4 times")
}

func TestWhoMayNotBreakTheGlass(t *testing.T) {
	t.Parallel()
	a := begin(t, "B3", "the glass is broken, or used on, by who may not")
	e := newEmergency(t, map[string]any{"review_deadline": 1, "break_glass_limit_person": 10, "break_glass_max": 10})
	const none = "access denied: no such role, or you are not among those who may break its glass"
	mallory := host.Person(t, "mallory", e.person)
	for name, who := range map[string]harness.Actor{
		"who is eligible": e.alice.Actor, "who approves": e.bob.Actor, "who reviews": e.carol.Actor, "nobody": mallory.Actor,
		"a machine that is on call": e.machine(t, e.person, e.onCall),
	} {
		answer := a.refused(t, e.glass(t, who, "INC-1", nil), forbidden, none)
		unknown := who.Write(t, e.path("break-glass/nosuch"), map[string]any{"justification": "x", "ticket": "INC-1"})
		a.tried(t, told(answer, "prod") == told(unknown, "nosuch"), "%s is told of a role: %s", name, answer.Body)
	}
	a.refused(t, e.glass(t, host.Root(), "INC-1", nil), forbidden, "access denied: log in again")
	id := a.control(t, e.glass(t, e.dave.Actor, "INC-1", nil)).String(t, "request_id")
	held := a.control(t, e.creds(t, e.dave.Actor, "prod")).String(t, "token")
	a.refused(t, e.dave.Write(t, e.path("requests/"+id+"/extend"), map[string]any{"ttl": 600, "justification": "x"}), forbidden, "access denied: ")
	a.refused(t, e.creds(t, mallory.Actor, "prod"), forbidden, "access denied: no such role")
	// A hold is stronger, and who left the group is out.
	hold := host.Root().Write(t, e.path("holds"), map[string]any{"entity_id": e.dave.EntityID, "reason": "a laptop was stolen"}).OK(t).String(t, "hold_id")
	a.refused(t, e.glass(t, e.dave.Actor, "INC-1", map[string]any{"ttl": 700}), forbidden, "access denied: a hold is in force")
	a.refused(t, e.creds(t, e.dave.Actor, "prod"), forbidden, "access denied: a hold is in force")
	host.Root().Delete(t, e.path("holds/"+hold)).OK(t)
	host.SetMembers(t, e.onCall, e.carol)
	a.refused(t, e.creds(t, e.dave.Actor, "prod"), forbidden, "access denied: ")
	a.refused(t, e.glass(t, e.dave.Actor, "INC-1", map[string]any{"ttl": 800}), forbidden, none)
	host.SetMembers(t, e.onCall, e.dave, e.carol)
	e.overdue(t, a, id)
	e.editsIt(t, a)
	host.Root().Write(t, e.path("revoke"), map[string]any{"role": "prod", "hold": 0}).OK(t)
	dies(t, held)
}

// overdue: past its deadline a debt bars the ordinary way too.
func (e *emergency) overdue(t *testing.T, a *attack, id string) {
	t.Helper()
	host.SetMembers(t, e.eligible, e.alice, e.dave)
	why := map[string]any{"justification": "order 4711 is stuck"}
	poll.Until(t, promised, func() error {
		if asked := e.dave.Write(t, e.path("request/prod"), why); asked.Status != forbidden {
			e.dave.Delete(t, e.path("requests/"+asked.String(t, "request_id"))).OK(t)
			return fmt.Errorf("%d %s", asked.Status, asked.Body)
		}
		return nil
	})
	owed := "access denied: request " + id + " for this role waits for its review: it is overdue"
	a.refused(t, e.dave.Write(t, e.path("request/prod"), why), forbidden, owed)
	a.refused(t, e.glass(t, e.dave.Actor, "INC-1", map[string]any{"ttl": 900}), forbidden, owed)
	a.control(t, e.sign(t, e.carol.Actor, id))
	a.control(t, e.dave.Write(t, e.path("request/prod"), why))
}

// editsIt: who set the glass up does not break it.
func (e *emergency) editsIt(t *testing.T, a *attack) {
	t.Helper()
	editor := host.Policy(t, "editor", fmt.Sprintf("path %q { capabilities = [\"read\", \"update\"] }", e.path("roles/prod")))
	host.Root().Write(t, "auth/userpass/users/"+e.carol.Login, map[string]any{"token_policies": []string{e.person, editor}}).OK(t)
	e.carol.LogIn(t)
	id := a.control(t, e.glass(t, e.carol.Actor, "INC-7", nil)).String(t, "request_id")
	a.refused(t, e.sign(t, e.carol.Actor, id), forbidden, "access denied: nobody reviews their own request")
	e.carol.Write(t, e.path("roles/prod"), map[string]any{"break_glass_ttl": "50m", "review_deadline": "24h", "live": "keep"}).OK(t)
	a.refused(t, e.glass(t, e.carol.Actor, "INC-7", map[string]any{"ttl": 700}), forbidden, "access denied: ")
	a.refused(t, e.glass(t, e.childOf(t, e.carol, e.person), "INC-7", map[string]any{"ttl": 700}), forbidden, "access denied: ")
}

func TestHiddenEmergency(t *testing.T) {
	t.Parallel()
	a := begin(t, "B4", "who broke the glass keeps the news from who should hear of it")
	e := newEmergency(t, nil)
	second := host.Person(t, "dave-admin", e.person)
	host.SetMembers(t, e.onCall, e.dave)
	e.persons(t, map[*harness.Person]string{e.carol: "carol", e.dave: "dave", second: "Dave"})
	events := func(who harness.Actor) harness.Answer { return who.List(t, e.path("events/")) }
	heard := func(id string) any { return host.Root().Read(t, e.path("audit/requests/"+id)).OK(t).Data["heard"] }
	ack := func(who harness.Actor, consumer, cursor string) harness.Answer {
		return who.Write(t, e.path("events/consumers/"+consumer), map[string]any{"cursor": cursor})
	}
	for _, who := range []harness.Actor{e.dave.Actor, e.bob.Actor} {
		a.refused(t, events(who), forbidden, "")
		a.refused(t, ack(who, "siem", "01jnb000000000000000000001"), forbidden, "")
	}
	// Who is on call has the policy of an officer; what forwards events is a machine.
	officer := e.persona(t, "security-officer")
	for _, p := range []*harness.Person{e.dave, second, e.carol} {
		host.Root().Write(t, "auth/userpass/users/"+p.Login, map[string]any{"token_policies": []string{e.person, officer}}).OK(t)
		p.LogIn(t)
	}
	siem := e.machine(t, officer)
	id := e.glass(t, e.dave.Actor, "INC-1", nil).OK(t).String(t, "request_id")
	keys := a.control(t, events(siem)).Keys(t)
	a.control(t, ack(siem, "siem", keys[0]))
	next := e.glass(t, e.dave.Actor, "INC-1", map[string]any{"ttl": 600}).OK(t).String(t, "request_id")
	keys = events(siem).Keys(t)
	last := keys[len(keys)-1]
	a.control(t, ack(e.dave.Actor, "own", last))
	a.control(t, ack(second.Actor, "own-too", last))
	a.tried(t, heard(next) == false, "who broke the glass has heard of it, and that counts")
	for _, who := range []harness.Actor{e.dave.Actor, second.Actor, e.carol.Actor, host.Root()} {
		a.refused(t, ack(who, "siem", last), forbidden, "access denied: somebody else runs this consumer of events")
	}
	a.tried(t, heard(next) == false, "heard, and nobody has read of it")
	for _, cursor := range []string{"7zzzzzzzzzzzzzzzzzzzzzzzzz", "", strings.ToUpper(last), last[:25], "*"} {
		a.refused(t, ack(siem, "siem", cursor), badRequest, "invalid input: cursor: ")
	}
	// Deleted, it is gone from its list and not from the feed, and its next run says so.
	e.dave.Delete(t, e.path("events/consumers/siem")).OK(t)
	a.control(t, ack(e.dave.Actor, "siem", last))
	a.refused(t, ack(siem, "siem", last), forbidden, "access denied: somebody else runs this consumer of events")
	a.tried(t, len(events(siem).Keys(t)) >= len(keys) && heard(next) == false, "the news are gone")
	a.control(t, ack(e.carol.Actor, "carol", last))
	a.seen(t, heard(next) == true && heard(id) == true, "carol has read of it, and that does not count")
	log, err := host.Log()
	if err != nil {
		t.Fatal(err)
	}
	a.seen(t, strings.Contains(log, "BREAK-GLASS") && strings.Contains(log, next), "the log does not tell of it")
}
