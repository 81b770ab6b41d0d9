package attacks

import (
	"fmt"
	"maps"
	"net/http"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// A3: what is approved is not what was looked at.

func TestSwapBetweenViewAndApprove(t *testing.T) {
	t.Parallel()
	a := begin(t, "A3", "what is asked is swapped between the approver's look and the decision")
	w := plain(t)
	env := map[string]any{"params": map[string]any{"env": map[string]any{"allowed": []string{"dev", "prod"}, "required": true}}}
	w.role(t, "prod", env).OK(t)
	dev := map[string]any{"params": map[string]string{"env": "dev"}}
	id, _ := w.ask(t, "prod", dev)
	seen := a.control(t, w.bob.Read(t, w.path("approvals/"+id)))
	digest := seen.String(t, "digest")
	// The same ask with another story is the old request, and the old story.
	again := w.alice.Write(t, w.path("request/prod"), map[string]any{"justification": "something else", "ticket": "T-1", "params": map[string]string{"env": "dev"}}).OK(t)
	a.tried(t, again.String(t, "request_id") == id && again.Data["existing"] == true, "asking again made %s", again.Body)
	now := w.bob.Read(t, w.path("approvals/"+id)).OK(t)
	a.tried(t, now.String(t, "why") == seen.String(t, "why") && now.Data["ticket"] == seen.Data["ticket"] && now.String(t, "digest") == digest, "what was asked has changed: %s", now.Body)
	// Another ask is another request; the decision on the first is not one on it.
	other, _ := w.ask(t, "prod", map[string]any{"params": map[string]string{"env": "prod"}, "ttl": "8h"})
	a.refused(t, w.decide(t, w.bob.Actor, other, yes(digest)), badRequest, "the digest is not that of this request")
	w.alice.Delete(t, w.path("requests/"+id)).OK(t)
	a.refused(t, w.decide(t, w.bob.Actor, id, yes(digest)), badRequest, "the request is not pending: it is cancelled")
	// And once approved, no read turns it into something else.
	id, digest = w.ask(t, "prod", dev)
	a.control(t, w.decide(t, w.bob.Actor, id, yes(digest)))
	a.refused(t, w.alice.Write(t, w.path("creds/prod"), map[string]any{"params": map[string]string{"env": "prod"}}), badRequest, "")
	a.refused(t, w.alice.Write(t, w.path("creds/prod"), map[string]any{"request_id": id, "params": map[string]string{"env": "prod"}}), badRequest, "invalid input: params: ")
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
	a.control(t, w.alice.Write(t, w.path("creds/prod"), map[string]any{"request_id": id}))
}

//nolint:tparallel // the last row changes the target of all
func TestEditBetweenViewAndApprove(t *testing.T) {
	t.Parallel()
	a := begin(t, "A3", "role or target is edited between the approver's look and the decision")
	w := plain(t)
	for i, row := range edits() {
		t.Run(row.name, func(t *testing.T) {
			role := fmt.Sprintf("role-%d", i)
			w.role(t, role, nil).OK(t)
			id, _ := w.ask(t, role, nil)
			digest := w.bob.Read(t, w.path("approvals/"+id)).OK(t).String(t, "digest")
			row.edit(t, w, role)
			answer := w.decide(t, w.bob.Actor, id, yes(digest))
			switch {
			case row.harmless:
				a.control(t, answer)
				return
			case row.nobody: // for whoever is no approver any more there is no such request
				a.refused(t, answer, notFound, "no such request")
			default:
				a.refused(t, answer, badRequest, "the request is")
			}
			if state := w.state(t, id); state != "void" {
				t.Errorf("the request is %s", state)
			}
			got := w.alice.Write(t, w.path("creds/"+role), map[string]any{"request_id": id})
			a.refused(t, got, badRequest, "no active grant")
		})
	}
}

// edit changes what a request was filed under; a harmless one changes nothing that
// an approver decides about, and after some nobody is an approver.
type edit struct {
	name             string
	harmless, nobody bool
	edit             func(t *testing.T, w *world, role string)
}

func edits() []edit {
	write := func(fields map[string]any) func(*testing.T, *world, string) {
		return func(t *testing.T, w *world, role string) {
			t.Helper()
			all := map[string]any{"live": "keep"}
			maps.Copy(all, fields)
			host.Root().Write(t, w.path("roles/"+role), all).OK(t)
		}
	}
	anew := func(fields map[string]any) func(*testing.T, *world, string) {
		return func(t *testing.T, w *world, role string) {
			t.Helper()
			do(t, host.Root(), http.MethodDelete, w.path("roles/"+role+"?live=keep"), nil).OK(t)
			w.role(t, role, fields).OK(t)
		}
	}
	return []edit{
		{name: "a longer window", edit: write(map[string]any{"max_ttl": "24h"})},
		{name: "more people", edit: func(t *testing.T, w *world, role string) {
			t.Helper()
			write(map[string]any{"eligible_groups": w.eligible.Name + "," + w.approver.Name})(t, w, role)
		}},
		{name: "the requester as approver", edit: func(t *testing.T, w *world, role string) {
			t.Helper()
			write(map[string]any{"approver_groups": w.approver.Name + "," + w.eligible.Name})(t, w, role)
		}},
		{name: "another policy", edit: func(t *testing.T, w *world, role string) {
			t.Helper()
			wide := host.Policy(t, "wide", `path "secret/*" { capabilities = ["read"] }`)
			w.tokenRole(t, w.target.TokenRole, w.yields, wide)
			write(map[string]any{"token_policies": wide})(t, w, role)
		}},
		{name: "no approval at all", nobody: true, edit: write(map[string]any{"auto_approve": true, "approver_groups": ""})},
		{name: "deleted and made anew, only wider", edit: anew(map[string]any{"max_ttl": "24h"})},
		{name: "deleted and made anew, letter by letter", edit: anew(nil)},
		{name: "a description", harmless: true, edit: write(map[string]any{"description": "for the night shift"})},
		{name: "the same fields once more", harmless: true, edit: func(t *testing.T, w *world, role string) { t.Helper(); w.role(t, role, nil).OK(t) }},
		{name: "its target speaks another token role", edit: func(t *testing.T, w *world, _ string) {
			t.Helper()
			other := w.target.TokenRole + "-other"
			w.tokenRole(t, other, w.yields)
			host.Root().Write(t, w.path("targets/local"), map[string]any{
				"token_role": other, "secret_id": w.target.Login.SecretID, "role_id": w.target.Login.RoleID, "live": "keep",
			}).OK(t)
		}},
	}
}

// tokenRole writes what the engine makes tokens with, and may do that.
func (w *world) tokenRole(t *testing.T, name string, policies ...string) {
	t.Helper()
	host.Root().Write(t, "auth/token/roles/"+name, map[string]any{
		"orphan": true, "renewable": false, "token_no_default_policy": true, "token_type": "service", "allowed_policies": policies,
	}).OK(t)
	more := host.Policy(t, "pim-engine-more", fmt.Sprintf("path %q { capabilities = [\"update\"] }\npath %q { capabilities = [\"read\"] }\n",
		"auth/token/create/"+name, "auth/token/roles/"+name))
	login := "auth/approle/role/" + w.target.Login.Name
	before, _ := host.Root().Read(t, login).OK(t).Data["token_policies"].([]any)
	host.Root().Write(t, login, map[string]any{"token_policies": append(before, more)}).OK(t)
}

// A5: the role is weakened under a request that is open or granted.

//nolint:tparallel // the last row changes the target of all
func TestRoleWeakenedAfterRequest(t *testing.T) {
	t.Parallel()
	a := begin(t, "A5", "the role is weakened under a grant, whose holder reads it again")
	w := plain(t)
	for i, row := range edits() {
		t.Run(row.name, func(t *testing.T) {
			role := fmt.Sprintf("role-%d", i)
			w.role(t, role, nil).OK(t)
			id := w.grant(t, role, nil)
			a.control(t, w.creds(t, w.alice.Actor, role))
			row.edit(t, w, role)
			got := w.alice.Write(t, w.path("creds/"+role), map[string]any{"request_id": id})
			if row.harmless {
				a.control(t, got)
				return
			}
			a.refused(t, got, badRequest, "no active grant: the role or its target changed since request "+id)
		})
	}
}

// A9: a quorum of nobody.

//nolint:tparallel // what is compared afterwards is what all of them left
func TestQuorumOfZero(t *testing.T) {
	t.Parallel()
	a := begin(t, "A9", "a role is written whose quorum nobody, or one and the same, can meet")
	w := plain(t)
	for _, row := range []struct {
		name   string
		fields map[string]any
	}{
		{"zero approvals", map[string]any{"approvals": 0}},
		{"zero as text", map[string]any{"approvals": "0"}},
		{"minus one", map[string]any{"approvals": -1}},
		{"minus zero", map[string]any{"approvals": "-0"}},
		{"a fraction below one", map[string]any{"approvals": 0.4}},
		{"what overflows to zero", map[string]any{"approvals": "18446744073709551616"}},
		{"what overflows to less", map[string]any{"approvals": "9223372036854775808"}},
		{"false", map[string]any{"approvals": false}},
		{"a list", map[string]any{"approvals": []int{0}}},
		{"nobody to approve", map[string]any{"approver_groups": ""}},
		{"nobody, as an empty list", map[string]any{"approver_groups": []string{}}},
		{"everybody as approver", map[string]any{"approver_groups": "*"}},
		{"everybody whose name begins so", map[string]any{"approver_groups": "lead*"}},
		{"every alias of a login", map[string]any{"approver_groups": "", "approver_entities": "alias:auth_userpass_1/*"}},
		{"more approvals than approvers", map[string]any{"approver_groups": "", "approver_entities": w.bob.EntityID, "approvals": 2}},
		{"an entity by its name", map[string]any{"approver_entities": "bob"}},
		{"no approval and approvers too", map[string]any{"auto_approve": true}},
		{"no approval and one", map[string]any{"auto_approve": "yes", "approvals": 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a.refused(t, w.role(t, "new", row.fields), badRequest, "invalid input: ")
			a.refused(t, w.role(t, "prod", row.fields), badRequest, "invalid input: ")
		})
	}
	a.control(t, w.role(t, "good", map[string]any{"approvals": 1}))
	// One approver, named twice, is one voice.
	w.role(t, "twice", map[string]any{"approver_groups": "", "approver_entities": w.bob.EntityID + "," + w.bob.EntityID, "approvals": 2})
	if asked := w.alice.Write(t, w.path("request/twice"), map[string]any{"justification": "why"}); asked.Status == 200 {
		w.decide(t, w.bob.Actor, asked.String(t, "request_id"), yes(asked.String(t, "digest"))).OK(t)
	}
	twice := w.creds(t, w.alice.Actor, "twice")
	a.tried(t, twice.Status != 200, "one approver is two: %s", twice.Body)
	if n := host.Root().Read(t, w.path("roles/prod")).OK(t).Data["approvals"]; n != 1.0 {
		t.Errorf("the role asks for %v approvals now", n)
	}
	// Clearing it brings back the default, which is not zero.
	cleared := host.Root().Write(t, w.path("roles/good"), map[string]any{"approvals": ""})
	a.tried(t, cleared.Status != 200 || cleared.Data["approvals"] == 1.0, "approvals cleared: %s", cleared.Body)
}

// R: decisions and ids that were good for something else.

func TestReplays(t *testing.T) {
	t.Parallel()
	a := begin(t, "R1", "a digest, a decision or an id that was good for something else is used again")
	w := plain(t)
	w.role(t, "other", nil).OK(t)
	first, digest := w.ask(t, "prod", nil)
	second, secondDigest := w.ask(t, "prod", map[string]any{"ttl": "2h"})
	elsewhere, _ := w.ask(t, "other", nil)
	a.refused(t, w.decide(t, w.bob.Actor, second, yes(digest)), badRequest, "the digest is not that of this request")
	a.refused(t, w.decide(t, w.bob.Actor, elsewhere, yes(digest)), badRequest, "the digest is not that of this request")
	for name, body := range map[string]map[string]any{
		"none":        {"decision": "approve"},
		"empty":       {"decision": "approve", "digest": ""},
		"cut short":   yes(digest[:len(digest)-1]),
		"in capitals": yes(upper(digest)),
		"two of them": yes(digest + "," + digest),
		"a list":      {"decision": "approve", "digest": []string{digest}},
		"with blanks": yes(" " + digest),
		"no verdict":  {"digest": digest},
		"both":        {"decision": "approve,deny", "digest": digest},
		"in capital":  {"decision": "APPROVE", "digest": digest},
		"longer":      {"decision": "approve", "digest": digest, "ttl": "9h"},
		"for ever":    {"decision": "approve", "digest": digest, "ttl": "0s"},
		"for others":  {"decision": "approve", "digest": digest, "entity_id": w.alice.EntityID},
	} {
		answer := w.decide(t, w.bob.Actor, first, body)
		a.tried(t, answer.Status == badRequest, "a digest that is %s: %d %s", name, answer.Status, answer.Body)
	}
	if state := w.state(t, first); state != "pending" {
		t.Fatalf("the request is %s", state)
	}
	a.control(t, w.decide(t, w.bob.Actor, first, yes(digest)))
	a.refused(t, w.decide(t, w.bob.Actor, first, yes(digest)), badRequest, "the request is not pending: it is active")
	a.control(t, w.decide(t, w.bob.Actor, second, map[string]any{"decision": "deny"}))
	a.refused(t, w.decide(t, w.bob.Actor, second, yes(secondDigest)), badRequest, "the request is not pending: it is denied")
	a.refused(t, w.alice.Write(t, w.path("creds/prod"), map[string]any{"request_id": second}), forbidden, "access denied: request "+second+" was denied")
	a.refused(t, w.alice.Write(t, w.path("creds/prod"), map[string]any{"request_id": elsewhere}), badRequest, "no active grant")
	a.control(t, w.alice.Write(t, w.path("creds/prod"), map[string]any{"request_id": first}))
	a.control(t, w.bob.Write(t, w.path("grants/"+first+"/revoke"), nil))
	a.refused(t, w.decide(t, w.bob.Actor, first, yes(digest)), badRequest, "the request is not pending: it is revoked")
	a.refused(t, w.alice.Write(t, w.path("creds/prod"), map[string]any{"request_id": first}), forbidden, "access denied: request "+first+" was revoked")
}

func upper(s string) string { return fmt.Sprintf("%X", mustHex(s)) }

func TestLongerThanApproved(t *testing.T) {
	t.Parallel()
	a := begin(t, "R2", "access is stretched: a longer ttl, a renewed lease, a window that is asked for again")
	w := plain(t)
	w.role(t, "prod", map[string]any{"max_ttl": "1h", "ttl": "10m"}).OK(t)
	for _, ttl := range []any{"2h", "3601s", 3601, "9223372036s", "1000000d", "0s", "-1h", "1e9", "NaN", []string{"1h"}} {
		answer := w.alice.Write(t, w.path("request/prod"), map[string]any{"justification": "why", "ttl": ttl})
		a.tried(t, answer.Status == badRequest, "a ttl of %v: %d %s", ttl, answer.Status, answer.Body)
	}
	id, digest := w.ask(t, "prod", map[string]any{"ttl": "20m"})
	a.refused(t, w.decide(t, w.bob.Actor, id, map[string]any{"decision": "approve", "digest": digest, "ttl": "30m"}), badRequest, "invalid input: ttl: can only shorten")
	a.control(t, w.decide(t, w.bob.Actor, id, map[string]any{"decision": "approve", "digest": digest, "ttl": "5m"}))
	creds := a.control(t, w.creds(t, w.alice.Actor, "prod"))
	a.tried(t, creds.LeaseDuration <= 300 && !creds.Renewable, "a lease of %d s, renewable %v", creds.LeaseDuration, creds.Renewable)
	for _, who := range []harness.Actor{w.alice.Actor, host.Root()} {
		for _, path := range []string{"sys/leases/renew", "sys/renew"} {
			renewed := do(t, who, "PUT", path, map[string]any{"lease_id": creds.LeaseID, "increment": 86400})
			a.tried(t, renewed.Status/100 != 2, "%s by %s: %s", path, who.Name, renewed.Body)
		}
	}
	token := host.Root().With("credential", creds.String(t, "token"))
	renewed := do(t, token, "PUT", "auth/token/renew-self", map[string]any{"increment": "24h"})
	a.tried(t, renewed.Status/100 != 2, "the credential renews itself: %s", renewed.Body)
	looked := host.Root().Write(t, "auth/token/lookup", map[string]any{"token": token.Token}).OK(t)
	ttl, _ := looked.Data["ttl"].(float64)
	a.tried(t, ttl > 0 && ttl <= 300 && looked.Data["renewable"] == false, "the credential lives for %v s", looked.Data["ttl"])
}
