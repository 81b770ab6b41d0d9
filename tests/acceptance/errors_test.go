package acceptance

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// counter is what the rows of the error contract share: alice asks, bob and dave
// decide, carol may do neither.
type counter struct {
	*vaultScene
	c           *cast
	carol, dave *harness.Person
}

func newCounter(t *testing.T, config map[string]any) *counter {
	t.Helper()
	v := newVaultScene(t)
	host.Root().Write(t, v.path("config"), config).OK(t)
	w := &counter{vaultScene: v, c: v.cast(t)}
	w.carol, w.dave = host.Person(t, "carol", v.scene.policy), host.Person(t, "dave", v.scene.policy)
	host.SetMembers(t, w.c.approver, w.c.bob, w.dave)
	return w
}

// role writes a role that yields tokens.
func (w *counter) role(t *testing.T, name string, fields map[string]any) harness.Answer {
	t.Helper()
	return w.c.role(t, name, w.tokens(fields))
}

// ask files alice's request for a role of that name, with fields on top.
func (w *counter) ask(t *testing.T, role string, fields map[string]any) harness.Answer {
	t.Helper()
	body := map[string]any{"justification": "order 4711 is stuck"}
	maps.Copy(body, fields)
	return w.c.alice.Write(t, w.path("request/"+role), body)
}

func (w *counter) decide(t *testing.T, who *harness.Person, asked harness.Answer, fields map[string]any) harness.Answer {
	t.Helper()
	body := map[string]any{"decision": "approve", "digest": asked.String(t, "digest")}
	maps.Copy(body, fields)
	return who.Write(t, w.path("approvals/"+asked.String(t, "request_id")), body)
}

// pending is a new role with alice's request for it.
func (w *counter) pending(t *testing.T, role string, fields map[string]any) harness.Answer {
	t.Helper()
	w.role(t, role, fields).OK(t)
	return w.ask(t, role, nil).OK(t)
}

// granted is the same, approved.
func (w *counter) granted(t *testing.T, role string, fields map[string]any) harness.Answer {
	t.Helper()
	asked := w.pending(t, role, fields)
	w.decide(t, w.c.bob, asked, nil).OK(t)
	return asked
}

func (w *counter) creds(t *testing.T, role string) harness.Answer {
	t.Helper()
	return w.c.alice.Read(t, w.path("creds/"+role))
}

// turns waits until alice's read gets another code than before, and returns that.
func (w *counter) turns(t *testing.T, role, code string) (answer harness.Answer) {
	t.Helper()
	poll.Until(t, settles, func() error {
		if answer = w.creds(t, role); answer.Data["code"] != code {
			return fmt.Errorf("want %s: %d %s", code, answer.Status, answer.Body)
		}
		return nil
	})
	return answer
}

//nolint:tparallel // the lanes are parallel; what comes after them waits
func TestErrors(t *testing.T) {
	t.Parallel()
	g := readGolden(t)
	wide := map[string]any{"person_max_open": 1000, "issue_rate": 10000}
	// Each lane has a mount of its own; within one the rows follow each other.
	lanes := map[string]func(t *testing.T){
		"states and callers": func(t *testing.T) {
			w := newCounter(t, wide)
			g.compare(t, w.stateRows(), w.callerRows(), w.limitRows())
			t.Run("an unknown role and one that is not for the caller are the same to the byte", w.sameToTheByte)
		},
		"decisions and looks": func(t *testing.T) {
			w := newCounter(t, wide)
			g.compare(t, w.decisionRows(), w.lookRows())
		},
		"edits of two people": func(t *testing.T) {
			w := newCounter(t, nil)
			g.compare(t, w.editRows(t))
		},
		"emergencies and reviews": func(t *testing.T) {
			w := newCounter(t, wide)
			g.compare(t, w.emergencyRows(t))
		},
		"inputs and paths": func(t *testing.T) {
			w := newCounter(t, wide)
			g.compare(t, w.askRows(), w.roleRows(), w.targetRows(), w.adminRows(), w.pathRows())
		},
		"limits": func(t *testing.T) {
			g.compare(t, newCounter(t, map[string]any{"auto_request_cooldown": 1}).narrowRows())
		},
	}
	for _, row := range slices.Concat(failingRows(), targetsInUseRows()) { // each makes a mount
		lanes[row.name] = func(t *testing.T) { g.compare(t, []errorRow{row}) }
	}
	t.Run("lanes", func(t *testing.T) {
		for name, lane := range lanes {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				lane(t)
			})
		}
	})
	g.finish(t)
}

