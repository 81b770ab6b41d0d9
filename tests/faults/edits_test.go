package faults

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// twoPeople: edits take two people. The process dies while one is proposed, or
// while it is confirmed: it is in force or it waits, and the next try finishes it.
func twoPeople(t *testing.T, w *world, step string) {
	role := w.role(t, map[string]any{"owner": "carol", "max_ttl": "8h"})
	second := host.Person(t, "carol", host.Policy(t, "second",
		`path "`+w.path("+/confirm")+`" { capabilities = ["read", "update"] }
		 path "`+w.path("roles/+/confirm")+`" { capabilities = ["read", "update"] }`))
	root := func(at string, fields map[string]any) func() (harness.Answer, error) {
		return func() (harness.Answer, error) { return do(t, host.Root(), http.MethodPut, w.path(at), fields) }
	}
	confirm := func(at string) (harness.Answer, error) {
		waits, err := do(t, second.Actor, http.MethodGet, w.path(at+"/confirm"), nil)
		if err != nil || waits.Status == http.StatusNotFound {
			return waits, err
		}
		return do(t, second.Actor, http.MethodPut, w.path(at+"/confirm"), map[string]any{"digest": waits.Data["digest"]})
	}
	confirmed := func(at string) {
		poll.Until(t, retries, func() error {
			answer, err := confirm(at)
			if err == nil && answer.Status != http.StatusOK && answer.Status != http.StatusNotFound {
				err = fmt.Errorf("%d %s", answer.Status, answer.Body)
			}
			return err
		})
	}
	again(t, root("config", map[string]any{"edit_sod": true}))
	confirmed("config")
	edit := root("roles/"+role, map[string]any{"max_ttl": "9h"})
	read := func() (harness.Answer, error) { return do(t, host.Root(), http.MethodGet, w.path("roles/"+role), nil) }
	if step == "edit proposed" {
		w.arm(t, step)
		w.attempt(t, edit)
		if now := again(t, read).Data["max_ttl"]; now != 28800.0 {
			t.Errorf("in force, and nobody confirmed it: %v", now)
		}
		again(t, edit)
	} else {
		again(t, edit)
		w.arm(t, step)
		w.attempt(t, func() (harness.Answer, error) { return confirm("roles/" + role) })
	}
	confirmed("roles/" + role)
	now := again(t, read)
	if now.Data["max_ttl"] != 32400.0 || now.Data["proposed"] != false {
		t.Errorf("confirmed, and the role is %s", now.Body)
	}
	again(t, root("config", map[string]any{"edit_sod": false}))
	confirmed("config")
}
