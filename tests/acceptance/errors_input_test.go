package acceptance

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// askRows are requests that say something wrong. Each leaves no request behind.
func (w *counter) askRows() []errorRow {
	const role = "asked"
	with := func(fields map[string]any) func(t *testing.T) harness.Answer {
		return func(t *testing.T) harness.Answer {
			w.role(t, role, map[string]any{
				"max_ttl": "1h", "min_ttl": "1m", "require_ticket": true, "ticket_pattern": "[A-Z]+-[0-9]+", "justification_pattern": ".{3,}",
				"params": map[string]any{
					"db":   map[string]any{"allowed": "orders,stock", "required": true},
					"host": map[string]any{"pattern": "[a-z]+"},
				},
			}).OK(t)
			body := map[string]any{"ticket": "OPS-1", "params": map[string]any{"db": "orders"}}
			maps.Copy(body, fields)
			answer := w.ask(t, role, body)
			if mine := w.c.alice.List(t, w.path("requests/mine/")); strings.Contains(string(mine.Body), `"`+role+`"`) {
				t.Errorf("a refused request was filed: %s", mine.Body)
			}
			return answer
		}
	}
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	return []errorRow{
		{name: "request, no justification", do: with(map[string]any{"justification": ""})},
		{name: "request, justification that does not match", do: with(map[string]any{"justification": "ok"})},
		{name: "request, justification of more than 2 KiB", do: with(map[string]any{"justification": strings.Repeat("canary", 400)})},
		{name: "request, justification with control characters", do: with(map[string]any{"justification": "canary\x1b[2J"})},
		{name: "request, justification that reads backwards", do: with(map[string]any{"justification": "canary\u202e"})},
		{name: "request, justification that is no text", do: with(map[string]any{"justification": map[string]any{"password": "canary"}})},
		{name: "request, no ticket", do: with(map[string]any{"ticket": ""})},
		{name: "request, ticket that does not match", do: with(map[string]any{"ticket": "canary"})},
		{name: "request, ttl above the maximum", do: with(map[string]any{"ttl": "2h"})},
		{name: "request, ttl below the minimum", do: with(map[string]any{"ttl": "30s"})},
		{name: "request, ttl of zero", do: with(map[string]any{"ttl": 0})},
		{name: "request, negative ttl", do: with(map[string]any{"ttl": "-5m"})},
		{name: "request, negative ttl as a number", do: with(map[string]any{"ttl": -300})},
		{name: "request, ttl below a second", do: with(map[string]any{"ttl": "10ms"})},
		{name: "request, ttl that is no duration", do: with(map[string]any{"ttl": "canary"})},
		{name: "request, ttl beyond all bounds", do: with(map[string]any{"ttl": "999999999h"})},
		{name: "request, start in the past", do: with(map[string]any{"start_time": at(-time.Hour)})},
		{name: "request, start in more than 30 days", do: with(map[string]any{"start_time": at(31 * 24 * time.Hour)})},
		{name: "request, start that is no time", do: with(map[string]any{"start_time": "canary"})},
		{name: "request, start without a zone", do: with(map[string]any{"start_time": "2030-01-01T00:00:00"})},
		{name: "request, no parameter", do: with(map[string]any{"params": map[string]any{}})},
		{name: "request, parameter that is not allowed", do: with(map[string]any{"params": map[string]any{"db": "canary"}})},
		{name: "request, parameter that does not match", do: with(map[string]any{"params": map[string]any{"db": "orders", "host": "Canary canary"}})},
		{name: "request, parameters that nobody declared", do: with(map[string]any{"params": map[string]any{"db": "orders", "canary": "x", "canary2": "y"}})},
		{name: "request, parameters that are no map", do: with(map[string]any{"params": []any{"canary"}})},
		{name: "request, unknown field", do: with(map[string]any{"durations": "canary"})},
		{name: "request, unknown fields whose names could be secrets", do: with(map[string]any{"s3cr3t-canary": "x", "Canary": "y"})},
		{name: "request, field that repeats the path", do: with(map[string]any{"role": "canary"})},
		{name: "request, several problems", do: with(map[string]any{
			"justification": "", "ticket": "canary", "ttl": "100h", "start_time": at(-time.Hour),
			"params": map[string]any{"db": "canary", "canary": "x"},
		})},
		{name: "request, several problems of type", do: with(map[string]any{
			"justification": 1.5, "ticket": []any{"canary"}, "ttl": true, "start_time": 17, "params": "canary", "mistyped": map[string]any{},
		})},
	}
}