func (w *counter) stateRows() []errorRow {
	return []errorRow{
		{name: "creds, nothing asked for", do: func(t *testing.T) harness.Answer {
			w.role(t, "none", nil).OK(t)
			return w.creds(t, "none")
		}},
		{name: "creds, nothing asked for, and everything required", do: func(t *testing.T) harness.Answer {
			w.role(t, "none-all", map[string]any{"require_ticket": true, "params": map[string]any{
				"db": map[string]any{"allowed": "a,b", "required": true}, "why": map[string]any{"pattern": ".*"},
			}}).OK(t)
			return w.creds(t, "none-all")
		}},
		{name: "creds, pending", do: func(t *testing.T) harness.Answer {
			w.pending(t, "pending", nil)
			return w.creds(t, "pending")
		}},
		{name: "creds, pending with one of two approvals", do: func(t *testing.T) harness.Answer {
			w.decide(t, w.c.bob, w.pending(t, "two", map[string]any{"approvals": 2}), nil).OK(t)
			return w.creds(t, "two")
		}},
		{name: "creds, scheduled", do: func(t *testing.T) harness.Answer {
			w.role(t, "scheduled", nil).OK(t)
			asked := w.ask(t, "scheduled", map[string]any{"start_time": time.Now().Add(2 * time.Hour).UTC().Format(time.RFC3339)}).OK(t)
			w.decide(t, w.c.bob, asked, nil).OK(t)
			return w.creds(t, "scheduled")
		}},
		{name: "creds, denied", do: func(t *testing.T) harness.Answer {
			w.decide(t, w.c.bob, w.pending(t, "denied", nil), map[string]any{"decision": "deny", "comment": "canary"}).OK(t)
			return w.creds(t, "denied")
		}},
		{name: "creds, revoked", do: func(t *testing.T) harness.Answer {
			id := w.granted(t, "revoked", nil).String(t, "request_id")
			w.c.bob.Write(t, w.path("grants/"+id+"/revoke"), map[string]any{"reason": "canary"}).OK(t)
			return w.creds(t, "revoked")
		}},
		{name: "creds, cancelled", do: func(t *testing.T) harness.Answer {
			w.c.alice.Delete(t, w.path("requests/"+w.pending(t, "cancelled", nil).String(t, "request_id"))).OK(t)
			return w.creds(t, "cancelled")
		}},
		{name: "creds, expired", do: func(t *testing.T) harness.Answer {
			w.pending(t, "expired", map[string]any{"request_ttl": 1})
			return w.turns(t, "expired", "request_expired")
		}},
		{name: "creds, window over", do: func(t *testing.T) harness.Answer {
			w.granted(t, "over", map[string]any{"ttl": 1})
			return w.turns(t, "over", "request_ended")
		}},
		{name: "creds, given back", do: func(t *testing.T) harness.Answer {
			w.c.alice.Delete(t, w.path("requests/"+w.granted(t, "given", nil).String(t, "request_id"))).OK(t)
			return w.creds(t, "given")
		}},
		{name: "creds, void", do: func(t *testing.T) harness.Answer {
			w.pending(t, "void", nil)
			w.role(t, "void", map[string]any{"max_ttl": "7h"}).OK(t)
			return w.creds(t, "void")
		}},
		{name: "creds, role changed under the grant", do: func(t *testing.T) harness.Answer {
			w.granted(t, "changed", nil)
			w.role(t, "changed", map[string]any{"max_ttl": "7h"}).OK(t)
			return w.creds(t, "changed")
		}},
		{name: "creds, window ending", do: func(t *testing.T) harness.Answer {
			w.granted(t, "ending", map[string]any{"ttl": 60, "min_ttl": 60})
			return w.creds(t, "ending")
		}},
		{name: "creds, the approver has left", do: func(t *testing.T) harness.Answer {
			w.granted(t, "left", nil)
			host.SetMembers(t, w.c.approver, w.dave)
			defer host.SetMembers(t, w.c.approver, w.c.bob, w.dave)
			return w.creds(t, "left")
		}},
		{name: "creds, several grants with different parameters", do: func(t *testing.T) harness.Answer {
			w.role(t, "several", map[string]any{"max_active": 2, "params": map[string]any{"db": map[string]any{"allowed": "a,b"}}}).OK(t)
			for _, db := range []string{"a", "b"} {
				w.decide(t, w.c.bob, w.ask(t, "several", map[string]any{"params": map[string]any{"db": db}}).OK(t), nil).OK(t)
			}
			return w.creds(t, "several")
		}},
		{name: "creds, request of another role", do: func(t *testing.T) harness.Answer {
			w.role(t, "wrong", nil).OK(t)
			return w.creds(t, "wrong?request_id="+w.granted(t, "right", nil).String(t, "request_id"))
		}},
		{name: "creds, request that does not exist", do: func(t *testing.T) harness.Answer {
			return w.creds(t, "wrong?request_id=01aaaaaaaaaaaaaaaaaaaaaaaa")
		}},
		{name: "creds, request id that is none", do: func(t *testing.T) harness.Answer {
			return w.creds(t, "wrong?request_id=canary")
		}},
		{name: "creds, several problems", do: func(t *testing.T) harness.Answer {
			return w.creds(t, "wrong?request_id=canary&compose=canary&ttl=canary&mistyped=1&Canary=2")
		}},
		{name: "creds, the target refuses", do: func(t *testing.T) harness.Answer {
			w.granted(t, "refused", map[string]any{"token_policies": "canary-policy"})
			return w.creds(t, "refused")
		}},
	}
}

