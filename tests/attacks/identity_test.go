package attacks

import (
	"net/http"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// A1: what remains of an entity that was merged away.

func TestTokenFromBeforeAMerge(t *testing.T) {
	t.Parallel()
	a := begin(t, "A1", "a token from before a merge approves the request of the person it was merged into")
	w := plain(t)
	carol := host.Person(t, "carol", w.person)
	host.SetMembers(t, w.approver, w.bob, carol)
	first, firstDigest := w.ask(t, "prod", nil)
	id, digest := w.ask(t, "prod", map[string]any{"ttl": "2h"})
	a.control(t, w.decide(t, carol.Actor, first, yes(firstDigest)))
	a.control(t, carol.Read(t, w.path("approvals/"+id)))
	merge(t, carol, w.alice)
	host.SetMembers(t, w.approver, w.bob, w.alice)
	a.refused(t, w.decide(t, carol.Actor, id, yes(digest)), forbidden, "access denied: log in again")
	a.refused(t, w.decide(t, w.alice.Actor, id, yes(digest)), forbidden, "access denied: nobody decides on their own request")
	a.refused(t, w.creds(t, carol.Actor, "prod"), forbidden, "access denied: log in again")
	a.refused(t, carol.Read(t, w.path("approvals/"+id)), forbidden, "access denied: log in again")
	carol.LogIn(t) // now as alice
	a.refused(t, w.decide(t, carol.Actor, id, yes(digest)), forbidden, "access denied: nobody decides on their own request")
	a.control(t, w.decide(t, w.bob.Actor, id, yes(digest)))
}

func TestApproverMergedIntoRequester(t *testing.T) {
	t.Parallel()
	a := begin(t, "A1", "the approver is merged into the requester after the approval")
	w := plain(t)
	carol := host.Person(t, "carol", w.person)
	host.SetMembers(t, w.approver, carol)
	id, digest := w.ask(t, "prod", nil)
	w.decide(t, carol.Actor, id, yes(digest)).OK(t)
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
	merge(t, carol, w.alice)
	host.SetMembers(t, w.approver, w.alice)
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "access denied: the approvals of request "+id)
}

func TestApproversMergedIntoOne(t *testing.T) {
	t.Parallel()
	a := begin(t, "A1", "two approvers are merged into one person after both approved")
	w := plain(t)
	w.role(t, "prod", map[string]any{"approvals": 2}).OK(t)
	carol := host.Person(t, "carol", w.person)
	host.SetMembers(t, w.approver, w.bob, carol)
	id, digest := w.ask(t, "prod", nil)
	w.decide(t, w.bob.Actor, id, yes(digest)).OK(t)
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), badRequest, "approval pending: request "+id)
	w.decide(t, carol.Actor, id, yes(digest)).OK(t)
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
	merge(t, carol, w.bob)
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "access denied: the approvals of request "+id)
}

func TestRequesterMergedIntoApprover(t *testing.T) {
	t.Parallel()
	a := begin(t, "A1", "the requester is merged into the approver, who then decides on it and reads it")
	w := plain(t)
	pending, digest := w.ask(t, "prod", map[string]any{"ttl": "2h"})
	granted := w.grant(t, "prod", map[string]any{"ttl": "1h"})
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
	host.SetMembers(t, w.eligible, w.alice, w.bob)
	merge(t, w.alice, w.bob)
	a.refused(t, w.decide(t, w.bob.Actor, pending, yes(digest)), badRequest, "the request is void")
	a.refused(t, w.creds(t, w.bob.Actor, "prod"), badRequest, "no active grant")
	a.refused(t, w.bob.Write(t, w.path("creds/prod"), map[string]any{"request_id": granted}), badRequest, "no active grant")
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "access denied: log in again")
}

// A2: two entities of one person.

