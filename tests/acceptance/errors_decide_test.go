package acceptance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// decisionRows are decisions that must not count.
func (w *counter) decisionRows() []errorRow {
	// after is a decision of dave on a request to which something has happened.
	after := func(role string, fields map[string]any, happened func(t *testing.T, asked harness.Answer)) func(t *testing.T) harness.Answer {
		return func(t *testing.T) harness.Answer {
			asked := w.pending(t, role, fields)
			happened(t, asked)
			return w.decide(t, w.dave, asked, nil)
		}
	}
	// with is a decision of bob that says something wrong.
	with := func(role string, fields map[string]any) func(t *testing.T) harness.Answer {
		return func(t *testing.T) harness.Answer { return w.decide(t, w.c.bob, w.pending(t, role, nil), fields) }
	}
	return []errorRow{
		{name: "approval, own request", do: func(t *testing.T) harness.Answer {
			return w.decide(t, w.c.alice, w.pending(t, "own", nil), nil)
		}},
		{name: "approval, own request of an approver", do: func(t *testing.T) harness.Answer {
			w.role(t, "own-lead", map[string]any{"eligible_groups": w.c.approver.Name}).OK(t)
			asked := w.c.bob.Write(t, w.path("request/own-lead"), map[string]any{"justification": "canary"}).OK(t)
			return w.decide(t, w.c.bob, asked, nil)
		}},
		{name: "approval, machine", do: func(t *testing.T) harness.Answer {
			robot := host.AppRole(t, "robot", "20m", w.scene.policy)
			machine := &harness.Person{Actor: robot.LogIn(t)}
			asked := w.pending(t, "machine", map[string]any{
				"approver_groups": "", "approver_entities": []string{"alias:" + accessorOf(t, "approle/") + "/" + robot.RoleID, w.c.bob.EntityID},
			})
			return w.decide(t, machine, asked, nil)
		}},
		{name: "approval, no approver", do: func(t *testing.T) harness.Answer {
			return w.decide(t, w.carol, w.pending(t, "not-hers", nil), nil)
		}},
		{name: "approval, unknown request", do: func(t *testing.T) harness.Answer {
			return w.c.bob.Write(t, w.path("approvals/01aaaaaaaaaaaaaaaaaaaaaaaa"), map[string]any{"decision": "deny"})
		}},
		{name: "approval, no request id", do: func(t *testing.T) harness.Answer {
			return w.c.bob.Write(t, w.path("approvals/canary"), map[string]any{"decision": "deny"})
		}},
		{name: "approval, twice by one person", do: func(t *testing.T) harness.Answer {
			asked := w.pending(t, "twice", map[string]any{"approvals": 2})
			w.decide(t, w.c.bob, asked, nil).OK(t)
			return w.decide(t, w.c.bob, asked, nil)
		}},
		{name: "approval, of a request that is active", do: after("is-active", nil, func(t *testing.T, asked harness.Answer) {
			w.decide(t, w.c.bob, asked, nil).OK(t)
		})},
		{name: "approval, of a denied request", do: after("is-denied", nil, func(t *testing.T, asked harness.Answer) {
			w.decide(t, w.c.bob, asked, map[string]any{"decision": "deny"}).OK(t)
		})},
		{name: "approval, of a cancelled request", do: after("is-cancelled", nil, func(t *testing.T, asked harness.Answer) {
			w.c.alice.Delete(t, w.path("requests/"+asked.String(t, "request_id"))).OK(t)
		})},
		{name: "approval, of an expired request", do: after("is-expired", map[string]any{"request_ttl": 1}, func(t *testing.T, _ harness.Answer) {
			w.turns(t, "is-expired", "request_expired")
		})},
		{name: "approval, of a revoked request", do: after("is-revoked", nil, func(t *testing.T, _ harness.Answer) {
			job := host.Root().Write(t, w.path("revoke"), map[string]any{"role": "is-revoked", "hold": 0}).OK(t).String(t, "job")
			poll.Until(t, settles, func() error { return w.done(t, job) })
		})},
		{name: "approval, the role changed under it", do: after("is-void", nil, func(t *testing.T, _ harness.Answer) {
			w.role(t, "is-void", map[string]any{"max_ttl": "7h"}).OK(t)
		})},
		{name: "approval, the role is deleted", do: after("is-deleted", nil, func(t *testing.T, _ harness.Answer) {
			host.Root().Delete(t, w.path("roles/is-deleted")).OK(t)
		})},
		{name: "approval, another digest", do: with("digest", map[string]any{"digest": strings.Repeat("canary", 10)})},
		{name: "approval, no digest", do: with("no-digest", map[string]any{"digest": ""})},
		{name: "approval, no decision", do: with("no-decision", map[string]any{"decision": ""})},
		{name: "approval, another decision", do: with("other-decision", map[string]any{"decision": "canary"})},
		{name: "approval, longer than asked", do: with("longer", map[string]any{"ttl": "11m"})},
		{name: "approval, for no time", do: with("no-time", map[string]any{"ttl": 0})},
		{name: "approval, for a negative time", do: with("negative", map[string]any{"ttl": -5})},
		{name: "approval, hidden characters", do: with("hidden", map[string]any{"comment": "canary\u202e"})},
		{name: "approval, a comment that is too long", do: with("long", map[string]any{"comment": strings.Repeat("canary", 400)})},
		{name: "approval, several problems", do: with("many", map[string]any{"decision": "canary", "ttl": "canary", "mistyped": 1, "comment": []int{1}})},
	}
}