func (w *counter) callerRows() []errorRow {
	return []errorRow{
		{name: "creds, not eligible", do: func(t *testing.T) harness.Answer {
			w.role(t, "others", nil).OK(t)
			return w.carol.Read(t, w.path("creds/others"))
		}},
		{name: "creds, unknown role", do: func(t *testing.T) harness.Answer {
			return w.carol.Read(t, w.path("creds/canary"))
		}},
		{name: "request, not eligible", do: func(t *testing.T) harness.Answer {
			return w.carol.Write(t, w.path("request/others"), map[string]any{"justification": "canary"})
		}},
		{name: "eligible, not eligible", do: func(t *testing.T) harness.Answer {
			return w.carol.Read(t, w.path("eligible/others"))
		}},
		{name: "creds, held", do: func(t *testing.T) harness.Answer {
			w.granted(t, "held", nil)
			hold := host.Root().Write(t, w.path("holds"), map[string]any{"role": "held", "reason": "canary"}).OK(t).String(t, "hold_id")
			defer func() { host.Root().Delete(t, w.path("holds/"+hold)) }()
			return w.creds(t, "held")
		}},
		{name: "request, held person", do: func(t *testing.T) harness.Answer {
			w.role(t, "held-person", nil).OK(t)
			return w.whileHeld(t, w.c.alice, func() harness.Answer { return w.ask(t, "held-person", nil) })
		}},
		{name: "approval, held approver", do: func(t *testing.T) harness.Answer {
			asked := w.pending(t, "held-approver", nil)
			return w.whileHeld(t, w.dave, func() harness.Answer { return w.decide(t, w.dave, asked, nil) })
		}},
		{name: "creds, root token", do: func(t *testing.T) harness.Answer {
			return host.Root().Read(t, w.path("creds/others"))
		}},
		{name: "request, root token", do: func(t *testing.T) harness.Answer {
			return host.Root().Write(t, w.path("request/others"), nil)
		}},
		{name: "approval, root token", do: func(t *testing.T) harness.Answer {
			return host.Root().Write(t, w.path("approvals/01aaaaaaaaaaaaaaaaaaaaaaaa"), map[string]any{"decision": "deny"})
		}},
		{name: "inbox, root token", do: func(t *testing.T) harness.Answer {
			return host.Root().List(t, w.path("approvals/"))
		}},
		{name: "creds, the engine's own login", do: func(t *testing.T) harness.Answer {
			own := w.target.Login.LogIn(t)
			self := host.Root().Write(t, "auth/token/lookup", map[string]any{"token": own.Token}).OK(t)
			host.Root().Write(t, "identity/entity/id/"+self.String(t, "entity_id"), map[string]any{"policies": w.scene.policy}).OK(t)
			return own.Read(t, w.path("creds/others"))
		}},
		{name: "creds, no policy", host: true, do: func(t *testing.T) harness.Answer {
			return host.Person(t, "erin", "default").Read(t, w.path("creds/others"))
		}},
	}
}

func (w *counter) whileHeld(t *testing.T, p *harness.Person, do func() harness.Answer) harness.Answer {
	t.Helper()
	hold := host.Root().Write(t, w.path("holds"), map[string]any{"entity_id": p.EntityID}).OK(t).String(t, "hold_id")
	defer func() { host.Root().Delete(t, w.path("holds/"+hold)) }()
	return do()
}

func (w *counter) limitRows() []errorRow {
	return []errorRow{
		{name: "creds, too many under one grant", do: func(t *testing.T) harness.Answer {
			w.granted(t, "one-credential", map[string]any{"max_credentials": 1})
			w.creds(t, "one-credential").OK(t)
			return w.creds(t, "one-credential")
		}},
		{name: "request, too many for the role", do: func(t *testing.T) harness.Answer {
			w.pending(t, "one-request", nil)
			return w.ask(t, "one-request", map[string]any{"ttl": "5m"})
		}},
	}
}