// roleRows are roles that are refused. Each leaves the role as it was: not there.
func (w *counter) roleRows() []errorRow {
	named := func(name string, fields map[string]any) func(t *testing.T) harness.Answer {
		return func(t *testing.T) harness.Answer {
			answer := w.role(t, name, fields)
			if left := host.Root().Read(t, w.path("roles/"+name)); left.Status == http.StatusOK {
				t.Errorf("a refused role was written: %s", left.Body)
			}
			return answer
		}
	}
	with := func(fields map[string]any) func(t *testing.T) harness.Answer { return named("bad", fields) }
	return []errorRow{
		{name: "role, missing target", do: with(map[string]any{"target": "nowhere"})},
		{name: "role, no target", do: with(map[string]any{"target": ""})},
		{name: "role, target that is no name", do: with(map[string]any{"target": "../canary"})},
		{name: "role, name with upper case", do: named("Canary", nil)},
		{name: "role, name with dots", do: named("canary.role", nil)},
		{name: "role, name with an underscore", do: named("canary_role", nil)},
		{name: "role, name that begins with a hyphen", do: named("-canary", nil)},
		{name: "role, name of 64 characters", do: named(strings.Repeat("a", 64), nil)},
		{name: "role, wildcard approver group", do: with(map[string]any{"approver_groups": "*"})},
		{name: "role, wildcard in an approver group", do: with(map[string]any{"approver_groups": "canary-*"})},
		{name: "role, empty approver group", do: with(map[string]any{"approver_groups": []string{"leads", ""}})},
		{name: "role, blank approver group", do: with(map[string]any{"approver_groups": []string{"leads", "  "}})},
		{name: "role, approver groups that are no list", do: with(map[string]any{"approver_groups": map[string]any{"canary": "x"}})},
		{name: "role, wildcard approver entity", do: with(map[string]any{"approver_entities": "alias:auth_userpass_1/canary*"})},
		{name: "role, approver entity by name", do: with(map[string]any{"approver_entities": "canary"})},
		{name: "role, wildcard eligible group", do: with(map[string]any{"eligible_groups": "*"})},
		{name: "role, nobody eligible", do: with(map[string]any{"eligible_groups": ""})},
		{name: "role, nobody can approve", do: with(map[string]any{"approver_groups": ""})},
		{name: "role, no approvals without saying so", do: with(map[string]any{"approvals": 0})},
		{name: "role, negative approvals", do: with(map[string]any{"approvals": -1})},
		{name: "role, approves by itself beside approvers", do: with(map[string]any{"auto_approve": true})},
		{name: "role, more approvals than approvers", do: with(map[string]any{
			"approvals": 2, "approver_groups": "", "approver_entities": "01234567-0123-0123-0123-0123456789ab",
		})},
		{name: "role, ttl longer than max_ttl", do: with(map[string]any{"ttl": "9h"})},
		{name: "role, ttl of zero", do: with(map[string]any{"ttl": 0})},
		{name: "role, negative ttl", do: with(map[string]any{"ttl": "-1h"})},
		{name: "role, negative durations", do: with(map[string]any{"max_ttl": -1, "lease_ttl": -1, "min_ttl": -1, "request_ttl": -1, "reuse_window": -1, "wrap_ttl": -1, "claim_within": -1})},
		{name: "role, zero durations", do: with(map[string]any{"max_ttl": 0, "min_ttl": 0, "request_ttl": 0})},
		{name: "role, durations that are none", do: with(map[string]any{"ttl": "canary", "max_ttl": []any{1}, "min_ttl": "1 canary"})},
		{name: "role, reuse window of more than five minutes", do: with(map[string]any{"reuse_window": "6m"})},
		{name: "role, counts out of bounds", do: with(map[string]any{"max_active": 0, "max_credentials": 33, "approvals": 101})},
		{name: "role, counts that are none", do: with(map[string]any{"max_active": "canary", "max_credentials": 1.5, "approvals": map[string]any{}})},
		{name: "role, start that is none", do: with(map[string]any{"start": "canary"})},
		{name: "role, claim_within without first_read", do: with(map[string]any{"claim_within": "5m"})},
		{name: "role, patterns that are none", do: with(map[string]any{"justification_pattern": "canary(", "ticket_pattern": strings.Repeat("canary", 100)})},
		{name: "role, parameters that cannot be", do: with(map[string]any{"params": map[string]any{
			"Canary": map[string]any{"pattern": "x"}, "both": map[string]any{"pattern": "x", "allowed": "y"}, "none": map[string]any{},
			"default": map[string]any{"allowed": "a", "default": "canary"}, "odd": map[string]any{"mistyped": true, "required": "canary"},
		}})},
		{name: "role, class that is none", do: with(map[string]any{"min_revocation": "canary"})},
		{name: "role, neither path nor policies", do: with(map[string]any{"token_policies": ""})},
		{name: "role, path and policies", do: with(map[string]any{"path": "database/creds/canary"})},
		{name: "role, path into the host itself", do: with(map[string]any{"token_policies": "", "path": "sys/canary"})},
		{name: "role, path that climbs", do: with(map[string]any{"token_policies": "", "path": "database/../canary/creds"})},
		{name: "role, policies that nobody may have", do: with(map[string]any{"token_policies": "root,default"})},
		{name: "role, unknown field", do: with(map[string]any{"approver_group": "canary"})},
		{name: "role, field that repeats the path", do: with(map[string]any{"name": "canary"})},
		{name: "role, several problems", do: named("Canary.bad", map[string]any{
			"target": "nowhere", "approver_groups": "*", "ttl": "-1h", "max_ttl": "canary", "approvals": -1, "mistyped": 1, "s3cr3t": 2,
		})},
		{name: "role, several problems of the whole", do: with(map[string]any{
			"eligible_groups": "", "approver_groups": "*", "ttl": "9h", "max_active": 0, "start": "canary", "token_policies": "root",
		})},
	}
}

