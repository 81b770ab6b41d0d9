package harness

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// sweepBound is how long a sweep may take: pauses between tries at a target that
// asks for fewer calls.
const sweepBound = 90 * time.Second

// Office is a mount with people for a target "prod", which the test writes: alice
// is eligible for its roles, and bob approves.
type Office struct {
	Pim        *Mount
	Alice, Bob *Person
	Eng, Leads string // alice's group and bob's
}

// Office brings people to the mount, whose reaper looks every second.
func (m *Mount) Office(t testing.TB) *Office {
	t.Helper()
	person := m.PersonPolicy(t)
	o := &Office{Pim: m, Alice: m.Host.Person(t, "alice", person), Bob: m.Host.Person(t, "bob", person)}
	o.Eng, o.Leads = m.Host.Group(t, "eng", o.Alice).Name, m.Host.Group(t, "leads", o.Bob).Name
	o.Write(t, "config", map[string]any{"reap_interval": 1, "issue_rate": 10000})
	return o
}

// Path is the path of something below the mount.
func (o *Office) Path(below string) string { return o.Pim.Path + "/" + below }

// Write has root write below the mount, which must work.
func (o *Office) Write(t testing.TB, path string, data map[string]any) Answer {
	t.Helper()
	return o.Pim.Host.Root().Write(t, o.Path(path), data).OK(t)
}

// Role is a role that alice may ask for and bob approves; fields come on top.
func (o *Office) Role(fields map[string]any) map[string]any {
	all := map[string]any{"target": "prod", "eligible_groups": o.Eng, "approver_groups": o.Leads, "ttl": "30m"}
	maps.Copy(all, fields)
	return all
}

// Auto is a role that approves by itself; fields come on top.
func (o *Office) Auto(fields map[string]any) map[string]any {
	all := map[string]any{
		"target": "prod", "eligible_groups": o.Eng, "auto_approve": true, "require_justification": false, "ttl": "30m",
		"max_active": 100, "max_credentials": 32,
	}
	maps.Copy(all, fields)
	return all
}

// Granted has alice ask and bob approve; fields are further ones of the request.
func (o *Office) Granted(t testing.TB, role string, fields map[string]any) (id string) {
	t.Helper()
	ask := map[string]any{"justification": "order 4711 is stuck"}
	maps.Copy(ask, fields)
	id = o.Alice.Write(t, o.Path("request/"+role), ask).OK(t).String(t, "request_id")
	digest := o.Bob.Read(t, o.Path("approvals/"+id)).OK(t).String(t, "digest")
	o.Bob.Write(t, o.Path("approvals/"+id), map[string]any{"decision": "approve", "digest": digest}).OK(t)
	return id
}

// Sweep runs a sweep to its end and returns its outcome.
func (o *Office) Sweep(t testing.TB, ask map[string]any) Answer {
	t.Helper()
	o.Write(t, "orphans/sweep", ask)
	return o.Swept(t)
}

// Swept waits for the sweep that is under way.
func (o *Office) Swept(t testing.TB) (status Answer) {
	t.Helper()
	poll.Until(t, sweepBound, func() error {
		if status = o.Pim.Host.Root().Read(t, o.Path("orphans/sweep")).OK(t); status.Data["running"] != false {
			return fmt.Errorf("%s", status.Body)
		}
		return nil
	})
	if status.Data["failed"] != false {
		t.Fatalf("%s", status.Body)
	}
	return status
}

// Orphans insists on the ids that orphans/ lists.
func (o *Office) Orphans(t testing.TB, want ...string) {
	t.Helper()
	got := o.Pim.Host.Root().List(t, o.Path("orphans/")).Keys(t)
	if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Fatalf("orphans/ lists %v, want %v", got, want)
	}
}
