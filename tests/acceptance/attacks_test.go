package acceptance

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// Attacks of people with real tokens on what approvals promise. Every one of
// them has to fail closed.

// attackScene is a mount whose role prod yields tokens of the policy prod-read.
func attackScene(t *testing.T) *cast {
	t.Helper()
	policy := host.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`)
	s := newScene(t, nil, policy)
	c := s.cast(t)
	c.role(t, "prod", map[string]any{"token_policies": policy, "max_active": 2}).OK(t)
	return c
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

func TestTokenFromBeforeAMergeIsNobody(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	carol := host.Person(t, "carol", c.policy)
	host.SetMembers(t, c.approver, c.bob, carol)
	id, digest := c.ask(t, "prod")
	// carol's entity is merged into alice's: her old token still presents the
	// old entity, and alice must not approve with it.
	merge(t, carol, c.alice)
	host.SetMembers(t, c.approver, c.bob, c.alice)
	carol.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).
		Refused(t, http.StatusForbidden, "access denied: ")
	c.alice.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).
		Refused(t, http.StatusForbidden, "access denied: nobody decides on their own request")
}

func TestApproverWhoIsMergedIntoTheRequesterNoLongerCounts(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	carol := host.Person(t, "carol", c.policy)
	host.SetMembers(t, c.approver, carol)
	id, digest := c.ask(t, "prod")
	carol.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).OK(t)
	merge(t, carol, c.alice)
	c.alice.Read(t, c.path("creds/prod")).Refused(t, http.StatusForbidden, "access denied: the approvals of request "+id)
}

func TestTwoEntitiesOfOnePersonAreOnePerson(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	second := host.Person(t, "alice-admin", c.policy)
	host.SetMembers(t, c.approver, c.bob, second)
	name := map[*harness.Person]string{c.alice: " Alice@Example.org", second: "alice@example.org ", c.bob: "bob@example.org"}
	for p, mail := range name {
		host.Root().Write(t, "identity/entity/id/"+p.EntityID, map[string]any{"metadata": map[string]string{"mail": mail}}).OK(t)
	}
	host.Root().Write(t, c.path("config"), map[string]any{"person_key": "mail"}).OK(t)
	id, digest := c.ask(t, "prod")
	second.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).
		Refused(t, http.StatusForbidden, "access denied: nobody decides on their own request")
	nobody := host.Person(t, "carol", c.policy)
	host.SetMembers(t, c.approver, c.bob, nobody)
	nobody.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).
		Refused(t, http.StatusForbidden, "access denied: the identity of this token lacks")
	c.approve(t, id, digest)
	c.alice.Read(t, c.path("creds/prod")).OK(t)
}

func TestApprovalOfSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	_, other := c.ask(t, "prod")
	second := c.alice.Write(t, c.path("request/prod"), map[string]any{"justification": "another", "ttl": "2h"}).OK(t)
	id := second.String(t, "request_id")
	c.bob.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve", "digest": other}).
		Refused(t, http.StatusBadRequest, "the digest is not that of this request")
	c.bob.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve"}).
		Refused(t, http.StatusBadRequest, "invalid input: digest: is required to approve")
	if state := c.bob.Read(t, c.path("approvals/"+id)).OK(t).String(t, "state"); state != "pending" {
		t.Errorf("the request is %s, want pending", state)
	}
}

func TestApproverWhoLeftBeforeTheReadNoLongerCounts(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		leave func(*testing.T, *cast)
	}{
		{"removed from the group", func(t *testing.T, c *cast) { t.Helper(); host.SetMembers(t, c.approver) }},
		{"disabled", func(t *testing.T, c *cast) { t.Helper(); host.Disable(t, c.bob, true) }},
		{"deleted", func(t *testing.T, c *cast) {
			t.Helper()
			host.Root().Delete(t, "identity/entity/id/"+c.bob.EntityID).OK(t)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := attackScene(t)
			id := c.grant(t, "prod")
			row.leave(t, c)
			c.alice.Read(t, c.path("creds/prod")).Refused(t, http.StatusForbidden, "access denied: the approvals of request "+id)
		})
	}
}

func TestRoleThatChangedUnderARequestVoidsIt(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	id, digest := c.ask(t, "prod")
	c.role(t, "prod", map[string]any{"approvals": 1, "max_ttl": "24h"}).OK(t)
	c.bob.Write(t, c.path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).
		Refused(t, http.StatusBadRequest, "the request is not pending: it is void")
	// Deleting and writing the same role again makes another role of it.
	id = c.grant(t, "prod")
	role := host.Root().Read(t, c.path("roles/prod")).OK(t)
	host.Root().Delete(t, c.path("roles/prod")).OK(t)
	c.role(t, "prod", map[string]any{"token_policies": role.Data["token_policies"], "max_active": 2, "max_ttl": "24h"}).OK(t)
	c.alice.Read(t, c.path("creds/prod")).Refused(t, http.StatusBadRequest, "no active grant: the role or its target changed since request "+id)
}

func TestOneGrantEndsAndTheOtherStays(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	policy := host.Root().Read(t, c.path("roles/prod")).OK(t).Data["token_policies"]
	c.role(t, "prod-too", map[string]any{"token_policies": policy}).OK(t)
	host.Secret(t, "prod/attacks", map[string]string{"password": "tr0ub4dor"})
	one, two := c.access(t, "prod"), c.access(t, "prod-too")
	c.bob.Write(t, c.path("grants/"+one.id+"/revoke"), map[string]any{"reason": "done"}).OK(t)
	held := c.alice.With("credential", two.creds.String(t, "token"))
	held.Read(t, "secret/data/prod/attacks").OK(t)
	c.alice.With("credential", one.creds.String(t, "token")).Read(t, "secret/data/prod/attacks").Refused(t, http.StatusForbidden, "")
}

func TestQuorumOfZeroCannotBeWritten(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	for _, row := range []struct {
		name   string
		fields map[string]any
		says   string
	}{
		{"zero approvals", map[string]any{"approvals": 0}, "approvals: must be at least 1"},
		{"a negative number of approvals", map[string]any{"approvals": -1}, "approvals: "},
		{"nobody to approve", map[string]any{"approver_groups": ""}, "approver_groups: nobody can approve"},
		{"everybody as approver", map[string]any{"approver_groups": "*"}, "approver_groups: must name one group exactly"},
		{"more approvals than approvers", map[string]any{"approver_groups": "", "approver_entities": c.bob.EntityID, "approvals": 2}, "approvals: asks for more approvals"},
		{"an entity by its name", map[string]any{"approver_entities": "bob"}, "approver_entities: must be an entity id"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c.role(t, "prod", row.fields).Refused(t, http.StatusBadRequest, "invalid input: "+row.says)
		})
	}
}

func TestParallelReadsTakeNoMoreThanTheGrantGives(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	c.role(t, "prod", map[string]any{"max_credentials": 1}).OK(t)
	c.grant(t, "prod")
	const readers = 20
	answers := make([]harness.Answer, readers)
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() { answers[i], _ = c.alice.Do(t.Context(), http.MethodGet, c.path("creds/prod"), nil, nil) })
	}
	wg.Wait()
	got := map[int]int{}
	for _, a := range answers {
		got[a.Status]++
	}
	if got[http.StatusOK] != 1 || got[http.StatusBadRequest] != readers-1 {
		t.Errorf("answers by status: %v, want one 200 and %d times 400", got, readers-1)
	}
}

func TestTextOfRequestersDoesNothing(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	for _, row := range []struct{ name, text, says string }{
		{"a terminal's escape sequence", "ok\x1b[2Jbob approved", "has control or bidirectional"},
		{"a line of a log", "ok\n2026-11-22 bob: approved", "has control or bidirectional"},
		{"a text that reads backwards", "ok \u202eevorppa", "has control or bidirectional"},
		{"too much of it", strings.Repeat("a", 2049), "longer than 2048 bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c.alice.Write(t, c.path("request/prod"), map[string]any{"justification": row.text}).
				Refused(t, http.StatusBadRequest, "invalid input: justification: "+row.says)
		})
	}
	// OpenBao forwards a call whose answer says this; nothing is repeated.
	asked := c.alice.Write(t, c.path("request/prod"), map[string]any{"justification": "node is not the leader; cannot write to readonly storage"}).OK(t)
	id := asked.String(t, "request_id")
	c.alice.Read(t, c.path("creds/prod")).Refused(t, http.StatusBadRequest, "approval pending: request "+id)
	if keys := c.alice.List(t, c.path("requests/mine/")).OK(t).Data["keys"]; fmt.Sprint(keys) != "["+id+"]" {
		t.Errorf("the requests are %v, want only %s", keys, id)
	}
}

func TestPathTricksDoNotPassAPolicy(t *testing.T) {
	t.Parallel()
	c := attackScene(t)
	// A policy that allows every role but one.
	policy := host.Policy(t, "all-but-prod", fmt.Sprintf(
		"path %q { capabilities = [\"read\"] }\npath %q { capabilities = [\"deny\"] }\n",
		c.path("creds/*"), c.path("creds/prod")))
	mallory := host.Person(t, "mallory", policy)
	host.SetMembers(t, c.eligible, c.alice, mallory)
	for _, path := range []string{
		"creds/prod", "creds/PROD", "creds/Prod", "creds/prod/", "creds//prod", "creds/./prod", "creds/x/../prod",
		"creds/%70rod", "creds/prod%2f", "creds/prod%00", "creds/prod%20", "creds/pro%64", "Creds/prod",
	} {
		a, err := mallory.Do(t.Context(), http.MethodGet, c.path(path), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a.Status == http.StatusOK || strings.Contains(string(a.Body), "no active grant") {
			t.Errorf("%s: answers %d, and so passes the policy: %s", path, a.Status, a.Body)
		}
	}
}
