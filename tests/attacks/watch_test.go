package attacks

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// W: what watches over access is read, asked or used by who should not.

func TestOfficersPaths(t *testing.T) {
	t.Parallel()
	a := begin(t, "W1", "events, reports, simulations, access reviews, edits and sweeps by who has no business there")
	w := plain(t)
	id := w.grant(t, "prod", nil)
	officer, operator := host.Person(t, "carol", w.persona(t, "security-officer")), host.Person(t, "dave", w.persona(t, "operator"))
	guess := map[string]any{"entity_id": w.alice.EntityID, "justification": "why", "decisions": []map[string]any{{"entity_id": w.bob.EntityID}}}
	calls := []struct {
		call

		by *harness.Person // whose business it is
	}{
		{call{"LIST", "events/", nil}, officer},
		{call{"LIST", "events/consumers/", nil}, officer},
		{call{http.MethodPut, "events/consumers/siem", map[string]any{"cursor": "00000000000000000000000000"}}, officer},
		{call{http.MethodGet, "events/consumers/siem", nil}, officer},
		{call{http.MethodDelete, "events/consumers/siem", nil}, officer},
		{call{"LIST", "reports/eligibility/", nil}, officer},
		{call{http.MethodGet, "reports/eligibility/prod", nil}, officer},
		{call{http.MethodPut, "audit/simulate/prod", guess}, officer},
		{call{http.MethodPut, "audit/simulate/prod", map[string]any{"against": "last-10"}}, officer},
		{call{"LIST", "campaigns/", nil}, officer},
		{call{http.MethodGet, "audit/requests/" + id, nil}, officer},
		{call{"LIST", "orphans/", nil}, officer},
		{call{http.MethodPut, "orphans/sweep", map[string]any{"end": true}}, operator},
		{call{http.MethodGet, "roles/prod/confirm", nil}, officer},
		{call{http.MethodDelete, "roles/prod/confirm", nil}, officer},
		{call{http.MethodPut, "roles/prod/revoke", map[string]any{"reason": "x"}}, officer},
	}
	spoken := map[string]harness.Actor{
		"who asks": w.alice.Actor, "who approves": w.bob.Actor, "a machine": w.machine(t, w.person, w.eligible), "nobody": host.Anonymous(),
		"requester's policy": host.Person(t, "erin", w.persona(t, "requester")).Actor, "approver's policy": host.Person(t, "frank", w.persona(t, "approver")).Actor,
		"another team's role admin": host.Person(t, "grace", w.persona(t, "role-admin")).Actor, "the engine's own login": w.target.Login.LogIn(t),
		"a credential": host.Root().With("credential", w.creds(t, w.alice.Actor, "prod").OK(t).String(t, "token")),
	}
	for _, c := range calls {
		for name, who := range spoken {
			answer := c.send(t, w, who, "")
			a.tried(t, answer.Status == forbidden, "%s by %s: %d %s", answer.Request, name, answer.Status, answer.Body)
		}
	}
	for _, c := range calls {
		answer := c.send(t, w, c.by.Actor, "")
		a.seen(t, answer.Status != forbidden && answer.Status < 500, "%s by whose business it is: %d %s", answer.Request, answer.Status, answer.Body)
	}
	// An officer sees and stops everything, and alone gives nobody anything.
	for _, c := range []call{
		{http.MethodPut, "roles/prod", map[string]any{"approvals": 1}},
		{http.MethodPut, "targets/local", map[string]any{"description": "x"}},
		{http.MethodPut, "config", map[string]any{"edit_sod": false}},
		{http.MethodPut, "request/prod", map[string]any{"justification": "why"}},
		{http.MethodGet, "creds/prod", nil},
		{http.MethodPut, "approvals/" + id, yes("00")},
		{http.MethodPut, "break-glass/prod", map[string]any{"justification": "x", "ticket": "x"}},
		{http.MethodPut, "orphans/sweep", map[string]any{"end": true}},
		{http.MethodPut, "rotate-epoch", nil},
	} {
		a.refused(t, c.send(t, w, officer.Actor, ""), forbidden, "")
	}
}