// targetRows are targets that are refused.
func (w *counter) targetRows() []errorRow {
	with := func(name string, fields map[string]any) func(t *testing.T) harness.Answer {
		return func(t *testing.T) harness.Answer { return host.Root().Write(t, w.path("targets/"+name), fields) }
	}
	login := map[string]any{"type": "host", "token_role": "pim", "role_id": "r", "secret_id": "canary-secret"}
	also := func(name string, value any) map[string]any {
		body := maps.Clone(login)
		body[name] = value
		return body
	}
	return []errorRow{
		{name: "target, no type", do: with("bad", map[string]any{"address": "https://canary"})},
		{name: "target, type that is none", do: with("bad", map[string]any{"type": "canary"})},
		{name: "target, another type", do: with("local", map[string]any{"type": "aws"})},
		{name: "target, nothing but a type", do: with("bad", map[string]any{"type": "host"})},
		{name: "target, name with upper case and a dot", do: with("Canary.x", login)},
		{name: "target, address that is none", do: with("bad", also("address", "canary"))},
		{name: "target, address with a password", do: with("bad", also("address", "https://user:canary@example.com"))},
		{name: "target, address in clear", do: with("bad", also("address", "http://example.com"))},
		{name: "target, nobody at the address", do: with("bad", also("address", "http://127.0.0.1:1"))},
		{name: "target, moved without the secret", do: with("local", map[string]any{"address": "https://example.com"})},
		{name: "target, secrets of two kinds", do: with("local", map[string]any{"token": "canary-token"})},
		{name: "target, role names that are none", do: with("local", map[string]any{"allowed_roles": "Canary,a/b"})},
		{name: "target, negative bound", do: with("local", map[string]any{"max_live": -1})},
		{name: "target, several problems of type", do: with("local", map[string]any{"max_live": "canary", "description": 1, "allowed_roles": map[string]any{}, "mistyped": 1})},
		{name: "role, edited with live credentials", do: func(t *testing.T) harness.Answer {
			w.granted(t, "live", nil)
			w.creds(t, "live").OK(t)
			return w.role(t, "live", map[string]any{"max_ttl": "7h"})
		}},
		{name: "role, deleted with live credentials", do: func(t *testing.T) harness.Answer {
			return host.Root().Delete(t, w.path("roles/live"))
		}},
	}
}