func TestTwoEntitiesOfOnePerson(t *testing.T) {
	t.Parallel()
	a := begin(t, "A2", "a person approves with their second entity, under person_key")
	w := plain(t)
	second, nobody := host.Person(t, "alice-admin", w.person), host.Person(t, "carol", w.person)
	host.SetMembers(t, w.approver, w.bob, second, nobody)
	id, digest := w.ask(t, "prod", nil)
	a.control(t, w.decide(t, second.Actor, id, yes(digest))) // without person_key the host says that they are two
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
	host.Root().Write(t, w.path("config"), map[string]any{"person_key": "mail"}).OK(t)
	// One and the same name, in the spellings that directories have for it.
	for _, mine := range []string{" Zoë@Example.org", "zoë@example.org", "ZOE\u0308@EXAMPLE.ORG\u00a0"} {
		mail(t, w.alice, mine)
		mail(t, second, "zoë@example.org ")
		mail(t, w.bob, "bob@example.org")
		a.refused(t, w.creds(t, w.alice.Actor, "prod"), badRequest, "no active grant")
		id, digest = w.ask(t, "prod", nil)
		a.refused(t, w.decide(t, second.Actor, id, yes(digest)), forbidden, "access denied: nobody decides on their own request")
		a.refused(t, w.decide(t, nobody.Actor, id, yes(digest)), forbidden, "access denied: the identity of this token lacks")
		a.refused(t, nobody.Write(t, w.path("request/prod"), map[string]any{"justification": "why"}), forbidden, "access denied: the identity of this token lacks")
		a.control(t, w.decide(t, w.bob.Actor, id, yes(digest)))
		a.control(t, w.creds(t, w.alice.Actor, "prod"))
		a.control(t, w.alice.Delete(t, w.path("requests/"+id)))
	}
}

func TestPersonKeyComesLater(t *testing.T) {
	t.Parallel()
	a := begin(t, "A2", "an approval of one's own second entity is older than what shows that they are one")
	w := plain(t)
	second := host.Person(t, "alice-admin", w.person)
	host.SetMembers(t, w.approver, w.bob, second)
	mail(t, w.alice, "alice@example.org")
	mail(t, second, "alice-admin@example.org")
	mail(t, w.bob, "bob@example.org")
	host.Root().Write(t, w.path("config"), map[string]any{"person_key": "mail"}).OK(t)
	id, digest := w.ask(t, "prod", nil)
	w.decide(t, second.Actor, id, yes(digest)).OK(t)
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
	mail(t, second, "alice@example.org")
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "access denied: the approvals of request "+id)
	// Taking it back, or doing without it, does not bring back what was decided.
	mail(t, second, "alice-admin@example.org")
	host.Root().Write(t, w.path("config"), map[string]any{"person_key": ""}).OK(t)
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), badRequest, "no active grant")
}

func TestTwoVoicesOfOnePerson(t *testing.T) {
	t.Parallel()
	a := begin(t, "A2", "one approver makes two approvals, with two entities and with two tokens")
	w := plain(t)
	w.role(t, "prod", map[string]any{"approvals": 2}).OK(t)
	second, carol := host.Person(t, "bob-admin", w.person), host.Person(t, "carol", w.person)
	host.SetMembers(t, w.approver, w.bob, second, carol)
	for p, name := range map[*harness.Person]string{w.alice: "alice", w.bob: "bob", second: "BOB ", carol: "carol"} {
		mail(t, p, name+"@example.org")
	}
	mail(t, second, "BOB@example.org ")
	host.Root().Write(t, w.path("config"), map[string]any{"person_key": "mail"}).OK(t)
	id, digest := w.ask(t, "prod", nil)
	a.control(t, w.decide(t, w.bob.Actor, id, yes(digest)))
	a.refused(t, w.decide(t, second.Actor, id, yes(digest)), badRequest, "you have already decided")
	w.bob.LogIn(t)
	a.refused(t, w.decide(t, w.bob.Actor, id, yes(digest)), badRequest, "you have already decided")
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), badRequest, "approval pending: request "+id+" has 1 of 2")
	a.control(t, w.decide(t, carol.Actor, id, yes(digest)))
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
}

// A4: who approved is no longer who could.