// done tells whether a pull of the kill switch has ended everything.
func (w *counter) done(t *testing.T, job string) error {
	t.Helper()
	if seen := host.Root().Read(t, w.path("revoke/"+job)).OK(t); seen.Data["done"] != true {
		return fmt.Errorf("the job is not done: %s", seen.Body)
	}
	return nil
}

// lookRows are looks at what does not exist or is none of the caller's business.
func (w *counter) lookRows() []errorRow {
	read := func(who func() harness.Actor, path string) func(t *testing.T) harness.Answer {
		return func(t *testing.T) harness.Answer { return who().Read(t, w.path(path)) }
	}
	alice := func() harness.Actor { return w.c.alice.Actor }
	const unknown = "01aaaaaaaaaaaaaaaaaaaaaaaa"
	return []errorRow{
		{name: "request, somebody else's", do: func(t *testing.T) harness.Answer {
			return w.carol.Read(t, w.path("requests/"+w.pending(t, "private", nil).String(t, "request_id")))
		}},
		{name: "request, unknown", do: read(alice, "requests/"+unknown)},
		{name: "request, waiting for an unknown one", do: read(alice, "requests/"+unknown+"/wait")},
		{name: "request, no id", do: read(alice, "requests/canary")},
		{name: "request, cancelling somebody else's", do: func(t *testing.T) harness.Answer {
			return w.c.bob.Delete(t, w.path("requests/"+w.pending(t, "not-his", nil).String(t, "request_id")))
		}},
		{name: "request, cancelling an unknown one", do: func(t *testing.T) harness.Answer {
			return w.c.alice.Delete(t, w.path("requests/"+unknown))
		}},
		{name: "grant, of a request that is pending", do: func(t *testing.T) harness.Answer {
			return w.c.alice.Read(t, w.path("grants/"+w.pending(t, "no-grant", nil).String(t, "request_id")))
		}},
		{name: "grant, revoking an unknown one", do: func(t *testing.T) harness.Answer {
			return w.c.alice.Write(t, w.path("grants/"+unknown+"/revoke"), nil)
		}},
		{name: "grant, revoking somebody else's", do: func(t *testing.T) harness.Answer {
			return w.carol.Write(t, w.path("grants/"+w.granted(t, "hers", nil).String(t, "request_id")+"/revoke"), nil)
		}},
		{name: "grant, revoking with hidden characters", do: func(t *testing.T) harness.Answer {
			id := w.granted(t, "hidden-reason", nil).String(t, "request_id")
			return w.c.bob.Write(t, w.path("grants/"+id+"/revoke"), map[string]any{"reason": "canary\x07"})
		}},
		{name: "approval, looking at one's own request", do: func(t *testing.T) harness.Answer {
			return w.c.alice.Read(t, w.path("approvals/"+w.pending(t, "own-look", nil).String(t, "request_id")))
		}},
		{name: "audit, unknown request", do: read(host.Root, "audit/requests/"+unknown)},
		{name: "audit, a grant that is none", do: func(t *testing.T) harness.Answer {
			return host.Root().Read(t, w.path("audit/grants/"+w.pending(t, "audited", nil).String(t, "request_id")))
		}},
		{name: "hold, unknown", do: read(host.Root, "holds/"+unknown)},
		{name: "kill switch, unknown job", do: read(host.Root, "revoke/"+unknown)},
		{name: "role, unknown", do: read(host.Root, "roles/canary")},
		{name: "target, unknown", do: read(host.Root, "targets/canary")},
		{name: "target, checking an unknown one", do: read(host.Root, "targets/canary/check")},
		{name: "list, page that is no number", do: func(t *testing.T) harness.Answer {
			return host.Root().List(t, w.path("roles/?limit=canary"))
		}},
		{name: "list, page that is too long", do: func(t *testing.T) harness.Answer {
			return host.Root().List(t, w.path("roles/?limit=101"))
		}},
	}
}
