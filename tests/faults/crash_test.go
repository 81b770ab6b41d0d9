package faults

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// scenario is a use case, the steps that it comes to, and what has to be true after
// the process died at one of them.
type scenario struct {
	name  string
	kinds []kind
	steps []string
	run   func(t *testing.T, w *world, step string)
}

func around(writes ...string) []string {
	var out []string
	for _, w := range writes {
		out = append(out, "before put "+w, "after put "+w)
	}
	return out
}

func scenarios() []scenario {
	both, one := []kind{tokens, leases}, []kind{tokens}
	return []scenario{
		{"issue", both, append(around("issue intended", "checkpoint", "checkpoint#2", "issue settled"), "before provider issue", "after provider issue"), issue},
		{"undo of an issue that failed", both, around("issue failed"), undo},
		{"lease end", both, append(around("end intended", "end settled"), "before provider revoke", "after provider revoke"), leaseEnd},
		{"grant end", one, append(around("request ended"), "before archive", "archived", "before drop", "after archive"), grantEnd},
		{"grant end at the target", both, append(around("end settled"), "before provider revoke", "after provider revoke"), grantEnd},
		{"kill switch", one, append(
			around("request ended", "end settled"),
			"kill switch held", "kill switch noted", "kill switch marked", "before provider revoke", "after provider revoke", "before archive", "archived", "before drop", "after archive",
		), killSwitch},
		{"rotation", one, []string{"rotation noted", "rotation staged", "rotation switched", "rotation retired"}, rotation},
		{"request", one, append(around("request filed"), "before put person", "after put person"), request},
		{"decision", one, around("decision"), decision},
		{"withdrawal", one, around("cancelled"), withdrawal},
		{"edit of the role", one, around("request voided"), edit},
		{"edit of two people", one, []string{"edit proposed", "proposal applied", "proposal dropped"}, twoPeople},
		{"emergency", one, append(around("glass broken", "amended"), "break-glass noted", "break-glass of a person noted", "events written"), emergency},
		{"sign-off of what is over", one, []string{"before archive amended", "after archive amended", "sign-off noted"}, lookBack},
		{"consumer of events", one, []string{"events acknowledged"}, hearing},
		{"access review", one, []string{"access review closing", "access review applied"}, accessReview},
		{"nobody answers", one, around("reconsidered"), unanswered},
		{"more time", one, around("extension asked", "extension decided"), extension},
		{"expiry", one, around("caught up"), expiry},
		{"read that got nothing", one, around("given up"), nothing},
		{"shared credential", one, around("shared", "nonce dropped"), sharing},
	}
}

// checkpoints is how often an issue of a kind learns a name on the way.
func (k kind) checkpoints() int {
	if k == leases {
		return 2 // the token's accessor, then the lease
	}
	return 1
}

// Every step of the source is in a scenario, and the other way round.
func TestEveryStepHasAScenario(t *testing.T) {
	t.Parallel()
	covered := map[string]bool{}
	for _, s := range scenarios() {
		for _, step := range s.steps {
			name, _, _ := strings.Cut(step, "#")
			covered[name] = true
		}
	}
	known := steps(t)
	elsewhere := armedElsewhere(t)
	for _, step := range known {
		if !covered[step] && !elsewhere[step] {
			t.Errorf("nothing crashes the process at %q: put it into a scenario", step)
		}
	}
	for step := range covered {
		if !slices.Contains(known, step) {
			t.Errorf("there is no step %q in internal/access any more", step)
		}
	}
	if len(known) < 30 {
		t.Errorf("only %d steps were found; the search must be wrong", len(known))
	}
}