// narrowRows are of a mount with a cool-down of a second, whose limits become
// tighter from row to row.
func (w *counter) narrowRows() []errorRow {
	tighten := func(t *testing.T, path string, limit map[string]any) {
		t.Helper()
		host.Root().Write(t, w.path(path), limit).OK(t)
	}
	return []errorRow{
		{name: "creds, denied, after the cool-down", do: func(t *testing.T) harness.Answer {
			w.decide(t, w.c.bob, w.pending(t, "denied", nil), map[string]any{"decision": "deny"}).OK(t)
			return w.turns(t, "denied", "no_active_grant")
		}},
		{name: "creds, revoked, after the cool-down", do: func(t *testing.T) harness.Answer {
			id := w.granted(t, "revoked", nil).String(t, "request_id")
			w.c.bob.Write(t, w.path("grants/"+id+"/revoke"), nil).OK(t)
			return w.turns(t, "revoked", "no_active_grant")
		}},
		{name: "creds, target full", do: func(t *testing.T) harness.Answer {
			w.granted(t, "full", nil)
			w.creds(t, "full").OK(t)
			tighten(t, "targets/local", map[string]any{"max_live": 1})
			return w.creds(t, "full")
		}},
		{name: "creds, too fast", do: func(t *testing.T) harness.Answer {
			tighten(t, "targets/local", map[string]any{"max_live": 0})
			tighten(t, "config", map[string]any{"issue_rate": 1})
			w.creds(t, "full").OK(t)
			return w.creds(t, "full")
		}},
		{name: "request, too many of the person", do: func(t *testing.T) harness.Answer {
			tighten(t, "config", map[string]any{"person_max_open": 1})
			w.role(t, "person", nil).OK(t)
			return w.ask(t, "person", nil)
		}},
		{name: "request, too many of the mount", do: func(t *testing.T) harness.Answer {
			tighten(t, "config", map[string]any{"person_max_open": 20, "max_open": 1})
			return w.ask(t, "person", nil)
		}},
		{name: "creds, the person has no name", do: func(t *testing.T) harness.Answer {
			tighten(t, "config", map[string]any{"person_key": "employee"})
			return w.creds(t, "full")
		}},
	}
}

// failingRows are of targets that fail, which the caller is told in our words.
func failingRows() []errorRow {
	failing := func(prefix string, status int) func(t *testing.T) harness.Answer {
		return func(t *testing.T) harness.Answer {
			way := harness.NewRecorder(t, host.Addr)
			w := newCounter(t, nil)
			w.target = w.pim.HostTarget(t, way.URL, nil, w.policy)
			w.granted(t, "failing", nil)
			way.Fault(func(r *http.Request) int {
				if strings.HasPrefix(r.URL.Path, "/v1/"+prefix) {
					return status
				}
				return 0
			})
			answer := w.creds(t, "failing")
			way.Fault(nil)
			return answer
		}
	}
	return []errorRow{
		{name: "creds, the target fails", do: failing("auth/token/create", http.StatusInternalServerError)},
		{name: "creds, the target is sealed", do: failing("sys/health", http.StatusServiceUnavailable)},
		{name: "creds, the target denies", do: failing("auth/token/create", http.StatusForbidden)},
		{name: "creds, the target asks for fewer calls", do: failing("auth/token/create", http.StatusTooManyRequests)},
	}
}

var requestID = regexp.MustCompile(`"request_id":"[0-9a-f-]{36}",?`)

// sameToTheByte leaves out the host's own id of the call, where it has one.
func (w *counter) sameToTheByte(t *testing.T) {
	for _, call := range []func(role string) harness.Answer{
		func(role string) harness.Answer { return w.carol.Read(t, w.path("creds/"+role)) },
		func(role string) harness.Answer { return w.carol.Write(t, w.path("creds/"+role), nil) },
		func(role string) harness.Answer { return w.carol.Write(t, w.path("request/"+role), nil) },
		func(role string) harness.Answer { return w.carol.Read(t, w.path("eligible/"+role)) },
	} {
		other, unknown := call("others"), call("never-written")
		if other.Status != unknown.Status ||
			!bytes.Equal(requestID.ReplaceAll(other.Body, nil), requestID.ReplaceAll(unknown.Body, nil)) {
			t.Errorf("%s: %d %s\nbut for a role that does not exist: %d %s",
				other.Request, other.Status, other.Body, unknown.Status, unknown.Body)
		}
	}
}