// targetsInUseRows need a mount each.
func targetsInUseRows() []errorRow {
	return []errorRow{
		{name: "target, deleted while a role names it", do: func(t *testing.T) harness.Answer {
			empty := newCounter(t, nil)
			empty.role(t, "only", nil).OK(t)
			return host.Root().Delete(t, empty.path("targets/local"))
		}},
		{name: "target, deleted with live credentials", do: func(t *testing.T) harness.Answer {
			busy := newCounter(t, nil)
			busy.granted(t, "busy", nil)
			busy.creds(t, "busy").OK(t)
			return host.Root().Delete(t, busy.path("targets/local"))
		}},
		{name: "role, weaker than the mount allows", do: func(t *testing.T) harness.Answer {
			strict := newCounter(t, map[string]any{"min_revocation": "immediate"})
			return strict.role(t, "weak", map[string]any{"token_policies": "", "path": "database/creds/x"})
		}},
	}
}

// adminRows are wrong settings, kill switches and holds.
func (w *counter) adminRows() []errorRow {
	with := func(path string, fields map[string]any) func(t *testing.T) harness.Answer {
		return func(t *testing.T) harness.Answer { return host.Root().Write(t, w.path(path), fields) }
	}
	return []errorRow{
		{name: "config, out of bounds", do: with("config", map[string]any{
			"reap_interval": 0, "max_open": 0, "person_max_open": -1, "issue_rate": 0, "hold_ttl": 0, "auto_request_per_day": 101,
		})},
		{name: "config, of wrong types", do: with("config", map[string]any{
			"reap_interval": "canary", "max_open": []any{}, "end_on_ineligible": "canary", "human_mounts": map[string]any{"canary": 1}, "person_key": 1,
		})},
		{name: "config, wildcard and hidden characters", do: with("config", map[string]any{
			"human_mounts": "canary*", "person_key": "canary\u200b", "min_revocation": "canary",
		})},
		{name: "kill switch, nothing named", do: with("revoke", nil)},
		{name: "kill switch, two things named", do: with("revoke", map[string]any{"role": "canary", "target": "canary"})},
		{name: "kill switch, everything without confirming", do: with("revoke", map[string]any{"all": true})},
		{name: "kill switch, everything with another word", do: with("revoke", map[string]any{"all": true, "confirm": "canary"})},
		{name: "kill switch, negative hold", do: with("revoke", map[string]any{"role": "x", "hold": -1})},
		{name: "orphans, sweep of no target", do: with("orphans/sweep", map[string]any{"target": ""})},
		{name: "orphans, sweep of an unknown target", do: with("orphans/sweep", map[string]any{"target": "canary"})},
		{name: "orphans, wrong types", do: with("orphans/sweep", map[string]any{"target": "Canary.x", "end": "canary"})},
		{name: "role, everything of it ended without a reason", do: with("roles/canary/revoke", nil)},
		{name: "role, everything of an unknown one ended", do: with("roles/canary/revoke", map[string]any{"reason": "canary"})},
		{name: "target, everything of it ended with hidden characters", do: with("targets/"+w.target.Name+"/revoke", map[string]any{"reason": "canary\u202e", "hold": -1})},
		{name: "hold, for no time", do: with("holds", map[string]any{"role": "x", "ttl": 0})},
		{name: "hold, hidden characters", do: with("holds", map[string]any{"ticket": "canary\u202e", "reason": "canary\x00"})},
		{name: "hold, lifted by the person held", do: func(t *testing.T) harness.Answer {
			officer := host.Person(t, "frank", host.Policy(t, "officer", `path "`+w.path("holds/*")+`" { capabilities = ["update", "delete"] }`))
			hold := host.Root().Write(t, w.path("holds"), map[string]any{"entity_id": officer.EntityID}).OK(t).String(t, "hold_id")
			defer func() { host.Root().Delete(t, w.path("holds/"+hold)) }()
			return officer.Delete(t, w.path("holds/"+hold))
		}},
	}
}