func TestSimulationLeavesNothing(t *testing.T) {
	t.Parallel()
	a := begin(t, "W2", "a simulation files, decides, changes or reaches something")
	w := plain(t)
	w.role(t, "team-a-prod", nil).OK(t)
	pending, digest := w.ask(t, "prod", map[string]any{"ttl": "2h"})
	officer := host.Person(t, "carol", w.persona(t, "security-officer"))
	admin := host.Person(t, "dave", w.persona(t, "role-admin"))
	before := fmt.Sprint(host.Root().Read(t, w.path("roles/prod")).OK(t).Data)
	wide := map[string]any{"approver_groups": w.eligible.Name, "max_ttl": "24h"}
	ask := map[string]any{
		"entity_id": w.alice.EntityID, "justification": "why", "change": wide, "against": "last-10",
		"decisions": []map[string]any{{"entity_id": w.bob.EntityID}, {"entity_id": w.bob.EntityID}, {"entity_id": w.alice.EntityID}},
	}
	open := w.alice.List(t, w.path("requests/mine/")).Keys(t)
	for range 3 {
		seen := a.control(t, officer.Write(t, w.path("audit/simulate/prod"), ask))
		a.tried(t, len(fmt.Sprint(seen.Data["ignored"])) > 5, "one's own decision counts in a simulation: %s", seen.Body)
		got := seen.String(t, "digest")
		a.tried(t, got != digest, "the digest of a simulation is that of a request")
		a.refused(t, w.decide(t, w.bob.Actor, pending, yes(got)), badRequest, "the digest is not that of this request")
	}
	a.tried(t, slices.Equal(w.alice.List(t, w.path("requests/mine/")).Keys(t), open), "a simulation has filed something")
	a.tried(t, fmt.Sprint(host.Root().Read(t, w.path("roles/prod")).OK(t).Data) == before, "a simulation has changed the role")
	if state := w.state(t, pending); state != "pending" {
		t.Errorf("the request is %s", state)
	}
	// Who keeps one team's roles tries those alone.
	trial := map[string]any{"entity_id": w.alice.EntityID, "justification": "why"}
	a.control(t, admin.Write(t, w.path("audit/simulate/team-a-prod"), trial))
	for _, name := range []string{"prod", "team-a-prod/../prod", "team-a-prod%2F..%2Fprod", "TEAM-A-prod"} {
		answer := do(t, admin.Actor, http.MethodPut, w.path("audit/simulate/"+name), trial)
		a.tried(t, answer.Status/100 != 2, "%s: %d %s", name, answer.Status, answer.Body)
	}
	for name, body := range map[string]map[string]any{
		"an entity's name": {"entity_id": w.alice.Login}, "every entity": {"entity_id": "*"}, "more than it may look at": {"against": "last-101"},
		"two edits": {"against": "last-1", "change": []any{wide, wide}}, "the engine's own fields": {"against": "last-1", "change": map[string]any{"pins": "x"}},
	} {
		answer := officer.Write(t, w.path("audit/simulate/prod"), body)
		a.tried(t, answer.Status == badRequest, "%s: %d %s", name, answer.Status, answer.Body)
	}
}

func TestSweepAgainstWhatIsLive(t *testing.T) {
	t.Parallel()
	a := begin(t, "W3", "a sweep that ends orphans is turned against live credentials")
	w := plain(t)
	operator := host.Person(t, "dave", w.persona(t, "operator"))
	id := w.grant(t, "prod", nil)
	held := w.creds(t, w.alice.Actor, "prod").OK(t).String(t, "token")
	a.seen(t, works(t, held), "the credential is refused")
	sweep := func(body map[string]any) {
		a.control(t, operator.Write(t, w.path("orphans/sweep"), body))
		poll.Until(t, promised, func() error {
			if operator.Read(t, w.path("orphans/sweep")).OK(t).Data["running"] != false {
				return errors.New("it runs")
			}
			return nil
		})
	}
	for range 2 { // what the first lists, the second may end
		for _, body := range []map[string]any{{}, {"end": true}, {"end": true, "target": "local"}} {
			sweep(body)
			a.tried(t, works(t, held) && w.state(t, id) == "active", "a sweep with %v ended what is on record", body)
		}
	}
	for name, body := range map[string]map[string]any{
		"a target that is not there": {"target": "nosuch", "end": true}, "a pattern": {"target": "*"}, "a credential": {"target": id},
		"an id": {"id": id, "end": true}, "an end that is a word": {"end": "please"},
	} {
		answer := operator.Write(t, w.path("orphans/sweep"), body)
		a.tried(t, answer.Status == badRequest, "%s: %d %s", name, answer.Status, answer.Body)
	}
	got, _ := atOnce(t, 10, func() (harness.Answer, error) {
		return operator.Do(t.Context(), http.MethodPut, w.path("orphans/sweep"), map[string]any{"end": true}, nil)
	})
	a.tried(t, got[http.StatusOK]+got[badRequest] == 10 && works(t, held), "ten sweeps at once: %v", got)
	a.control(t, w.bob.Write(t, w.path("grants/"+id+"/revoke"), map[string]any{"reason": "done"}))
	dies(t, held)
}

// U: a login that is not the one that the role asks for.