func TestCrash(t *testing.T) {
	t.Parallel()
	pg := harness.StartPostgres(t)
	name, runs := report.HostName(t, host.Bin, 1), 0
	t.Cleanup(func() {
		report.Add(t, report.Row{
			Case: "R1", What: "plugin killed at every step of every use case, tokens and PostgreSQL users", Host: name, Runs: runs,
		})
	})
	for _, s := range scenarios() {
		for _, k := range s.kinds {
			runs += len(s.steps)
			t.Run(s.name+" of a "+string(k), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, k, pg)
				for _, step := range s.steps {
					if k.checkpoints() == 1 && strings.HasSuffix(step, "#2") {
						continue // a step of the other kind
					}
					if !t.Run(step, func(t *testing.T) { s.run(t, w, step) }) {
						return // what is left of it would be found again at every later step
					}
				}
			})
		}
	}
}

// issue: alice's read dies; she reads again and gets a credential.
func issue(t *testing.T, w *world, step string) {
	role := w.role(t, nil)
	id := w.grant(t, role)
	w.arm(t, step)
	w.attempt(t, func() (harness.Answer, error) { return w.read(t, role) })
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	lost := 0
	if step == "before put checkpoint" {
		lost = 1 // the token exists, and its accessor died with the process
	}
	before := len(w.remainder)
	w.accounted(t, id, lost)
	if got := len(w.remainder) - before; got != lost {
		t.Errorf("%d tokens were lost, want %d", got, lost)
	}
	w.over(t, role, id)
}

// undo: the host refuses in the middle of an issue, and the process dies while it
// writes that down.
func undo(t *testing.T, w *world, step string) {
	role := w.role(t, nil)
	id := w.grant(t, role)
	w.proxy.Fault(func(req *http.Request) int {
		if strings.HasSuffix(req.URL.Path, "auth/token/lookup-accessor") {
			return http.StatusInternalServerError
		}
		return 0
	})
	w.arm(t, step)
	w.attempt(t, func() (harness.Answer, error) { return w.read(t, role) })
	w.proxy.Fault(nil)
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	w.accounted(t, id, 0)
	w.over(t, role, id)
}

// leaseEnd: the host revokes the lease and the plugin dies; the host, or whoever
// asked, tries again.
func leaseEnd(t *testing.T, w *world, step string) {
	role := w.role(t, nil)
	id := w.grant(t, role)
	creds := again(t, func() (harness.Answer, error) { return w.read(t, role) })
	w.arm(t, step)
	revoke := func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true})
	}
	w.attempt(t, revoke)
	poll.Until(t, retries, func() error {
		answer, err := revoke()
		if err == nil && answer.Status/100 != 2 && !strings.Contains(string(answer.Body), "lease not found") {
			err = fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return err
	})
	poll.Until(t, settles, func() error {
		_, list, err := w.audit(t, id)
		for _, c := range list {
			if c.state != "gone" && c.state != "ended" {
				err = errors.Join(err, fmt.Errorf("credential %s is %s", c.id, c.state))
			}
		}
		return err
	})
	w.accounted(t, id, 0)
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	w.over(t, role, id)
}

// grantEnd: bob ends the grant and the plugin dies in it.
func grantEnd(t *testing.T, w *world, step string) {
	role := w.role(t, nil)
	id := w.grant(t, role)
	again(t, func() (harness.Answer, error) { return w.read(t, role) })
	w.arm(t, step)
	end := func() (harness.Answer, error) {
		return do(t, w.bob.Actor, http.MethodPut, w.path("grants/"+id+"/revoke"), map[string]any{"reason": "done"})
	}
	w.attempt(t, end)
	again(t, end)
	w.over(t, role, id)
}

// killSwitch: the security officer pulls it for a role, and the plugin dies.
func killSwitch(t *testing.T, w *world, step string) {
	role := w.role(t, nil)
	id := w.grant(t, role)
	again(t, func() (harness.Answer, error) { return w.read(t, role) })
	w.arm(t, step)
	pull := func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, w.path("revoke"), map[string]any{"role": role, "reason": "incident"})
	}
	first, err := pull()
	w.crashed(t)
	if err != nil || first.Status != http.StatusOK {
		first = again(t, pull) // it was not confirmed, so it is pulled again
	}
	job := first.String(t, "job")
	poll.Until(t, settles, func() error {
		answer, err := do(t, host.Root(), http.MethodGet, w.path("revoke/"+job), nil)
		if err == nil && answer.Data["done"] != true {
			err = fmt.Errorf("the job is not done: %d %s", answer.Status, answer.Body)
		}
		return err
	})
	w.accountedAsOver(t, id)
	w.alice.Read(t, w.path("creds/"+role)).Refused(t, http.StatusForbidden, "access denied: ")
	for _, hold := range host.Root().List(t, w.path("holds/")).Keys(t) {
		host.Root().Delete(t, w.path("holds/"+hold)).OK(t)
	}
	w.over(t, role, id)
}

