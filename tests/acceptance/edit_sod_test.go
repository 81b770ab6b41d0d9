package acceptance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// two are people with the operator's policy on a mount where edits take two of
// them, and one who may confirm and not write.
type two struct {
	*cast
	op, other, officer *harness.Person
}

// withPolicy is a cast whose target can yield tokens with one policy.
func withPolicy(t *testing.T) (c *cast, policy string) {
	t.Helper()
	policy = host.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`)
	return newScene(t, nil, policy).cast(t), policy
}

func newTwo(t *testing.T) *two {
	t.Helper()
	c, yields := withPolicy(t)
	w := &two{
		cast: c, op: host.Person(t, "carol", persona(t, c.pim, "operator")),
		other: host.Person(t, "dave", persona(t, c.pim, "operator")), officer: host.Person(t, "dave", persona(t, c.pim, "security-officer")),
	}
	c.role(t, "prod", map[string]any{"token_policies": yields, "owner": "carol"}).OK(t)
	on := w.op.Write(t, c.path("config"), map[string]any{"edit_sod": true}).OK(t)
	if on.Data["proposed"] != true || on.Data["edit_sod"] != false {
		t.Fatalf("one person alone switched it on: %s", on.Body)
	}
	w.confirm(t, w.officer, "config").OK(t)
	return w
}

// confirm reads the edit that waits at a path and confirms it.
func (w *two) confirm(t *testing.T, who *harness.Person, at string) harness.Answer {
	t.Helper()
	digest := who.Read(t, w.path(at+"/confirm")).OK(t).String(t, "digest")
	return who.Write(t, w.path(at+"/confirm"), map[string]any{"digest": digest})
}

func (w *two) approvals(t *testing.T) any {
	t.Helper()
	return w.op.Read(t, w.path("roles/prod")).OK(t).Data["approvals"]
}

func TestAnEditTakesTwoPeople(t *testing.T) {
	t.Parallel()
	w := newTwo(t)
	edit := map[string]any{"approvals": 2}
	asked, _ := w.ask(t, "prod")
	wrote := w.op.Write(t, w.path("roles/prod"), edit).OK(t)
	if wrote.Data["proposed"] != true || wrote.Data["approvals"] != 2.0 || len(wrote.Warnings) == 0 {
		t.Fatalf("the answer: %s", wrote.Body)
	}
	if next := wrote.String(t, "next"); !strings.HasPrefix(next, "vault write "+w.path("roles/prod/confirm")) && !strings.HasPrefix(next, "bao write ") {
		t.Errorf("next: %s", next)
	}
	seen := w.officer.Read(t, w.path("roles/prod/confirm")).OK(t)
	if got := fmt.Sprint(seen.Data["changes"]); got != "[approvals: 1 -> 2]" || seen.String(t, "operation") != "change" || !strings.HasPrefix(seen.String(t, "who"), "carol") {
		t.Errorf("the proposal: %s", seen.Body)
	}
	if got := w.approvals(t); got != 1.0 {
		t.Fatalf("the role takes %v approvals before anybody confirmed", got)
	}
	if state := w.alice.Read(t, w.path("requests/"+asked)).OK(t).String(t, "state"); state != "pending" {
		t.Errorf("alice's request is %s while the edit only waits", state)
	}
	w.confirm(t, w.op, "roles/prod").Refused(t, http.StatusForbidden, "access denied: an edit is confirmed by another person")
	w.other.Write(t, w.path("roles/prod/confirm"), map[string]any{"digest": "0"}).Refused(t, http.StatusBadRequest, "this digest is not that of the proposed edit")
	host.Root().Write(t, w.path("roles/prod/confirm"), map[string]any{"digest": seen.String(t, "digest")}).Refused(t, http.StatusForbidden, "access denied: log in again")
	w.other.Write(t, w.path("roles/prod"), map[string]any{"ttl": 60}).Refused(t, http.StatusBadRequest, "another person's edit waits for its confirmation")
	if done := w.confirm(t, w.officer, "roles/prod").OK(t); done.Data["confirmed"] != true || done.Data["requests_voided"] != 1.0 {
		t.Errorf("the confirmation: %s", done.Body)
	}
	if got := w.approvals(t); got != 2.0 {
		t.Fatalf("confirmed, and the role takes %v approvals", got)
	}
	if state := w.alice.Read(t, w.path("requests/"+asked)).OK(t).String(t, "state"); state != "void" {
		t.Errorf("alice's request is %s under a role that changed", state)
	}
	if again := w.officer.Write(t, w.path("roles/prod/confirm"), map[string]any{"digest": seen.String(t, "digest")}); again.Status != http.StatusNotFound {
		t.Errorf("confirmed twice: %d %s", again.Status, again.Body)
	}
}

// What a root token or a machine writes needs a human being too.
func TestRootAndMachinesNeedAHuman(t *testing.T) {
	t.Parallel()
	w := newTwo(t)
	machine := host.AppRole(t, "builder", "20m", persona(t, w.pim, "operator")).LogIn(t)
	for name, who := range map[string]harness.Actor{"a root token": host.Root(), "a machine": machine} {
		wrote := who.Write(t, w.path("roles/prod"), map[string]any{"max_ttl": "3h"}).OK(t)
		digest := wrote.String(t, "proposal_digest")
		if seen := w.officer.Read(t, w.path("roles/prod/confirm")).OK(t); seen.Data["machine"] != true {
			t.Errorf("%s: %s", name, seen.Body)
		}
		who.Write(t, w.path("roles/prod/confirm"), map[string]any{"digest": digest}).Refused(t, http.StatusForbidden, "access denied: ")
		who.Delete(t, w.path("roles/prod/confirm")).OK(t)
	}
	host.Root().Write(t, w.path("roles/prod"), map[string]any{"max_ttl": "3h"}).OK(t)
	w.confirm(t, w.op, "roles/prod").OK(t)
}

// Two entities of one human being are one person here as everywhere.
func TestOnePersonWithTwoLoginsConfirmsNothing(t *testing.T) {
	t.Parallel()
	w := newTwo(t)
	for _, p := range []*harness.Person{w.op, w.other} {
		host.Root().Write(t, "identity/entity/id/"+p.EntityID, map[string]any{"metadata": map[string]string{"email": "carol@example.com"}}).OK(t)
	}
	host.Root().Write(t, "identity/entity/id/"+w.officer.EntityID, map[string]any{"metadata": map[string]string{"email": "dave@example.com"}}).OK(t)
	w.op.Write(t, w.path("config"), map[string]any{"person_key": "email"}).OK(t)
	w.confirm(t, w.officer, "config").OK(t)
	w.op.Write(t, w.path("roles/prod"), map[string]any{"approvals": 2}).OK(t)
	w.confirm(t, w.other, "roles/prod").Refused(t, http.StatusForbidden, "access denied: an edit is confirmed by another person")
	w.confirm(t, w.officer, "roles/prod").OK(t)
}

// A target is made by two people, its secret is shown to neither, and it works.
func TestATargetTakesTwoPeople(t *testing.T) {
	t.Parallel()
	w := newTwo(t)
	secretID := w.target.Login.SecretID
	w.op.Write(t, w.path("targets/second"), map[string]any{
		"type": "host", "address": host.Addr, "token_role": w.target.TokenRole,
		"role_id": w.target.Login.RoleID, "secret_id": secretID,
	}).OK(t)
	seen := w.officer.Read(t, w.path("targets/second/confirm")).OK(t)
	if strings.Contains(string(seen.Body), secretID) || !strings.Contains(string(seen.Body), "secret_id: a secret, given with the edit and not shown") {
		t.Errorf("the proposal: %s", seen.Body)
	}
	if seen.String(t, "operation") != "create" || !strings.Contains(fmt.Sprint(seen.Data["changes"]), "place: (not set) -> ") {
		t.Errorf("the proposal does not say which place it is: %s", seen.Body)
	}
	if got := w.op.Read(t, w.path("targets/second")); got.Status != http.StatusNotFound {
		t.Fatalf("in force before anybody confirmed it: %s", got.Body)
	}
	listed := w.op.List(t, w.path("targets/")).OK(t)
	if info := fmt.Sprint(listed.Data["key_info"]); !slices.Contains(listed.Keys(t), "second") || info != "map[second:map[in_force:false proposed:true]]" {
		t.Errorf("the list: %s", listed.Body)
	}
	w.confirm(t, w.officer, "targets/second").OK(t)
	w.op.Write(t, w.path("roles/prod"), map[string]any{"target": "second"}).OK(t)
	w.confirm(t, w.officer, "roles/prod").OK(t)
	w.access(t, "prod")
	w.op.Delete(t, w.path("targets/"+w.target.Name)).OK(t)
	if w.op.Read(t, w.path("targets/"+w.target.Name)).OK(t).Data["proposed"] != true {
		t.Error("a target whose end waits does not say so")
	}
	w.confirm(t, w.other, "targets/"+w.target.Name).OK(t)
	if got := w.op.Read(t, w.path("targets/"+w.target.Name)); got.Status != http.StatusNotFound {
		t.Errorf("the end was confirmed: %d %s", got.Status, got.Body)
	}
}

// Whoever answers for a role ends everything of it, with that one permission.
func TestRevokeIsDelegated(t *testing.T) {
	t.Parallel()
	c, yields := withPolicy(t)
	c.role(t, "prod", map[string]any{"token_policies": yields}).OK(t)
	c.role(t, "next", map[string]any{"token_policies": yields}).OK(t)
	owner := host.Person(t, "carol", host.Policy(t, "owner", `path "`+c.path("roles/prod/revoke")+`" { capabilities = ["update"] }`))
	a, b := c.access(t, "prod"), c.access(t, "next")
	owner.Write(t, c.path("roles/prod/revoke"), nil).Refused(t, http.StatusBadRequest, "invalid input: reason: ")
	owner.Write(t, c.path("roles/prod/revoke"), map[string]any{"reason": "a leak"}).OK(t)
	a.confirmed(t, "revoked")
	if got := a.request(t).String(t, "reason"); got != "a leak" {
		t.Errorf("reason: %q", got)
	}
	c.alice.Read(t, c.path("creds/prod")).Refused(t, http.StatusForbidden, "access denied: ")
	if state := b.request(t).String(t, "state"); state != "active" {
		t.Errorf("the other role's grant is %s", state)
	}
	for _, other := range []string{"roles/next/revoke", "targets/" + c.target.Name + "/revoke", "revoke"} {
		if got := owner.Write(t, c.path(other), map[string]any{"reason": "a leak", "role": "next"}); got.Status != http.StatusForbidden {
			t.Errorf("%s: %d %s", other, got.Status, got.Body)
		}
	}
	host.Root().Write(t, c.path("targets/"+c.target.Name+"/revoke"), map[string]any{"reason": "moved", "hold": 0}).OK(t)
	b.confirmed(t, "revoked")
	if got := host.Root().Write(t, c.path("roles/unknown/revoke"), map[string]any{"reason": "x"}); got.Status != http.StatusNotFound {
		t.Errorf("an unknown role: %d %s", got.Status, got.Body)
	}
}

// docs/edits.md as it stands, each block by whom its first line names.
func TestThePageOnEditsWorksAsItStands(t *testing.T) {
	t.Parallel()
	c, yields := withPolicy(t)
	c.role(t, "prod-read", map[string]any{"token_policies": yields, "owner": "carol"}).OK(t)
	operator := persona(t, c.pim, "operator")
	people := map[string]*harness.Person{"alice": host.Person(t, "alice", operator), "bob": host.Person(t, "bob", operator)}
	parts := strings.Split(page(t, "docs", "edits.md"), "\n```sh\n# ")[1:]
	if len(parts) < 6 {
		t.Fatalf("the page has %d blocks", len(parts))
	}
	for _, part := range parts {
		who, rest, _ := strings.Cut(part, "\n")
		block, _, closed := strings.Cut(rest, "\n```")
		if people[who] == nil || !closed {
			t.Fatalf("a block of %q", who)
		}
		block = strings.ReplaceAll(block, "pim/", c.pim.Path+"/")
		if host.OpenBao {
			block = strings.ReplaceAll(block, "vault ", "bao ")
		}
		if p := paste(t, people[who], "set -eu\n"+block); p.Code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s\nof\n%s", who, p.Code, p.Stdout, p.Stderr, block)
		}
	}
	role := host.Root().Read(t, c.path("roles/prod-read")).OK(t)
	if role.Data["approvals"] != 2.0 || role.Data["ttl"] != 1800.0 || role.Data["proposed"] != false {
		t.Errorf("the role: %s", role.Body)
	}
	poll.Until(t, promised, func() error {
		if holds := host.Root().List(t, c.path("holds/")).OK(t).Keys(t); len(holds) != 1 {
			return fmt.Errorf("%d holds", len(holds))
		}
		return nil
	})
}