func TestApproverWhoLeft(t *testing.T) {
	t.Parallel()
	a := begin(t, "A4", "the approver leaves, is disabled or is deleted before the grant is used")
	for _, row := range []struct {
		name  string
		leave func(*testing.T, *world)
	}{
		{"removed from the group", func(t *testing.T, w *world) { t.Helper(); host.SetMembers(t, w.approver) }},
		{"disabled", func(t *testing.T, w *world) { t.Helper(); host.Disable(t, w.bob, true) }},
		{"deleted", func(t *testing.T, w *world) {
			t.Helper()
			host.Root().Delete(t, "identity/entity/id/"+w.bob.EntityID).OK(t)
		}},
		{"the group of that name is deleted and made anew", func(t *testing.T, w *world) {
			t.Helper()
			host.Root().Delete(t, "identity/group/id/"+w.approver.ID).OK(t)
			host.Root().Write(t, "identity/group", map[string]any{"name": w.approver.Name, "member_entity_ids": []string{w.bob.EntityID}}).OK(t)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := plain(t)
			id := w.grant(t, "prod", nil)
			a.control(t, w.creds(t, w.alice.Actor, "prod"))
			row.leave(t, w)
			a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "access denied: the approvals of request "+id)
		})
	}
}

// What an identity provider says of groups reaches the host at a login: until then
// an external group is as it was. That is stated, not prevented.
func TestApproverWhoLeftAnExternalGroup(t *testing.T) {
	t.Parallel()
	a := begin(t, "A4", "the approver leaves a group that is kept outside the host")
	w := plain(t)
	issuer := harness.NewIssuer(t)
	auth := host.JWTAuth(t, issuer)
	auth.Role(t, "people", map[string]any{
		"user_claim": "sub", "groups_claim": "groups", "bound_audiences": []string{"host"}, "token_policies": []string{w.person},
	})
	group := host.Root().Write(t, "identity/group", map[string]any{"name": "sso-" + w.approver.Name, "type": "external"}).OK(t).String(t, "id")
	host.Root().Write(t, "identity/group-alias", map[string]any{"name": "leads", "mount_accessor": auth.Accessor, "canonical_id": group}).OK(t)
	host.Root().Write(t, w.path("config"), map[string]any{"human_mounts": auth.Accessor}).OK(t)
	w.role(t, "prod", map[string]any{"approver_groups": group}).OK(t)
	claims := func(groups ...string) map[string]any {
		return map[string]any{"sub": "dave", "aud": "host", "groups": groups}
	}
	dave := auth.LogIn(t, "people", issuer.Sign(t, claims("leads")))
	id, digest := w.ask(t, "prod", nil)
	a.control(t, w.decide(t, dave, id, yes(digest)))
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
	auth.LogIn(t, "people", issuer.Sign(t, claims("others")))
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "access denied: the approvals of request "+id)
	second, digest := w.ask(t, "prod", map[string]any{"ttl": "2h"})
	a.refused(t, w.decide(t, dave, second, yes(digest)), notFound, "")
	a.note("bites at the member's next login or renewal, as the host has it")
}

func TestDisabledRequester(t *testing.T) {
	t.Parallel()
	a := begin(t, "A4", "a disabled requester goes on")
	w := plain(t)
	w.grant(t, "prod", nil)
	held := a.control(t, w.creds(t, w.alice.Actor, "prod")).String(t, "token")
	a.seen(t, works(t, held), "the credential is refused")
	pending, _ := w.ask(t, "prod", map[string]any{"ttl": "2h"})
	host.Disable(t, w.alice, true)
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "")
	a.refused(t, w.alice.Write(t, w.path("request/prod"), map[string]any{"justification": "why"}), forbidden, "")
	dies(t, held)
	a.tried(t, !works(t, held), "the credential outlives its disabled owner")
	host.Disable(t, w.alice, false)
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "access denied: request ")
	if state := w.state(t, pending); state != "revoked" {
		t.Errorf("what a disabled person had asked is %s", state)
	}
}

// T: tokens that are not a person's login.