// rotation: the operator rotates the root credential, and the plugin dies.
func rotation(t *testing.T, w *world, step string) {
	again(t, func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, w.path("targets/"+w.target.Name), map[string]any{"role_name": w.target.Login.Name})
	})
	role := w.role(t, nil)
	id := w.grant(t, role)
	w.arm(t, step)
	rotate := func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, w.path("targets/"+w.target.Name+"/rotate-root"), nil)
	}
	w.attempt(t, rotate)
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	again(t, rotate)
	secretIDs := "auth/approle/role/" + w.target.Login.Name + "/secret-id"
	if left := host.Root().List(t, secretIDs).Keys(t); len(left) != 1 {
		t.Errorf("%d root credentials are left at the target, want one", len(left))
	}
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	w.over(t, role, id)
}

// request: alice asks and the plugin dies; she asks again and there is one request.
func request(t *testing.T, w *world, step string) {
	role := w.role(t, nil)
	w.arm(t, step)
	w.attempt(t, func() (harness.Answer, error) {
		return do(t, w.alice.Actor, http.MethodPut, w.path("request/"+role), map[string]any{"justification": "order 4711"})
	})
	id := w.ask(t, role)
	if mine := w.alice.List(t, w.path("requests/mine/")).Keys(t); slices.Contains(mine, id) && len(w.openOf(t, role)) != 1 {
		t.Errorf("%v are open for one ask", w.openOf(t, role))
	}
	again(t, func() (harness.Answer, error) { return w.decide(t, id) })
	w.over(t, role, id)
}

// openOf lists alice's open requests for a role.
func (w *world) openOf(t *testing.T, role string) []string {
	t.Helper()
	var open []string
	for _, id := range w.alice.List(t, w.path("requests/mine/")).Keys(t) {
		r := w.alice.Read(t, w.path("requests/"+id)).OK(t)
		if s := r.String(t, "state"); r.String(t, "role") == role && (s == "pending" || s == "active") {
			open = append(open, id)
		}
	}
	return open
}

// decision: bob approves and the plugin dies; he tries again and is told that he has
// decided, or his decision counts now. It never counts twice.
func decision(t *testing.T, w *world, step string) {
	role := w.role(t, nil)
	id := w.ask(t, role)
	w.arm(t, step)
	w.attempt(t, func() (harness.Answer, error) { return w.decide(t, id) })
	poll.Until(t, retries, func() error {
		answer, err := w.decide(t, id)
		decided := answer.Data["code"] == "already_decided" || answer.Data["code"] == "not_pending"
		if err == nil && answer.Status != http.StatusOK && !decided {
			err = fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return err
	})
	record := host.Root().Read(t, w.path("audit/requests/"+id)).OK(t)
	if list, ok := record.Data["decisions"].([]any); !ok || len(list) != 1 {
		t.Errorf("decisions on record: %v", record.Data["decisions"])
	}
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	w.over(t, role, id)
}

// withdrawal: alice gives her grant back and the plugin dies.
func withdrawal(t *testing.T, w *world, step string) {
	role := w.role(t, nil)
	id := w.grant(t, role)
	again(t, func() (harness.Answer, error) { return w.read(t, role) })
	w.arm(t, step)
	withdraw := func() (harness.Answer, error) {
		return do(t, w.alice.Actor, http.MethodDelete, w.path("requests/"+id), nil)
	}
	w.attempt(t, withdraw)
	again(t, withdraw)
	w.over(t, role, id)
}

// edit: a role is made wider while a request waits, and the plugin dies: the request
// must never become a grant of the wider role.
func edit(t *testing.T, w *world, step string) {
	role := w.role(t, nil)
	id := w.ask(t, role)
	w.arm(t, step)
	widen := func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, w.path("roles/"+role), map[string]any{"max_ttl": "9h"})
	}
	w.attempt(t, widen)
	again(t, widen)
	if answer, err := w.decide(t, id); err == nil && answer.Status == http.StatusOK {
		t.Error("a request from before the edit was approved")
	}
	poll.Until(t, settles, func() error {
		state, _, err := w.audit(t, id)
		if err == nil && state != "void" {
			err = fmt.Errorf("the request is %s, want void", state)
		}
		return err
	})
	w.over(t, role, id)
}