// pathRows are paths that are none. What does not reach the plugin is answered by
// the host, each in its own way.
func (w *counter) pathRows() []errorRow {
	at := func(method, path string) func(t *testing.T) harness.Answer {
		return func(t *testing.T) harness.Answer {
			var body any
			if method == http.MethodPut {
				body = map[string]any{}
			}
			answer, err := host.Root().Do(context.Background(), method, w.path(path), body, nil)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
	}
	rows := []errorRow{
		{name: "path, upper case", do: at(http.MethodGet, "roles/X")},
		{name: "path, dot", do: at(http.MethodGet, "roles/a.b")},
		{name: "path, escaped upper case", do: at(http.MethodGet, "roles/%41b")},
		{name: "path, blank", do: at(http.MethodGet, "roles/a%20b")},
		{name: "path, letter outside ASCII", do: at(http.MethodGet, "roles/%C3%A4")},
		{name: "path, not UTF-8", host: true, do: at(http.MethodGet, "roles/%FF")},
		{name: "path, id in upper case", do: at(http.MethodGet, "audit/requests/01AAAAAAAAAAAAAAAAAAAAAAAA")},
		{name: "path, id beyond all time", do: at(http.MethodGet, "audit/requests/81aaaaaaaaaaaaaaaaaaaaaaaa")},
		{name: "path, name where an id belongs", do: at(http.MethodGet, "holds/canary")},
		{name: "path, orphan that is none", do: at(http.MethodGet, "orphans/01aaaaaaaaaaaaaaaaaaaaaaaa")},
		{name: "path, list read as one of its items", do: at(http.MethodGet, "requests/mine")},
		{name: "path, unknown", host: true, do: at(http.MethodGet, "nosuch")},
		{name: "path, nothing", host: true, do: at(http.MethodGet, "")},
		{name: "path, no role", host: true, do: at(http.MethodGet, "creds/")},
		{name: "path, one part too many", host: true, do: at(http.MethodGet, "creds/a/b")},
		{name: "path, escaped slash", host: true, do: at(http.MethodGet, "roles/a%2Fb")},
		{name: "path, two slashes", host: true, do: at(http.MethodGet, "roles//a")},
		{name: "path, up", host: true, do: at(http.MethodGet, "roles/..")},
		{name: "path, up and down", host: true, do: at(http.MethodGet, "roles/../config")},
		{name: "path, escaped up", host: true, do: at(http.MethodGet, "roles/%2e%2e")},
		{name: "path, escaped up and down", host: true, do: at(http.MethodGet, "roles/%2e%2e/config")},
		{name: "path, escaped zero", host: true, do: at(http.MethodGet, "roles/%00")},
		{name: "path, written with a slash at the end", host: true, do: at(http.MethodPut, "roles/a/")},
		{name: "path, deleting what cannot be deleted", host: true, do: at(http.MethodDelete, "config")},
		{name: "path, writing what can only be read", host: true, do: at(http.MethodPut, "tidy-status")},
		{name: "path, reading what can only be written", host: true, do: at(http.MethodGet, "rotate-epoch")},
		{name: "path, listing what is no list", host: true, do: at("LIST", "config")},
	}
	return rows
}