func TestTokensThatAreNobody(t *testing.T) {
	t.Parallel()
	a := begin(t, "T1", "tokens without a person: root, orphan, issued by pim, the engine's own, a machine as approver")
	w := plain(t)
	id, digest := w.ask(t, "prod", nil)
	orphan := func(kind string) harness.Actor {
		made := host.Root().Write(t, "auth/token/create-orphan", map[string]any{"policies": []string{w.person}, "type": kind}).OK(t)
		token, _ := made.Auth["client_token"].(string)
		return host.Root().With(kind+" orphan", token)
	}
	engine := host.AppRole(t, "ci", "20m", w.person)
	login := "auth/approle/role/" + w.target.Login.Name
	policies, _ := host.Root().Read(t, login).OK(t).Data["token_policies"].([]any)
	host.Root().Write(t, login, map[string]any{"token_policies": append(policies, w.person)}).OK(t)
	nobodies := map[string]harness.Actor{
		"access denied: log in again: this token belongs to no entity": host.Root(),
		"access denied: log in again":                                  orphan("service"),
		"access denied: log in":                                        orphan("batch"),
		"access denied: this is the engine's own login":                w.target.Login.LogIn(t),
	}
	everyone := host.Root().Write(t, "identity/group", map[string]any{"name": "machines-" + w.approver.Name}).OK(t).String(t, "id")
	w.role(t, "other", map[string]any{"approver_groups": everyone + "," + w.approver.Name}).OK(t)
	for says, who := range nobodies {
		a.refused(t, who.Write(t, w.path("request/prod"), map[string]any{"justification": "why"}), forbidden, says)
		a.refused(t, w.decide(t, who, id, yes(digest)), forbidden, says)
		a.refused(t, w.creds(t, who, "prod"), forbidden, says)
		a.refused(t, who.Read(t, w.path("requests/"+id)), forbidden, says)
		a.refused(t, who.Delete(t, w.path("requests/"+id)), forbidden, says)
		a.refused(t, who.Write(t, w.path("grants/"+id+"/revoke"), nil), forbidden, says)
	}
	// A machine may ask where it is eligible, and never decides.
	machine := engine.LogIn(t)
	self := machine.Read(t, "auth/token/lookup-self")
	if self.Status == forbidden { // no default policy: root looks it up
		self = host.Root().Write(t, "auth/token/lookup", map[string]any{"token": machine.Token})
	}
	entity := self.OK(t).String(t, "entity_id")
	host.Root().Write(t, "identity/group/id/"+everyone, map[string]any{"name": "machines-" + w.approver.Name, "member_entity_ids": []string{entity}}).OK(t)
	other, otherDigest := w.ask(t, "other", nil)
	a.refused(t, w.decide(t, machine, other, yes(otherDigest)), forbidden, "access denied: machines may request, but never decide")
	a.control(t, w.decide(t, w.bob.Actor, other, yes(otherDigest)))
	a.control(t, w.decide(t, w.bob.Actor, id, yes(digest)))
	issued := a.control(t, w.creds(t, w.alice.Actor, "prod")).String(t, "token")
	a.refused(t, w.creds(t, host.Root().With("credential", issued), "prod"), forbidden, "")
}

func TestChildTokens(t *testing.T) {
	t.Parallel()
	a := begin(t, "T2", "a child of one's own token, and a second login, as another person")
	w := plain(t)
	host.SetMembers(t, w.approver, w.alice, w.bob)
	creator := host.Policy(t, "creator", `path "auth/token/create" { capabilities = ["update"] }`)
	host.Root().Write(t, "auth/userpass/users/"+w.alice.Login, map[string]any{"token_policies": []string{w.person, creator}}).OK(t)
	w.alice.LogIn(t)
	id, digest := w.ask(t, "prod", nil)
	made := w.alice.Write(t, "auth/token/create", map[string]any{"policies": []string{w.person}}).OK(t)
	token, _ := made.Auth["client_token"].(string)
	child := host.Root().With("child of alice", token)
	a.control(t, child.Read(t, w.path("requests/"+id))) // it is alice
	a.refused(t, w.decide(t, child, id, yes(digest)), forbidden, "access denied: nobody decides on their own request")
	w.alice.LogIn(t)
	a.refused(t, w.decide(t, w.alice.Actor, id, yes(digest)), forbidden, "access denied: nobody decides on their own request")
	a.control(t, w.decide(t, w.bob.Actor, id, yes(digest)))
	first := a.control(t, w.creds(t, child, "prod")).String(t, "token")
	host.Root().Write(t, "auth/token/revoke", map[string]any{"token": child.Token}).OK(t)
	dies(t, first)
	a.tried(t, !works(t, first), "a credential outlives the token that it was read with")
}