// expiry: nobody decides in time; the process dies while it writes that down.
func expiry(t *testing.T, w *world, step string) {
	role := w.role(t, map[string]any{"request_ttl": 1})
	w.arm(t, step)
	id := w.ask(t, role)
	w.crashed(t)
	poll.Until(t, settles, func() error {
		state, _, err := w.audit(t, id)
		if err == nil && state != "expired" {
			err = fmt.Errorf("the request is %s, want expired", state)
		}
		return err
	})
	w.role(t, nil)
	again(t, func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, w.path("roles/"+role), map[string]any{"request_ttl": "1h"})
	})
	w.over(t, role, id)
}

// nothing: a role approves by itself, the host makes no token, and the process dies
// while the request that was filed for this read is closed.
func nothing(t *testing.T, w *world, step string) {
	role := w.role(t, map[string]any{"auto_approve": true, "approver_groups": "", "require_justification": false})
	w.proxy.Fault(func(req *http.Request) int {
		if strings.Contains(req.URL.Path, "auth/token/create/") {
			return http.StatusInternalServerError
		}
		return 0
	})
	w.arm(t, step)
	w.attempt(t, func() (harness.Answer, error) { return w.read(t, role) })
	w.proxy.Fault(nil)
	creds := again(t, func() (harness.Answer, error) { return w.read(t, role) })
	w.works(t, creds)
	for _, id := range w.openOf(t, role) {
		w.accounted(t, id, 0)
		again(t, func() (harness.Answer, error) {
			return do(t, w.alice.Actor, http.MethodDelete, w.path("requests/"+id), nil)
		})
		w.accountedAsOver(t, id)
	}
	if left := w.openOf(t, role); len(left) != 0 {
		t.Errorf("still open: %v", left)
	}
}

// sharing: two reads have one credential under two leases; the process dies when
// the second joins, or when one of them ends.
func sharing(t *testing.T, w *world, step string) {
	role := w.role(t, map[string]any{"reuse_window": 60})
	id := w.grant(t, role)
	first := again(t, func() (harness.Answer, error) { return w.read(t, role) })
	joins := strings.HasSuffix(step, "shared")
	if joins {
		w.arm(t, step)
	}
	second, err := w.read(t, role)
	if joins {
		w.crashed(t)
		second = again(t, func() (harness.Answer, error) { return w.read(t, role) })
	} else if err != nil || second.Data["pim_credential_id"] != first.Data["pim_credential_id"] {
		t.Fatalf("the second read shares nothing: %d %s", second.Status, second.Body)
	} else {
		w.arm(t, step)
	}
	revoke := func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, "sys/leases/revoke", map[string]any{"lease_id": first.LeaseID, "sync": true})
	}
	if _, err := revoke(); err != nil {
		t.Log(err)
	}
	if !joins {
		w.crashed(t)
	}
	poll.Until(t, retries, func() error {
		answer, err := revoke()
		if err == nil && answer.Status/100 != 2 && !strings.Contains(string(answer.Body), "lease not found") {
			err = fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return err
	})
	w.accounted(t, id, 0)
	w.works(t, second)
	w.over(t, role, id)
}
