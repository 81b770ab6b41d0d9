package acceptance

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// emergencyRows are emergencies and reviews that are refused.
func (w *counter) emergencyRows(t *testing.T) []errorRow {
	t.Helper()
	w.role(t, "glass", map[string]any{"break_glass_groups": w.c.eligible.Name, "break_glass_max": 1, "break_glass_limit_person": 2}).OK(t)
	w.role(t, "whole", nil).OK(t)
	smash := func(t *testing.T, role, ticket string) harness.Answer {
		t.Helper()
		return w.c.alice.Write(t, w.path("break-glass/"+role), map[string]any{"justification": "canary", "ticket": ticket})
	}
	review := func(t *testing.T, who *harness.Person, id string) harness.Answer {
		t.Helper()
		return who.Write(t, w.path("reviews/"+id), map[string]any{"verdict": "justified", "comment": "canary"})
	}
	id := ""
	return []errorRow{
		{name: "break-glass, where nobody may", do: func(t *testing.T) harness.Answer { return smash(t, "whole", "canary") }},
		{name: "break-glass, unknown role", do: func(t *testing.T) harness.Answer { return smash(t, "canary", "canary") }},
		{name: "break-glass, without a ticket", do: func(t *testing.T) harness.Answer { return smash(t, "glass", "") }},
		{name: "break-glass, a review is owed", do: func(t *testing.T) harness.Answer {
			id = smash(t, "glass", "canary").OK(t).String(t, "request_id")
			w.c.alice.Delete(t, w.path("requests/"+id)).OK(t)
			return smash(t, "glass", "canary")
		}},
		{name: "break-glass, with another ticket", do: func(t *testing.T) harness.Answer { return smash(t, "glass", "other") }},
		{name: "review, by the requester", do: func(t *testing.T) harness.Answer { return review(t, w.c.alice, id) }},
		{name: "review, without a comment", do: func(t *testing.T) harness.Answer {
			return w.c.bob.Write(t, w.path("reviews/"+id), map[string]any{"verdict": "keep"})
		}},
		{name: "review, signed off twice", do: func(t *testing.T) harness.Answer {
			review(t, w.c.bob, id).OK(t)
			return review(t, w.c.bob, id)
		}},
		{name: "break-glass, too often", do: func(t *testing.T) harness.Answer {
			next := smash(t, "glass", "canary").OK(t).String(t, "request_id")
			w.c.alice.Delete(t, w.path("requests/"+next)).OK(t)
			review(t, w.c.bob, next).OK(t)
			return smash(t, "glass", "canary")
		}},
		{name: "events, acknowledged ahead", do: func(t *testing.T) harness.Answer {
			return host.Root().Write(t, w.path("events/consumers/siem"), map[string]any{"cursor": "7zzzzzzzzzzzzzzzzzzzzzzzzz"})
		}},
		{name: "access review, of what does not exist", do: func(t *testing.T) harness.Answer {
			return host.Root().Write(t, w.path("campaigns"), map[string]any{
				"role": "canary", "due": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "undecided": "keep",
			})
		}},
		{name: "access review, while one is open", do: func(t *testing.T) harness.Answer {
			open := func() harness.Answer {
				return host.Root().Write(t, w.path("campaigns"), map[string]any{
					"role": "whole", "reviewer_groups": w.c.approver.Name, "due": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "undecided": "keep",
				})
			}
			open().OK(t)
			return open()
		}},
		{name: "break-glass, by who edited the role", do: func(t *testing.T) harness.Answer {
			admin := host.Policy(t, "role-keeper", `path "`+w.path("roles/*")+`" { capabilities = ["read", "update"] }`)
			erin := host.Person(t, "erin", w.c.policy, admin)
			host.SetMembers(t, w.c.eligible, w.c.alice, erin)
			erin.Write(t, w.path("roles/glass"), map[string]any{"request_ttl": "23h"}).OK(t)
			return erin.Write(t, w.path("break-glass/glass"), map[string]any{"justification": "canary", "ticket": "canary"})
		}},
	}
}