func TestBatchTokens(t *testing.T) {
	t.Parallel()
	a := begin(t, "T3", "a batch token, which cannot be revoked, keeps a credential alive")
	w := plain(t)
	host.Root().Write(t, "auth/userpass/users/"+w.alice.Login, map[string]any{"token_type": "batch", "token_ttl": "1h"}).OK(t)
	w.alice.LogIn(t)
	for _, end := range []struct {
		name string
		by   func(id string) harness.Answer
	}{
		{"an approver ends it", func(id string) harness.Answer {
			return w.bob.Write(t, w.path("grants/"+id+"/revoke"), map[string]any{"reason": "done"})
		}},
		{"the kill switch", func(string) harness.Answer {
			return host.Root().Write(t, w.path("revoke"), map[string]any{"entity_id": w.alice.EntityID})
		}},
	} {
		id := w.grant(t, "prod", nil)
		creds := a.control(t, w.creds(t, w.alice.Actor, "prod"))
		token := creds.String(t, "token")
		a.seen(t, works(t, token), "%s: the credential is refused", end.name)
		renewed := do(t, host.Root(), http.MethodPut, "sys/leases/renew", map[string]any{"lease_id": creds.LeaseID, "increment": 86400})
		a.tried(t, renewed.Status/100 != 2, "the lease of a batch token is renewed: %s", renewed.Body)
		end.by(id).OK(t)
		dies(t, token)
		a.tried(t, !works(t, token), "%s, and the credential works", end.name)
		if a.t.Failed() {
			return
		}
	}
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "access denied: ")
}

func TestWrappedCredentials(t *testing.T) {
	t.Parallel()
	a := begin(t, "T4", "a wrapped credential is taken on the way, unwrapped twice, or used as a token")
	w := plain(t)
	w.role(t, "wrapped", map[string]any{"wrap_ttl": "5m"}).OK(t)
	id := w.grant(t, "wrapped", nil)
	unwrap := func(token string) harness.Answer {
		return do(t, host.Anonymous().With("somebody", token), http.MethodPut, "sys/wrapping/unwrap", nil)
	}
	first := a.control(t, w.creds(t, w.alice.Actor, "wrapped"))
	a.tried(t, first.Data["token"] == nil && first.WrapToken != "", "a role that wraps answers in clear")
	token := a.control(t, unwrap(first.WrapToken)).String(t, "token")
	a.seen(t, works(t, token), "what was unwrapped is refused")
	// Whoever is second sees that somebody was first.
	a.refused(t, unwrap(first.WrapToken), badRequest, "")
	// Used as a token it is used up, and opens nothing.
	misused := w.creds(t, w.alice.Actor, "wrapped").OK(t).WrapToken
	a.refused(t, w.creds(t, host.Root().With("wrapping token", misused), "wrapped"), forbidden, "")
	a.refused(t, unwrap(misused), badRequest, "")
	// A caller who asks for a longer wrapping gets no longer one, and cannot do without.
	for _, asked := range []string{"24h", "0", "0s"} {
		answer, err := w.alice.Do(t.Context(), http.MethodGet, w.path("creds/wrapped"), nil, http.Header{"X-Vault-Wrap-Ttl": {asked}})
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status == http.StatusOK {
			ttl := host.Root().Write(t, "sys/wrapping/lookup", map[string]any{"token": answer.WrapToken}).OK(t).Data["creation_ttl"]
			seconds, _ := ttl.(float64)
			a.tried(t, answer.Data["token"] == nil && seconds > 0 && seconds <= 300, "wrapped for %v as %s asked: %s", ttl, asked, answer.Body)
		} else {
			a.refused(t, answer, badRequest, "")
		}
	}
	// What was never unwrapped ends with the grant.
	left := w.creds(t, w.alice.Actor, "wrapped").OK(t)
	a.control(t, w.bob.Write(t, w.path("grants/"+id+"/revoke"), map[string]any{"reason": "done"}))
	inside := unwrap(left.WrapToken).OK(t).String(t, "token")
	a.tried(t, !works(t, inside), "what is unwrapped after the end works")
}
