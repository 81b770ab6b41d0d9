package acceptance

import (
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// editRows are the refusals where edits take two people. The rows follow each
// other: carol's edit of the role twice waits from the first row on.
func (w *counter) editRows(t *testing.T) []errorRow {
	t.Helper()
	w.role(t, "twice", map[string]any{"owner": "carol"}).OK(t)
	writer := host.Policy(t, "writer", `path "`+w.path("*")+`" { capabilities = ["read", "update", "delete"] }`)
	carol, dave := host.Person(t, "carol", writer), host.Person(t, "dave", writer)
	robot := host.AppRole(t, "robot", "20m", writer).LogIn(t)
	confirm := func(who harness.Actor, at string) harness.Answer {
		digest := dave.Read(t, w.path(at+"/confirm")).OK(t).String(t, "digest")
		return who.Write(t, w.path(at+"/confirm"), map[string]any{"digest": digest})
	}
	carol.Write(t, w.path("config"), map[string]any{"edit_sod": true}).OK(t)
	confirm(dave.Actor, "config").OK(t)
	carol.Write(t, w.path("roles/twice"), map[string]any{"max_ttl": "2h"}).OK(t)
	return []errorRow{
		{name: "edit, confirmed by its author", do: func(*testing.T) harness.Answer { return confirm(carol.Actor, "roles/twice") }},
		{name: "edit, confirmed by a machine", do: func(*testing.T) harness.Answer { return confirm(robot, "roles/twice") }},
		{name: "edit, confirmed by a token without identity", do: func(*testing.T) harness.Answer { return confirm(host.Root(), "roles/twice") }},
		{name: "edit, confirmed without a digest", do: func(t *testing.T) harness.Answer { return dave.Write(t, w.path("roles/twice/confirm"), nil) }},
		{name: "edit, confirmed with another digest", do: func(t *testing.T) harness.Answer {
			return dave.Write(t, w.path("roles/twice/confirm"), map[string]any{"digest": "canary"})
		}},
		{name: "edit, while another person's waits", do: func(t *testing.T) harness.Answer {
			return dave.Write(t, w.path("roles/twice"), map[string]any{"max_ttl": "3h"})
		}},
		{name: "edit, by a person whose identity was disabled", do: func(t *testing.T) harness.Answer {
			host.Disable(t, carol, true)
			defer host.Disable(t, carol, false)
			return confirm(dave.Actor, "roles/twice")
		}},
		{name: "edit, confirmed where none waits", do: func(t *testing.T) harness.Answer {
			return dave.Write(t, w.path("targets/canary/confirm"), map[string]any{"digest": "canary"})
		}},
		{name: "edit, confirmed and then confirmed again", do: func(t *testing.T) harness.Answer {
			digest := dave.Read(t, w.path("roles/twice/confirm")).OK(t).String(t, "digest")
			confirm(dave.Actor, "roles/twice").OK(t)
			return dave.Write(t, w.path("roles/twice/confirm"), map[string]any{"digest": digest})
		}},
		{name: "edit, of a role without an owner", do: func(t *testing.T) harness.Answer {
			return carol.Write(t, w.path("roles/twice"), map[string]any{"owner": ""})
		}},
		{name: "edit, stale", do: func(t *testing.T) harness.Answer {
			carol.Write(t, w.path("roles/twice"), map[string]any{"max_ttl": "4h"}).OK(t)
			for _, on := range []bool{false, true} {
				carol.Write(t, w.path("config"), map[string]any{"edit_sod": on}).OK(t)
				confirm(dave.Actor, "config").OK(t)
				if !on {
					dave.Write(t, w.path("roles/twice"), map[string]any{"max_ttl": "5h"}).OK(t)
				}
			}
			return confirm(dave.Actor, "roles/twice")
		}},
	}
}