func TestLoginThatIsNoLogin(t *testing.T) {
	t.Parallel()
	a := begin(t, "U1", "a token that no fresh login made is used where one is asked for")
	w := plain(t)
	login := host.Root().Read(t, "auth/approle/role/"+w.target.Login.Name).OK(t)
	policies, _ := login.Data["token_policies"].([]any)
	policy := fmt.Sprint("sys/policies/acl/", policies[0])
	rules := host.Root().Read(t, policy).OK(t).String(t, "policy")
	host.Root().Write(t, policy, map[string]any{"policy": rules + "\npath \"sys/auth\" { capabilities = [\"read\"] }"}).OK(t)
	auth, _ := host.Root().Read(t, "sys/auth").OK(t).Data["userpass/"].(map[string]any)
	oncall := host.Group(t, "on-call", w.alice)
	w.role(t, "prod", map[string]any{
		"token_target": "local", "max_login_age": "10m", "required_login": auth["accessor"],
		"max_extension": "30m", "break_glass_groups": oncall.Name, "break_glass_max": 5,
	}).OK(t)
	id := w.grant(t, "prod", nil)
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
	fresh := w.alice.Actor
	refusedAll := func(who harness.Actor, why string) {
		t.Helper()
		says := "access denied: log in again: " + why
		a.refused(t, who.Write(t, w.path("break-glass/prod"), map[string]any{"justification": "down", "ticket": "INC-1"}), forbidden, says)
		a.refused(t, who.Write(t, w.path("request/prod"), map[string]any{"justification": "why", "ttl": "3h"}), forbidden, says)
		a.refused(t, w.creds(t, who, "prod"), forbidden, says)
		a.refused(t, who.Write(t, w.path("creds/prod"), map[string]any{"request_id": id}), forbidden, says)
		a.refused(t, w.extend(t, who, id, 60, "why"), forbidden, says)
	}
	refusedAll(w.childOf(t, w.alice, w.person), "this token was made by another token")
	a.control(t, w.extend(t, w.alice.Actor, id, 60, "why"))
	// The same person through another door, and with what cannot be looked up.
	refusedAll(w.otherDoor(t), "this token was made by a login at another auth mount")
	host.Root().Write(t, "auth/userpass/users/"+w.alice.Login, map[string]any{"token_type": "batch", "token_policies": w.person}).OK(t)
	w.alice.LogIn(t)
	refusedAll(w.alice.Actor, "this token has no accessor")
	// A login that has grown old does not become young by being renewed.
	w.role(t, "old", map[string]any{"token_target": "local", "max_login_age": 10}).OK(t)
	poll.Until(t, 4*promised, func() error {
		fresh.Write(t, "auth/token/renew-self", nil).OK(t)
		if asked := fresh.Write(t, w.path("request/old"), map[string]any{"justification": "why"}); asked.Status != forbidden {
			return fmt.Errorf("an old login requests: %s", asked.Body)
		}
		return nil
	})
	a.refused(t, w.creds(t, fresh, "old"), forbidden, "access denied: log in again: the login is older than the 10s")
	host.Root().Write(t, "auth/userpass/users/"+w.alice.Login, map[string]any{"token_type": "default"}).OK(t)
	w.alice.LogIn(t)
	a.control(t, w.alice.Write(t, w.path("break-glass/prod"), map[string]any{"justification": "down", "ticket": "INC-1"}))
	// A token role can make tokens of somebody's entity, who by that is no human being.
	impostor := w.impostor(t)
	a.refused(t, w.creds(t, impostor, "prod"), forbidden, "access denied: log in again: this token was made by another token")
	a.refused(t, w.extend(t, impostor, id, 60, "why"), forbidden, "access denied: log in again: this token was made by another token")
	a.refused(t, impostor.Write(t, w.path("break-glass/prod"), map[string]any{"justification": "down", "ticket": "INC-1"}), forbidden, "access denied: ")
}

// impostor is a token of a token role that names alice's entity.
func (w *world) impostor(t *testing.T) harness.Actor {
	t.Helper()
	root, role, alias := host.Root(), "impostor-"+strings.ToLower(w.alice.Login), "token-"+w.alice.Login
	mount, _ := root.Read(t, "sys/auth").OK(t).Data["token/"].(map[string]any)
	root.Write(t, "identity/entity-alias", map[string]any{"name": alias, "canonical_id": w.alice.EntityID, "mount_accessor": mount["accessor"]}).OK(t)
	root.Write(t, "auth/token/roles/"+role, map[string]any{"allowed_entity_aliases": alias, "allowed_policies": w.person}).OK(t)
	made := root.Write(t, "auth/token/create/"+role, map[string]any{"entity_alias": alias, "policies": []string{w.person}}).OK(t)
	return w.alice.With("impostor", fmt.Sprint(made.Auth["client_token"]))
}

// otherDoor is alice's login at an auth mount whose name begins like the right one.
func (w *world) otherDoor(t *testing.T) harness.Actor {
	t.Helper()
	root, path := host.Root(), "userpass-"+w.alice.Login
	root.Write(t, "sys/auth/"+path, map[string]any{"type": "userpass"}).OK(t)
	mount, _ := root.Read(t, "sys/auth").OK(t).Data[path+"/"].(map[string]any)
	root.Write(t, "auth/"+path+"/users/"+w.alice.Login, map[string]any{"password": "of-alice", "token_policies": w.person}).OK(t)
	root.Write(t, "identity/entity-alias", map[string]any{"name": w.alice.Login, "canonical_id": w.alice.EntityID, "mount_accessor": mount["accessor"]}).OK(t)
	logged := host.Anonymous().Write(t, "auth/"+path+"/login/"+w.alice.Login, map[string]any{"password": "of-alice"}).OK(t)
	return w.alice.With("alice elsewhere", fmt.Sprint(logged.Auth["client_token"]))
}
