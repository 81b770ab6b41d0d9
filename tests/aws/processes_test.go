package aws

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// Two plugin processes end 50 leases on sessions of one AWS role at the same
// time. IAM has no conditional write, so each could take the other's denies out
// again: the second client finds them all, and no live session among them.
func TestFiftyRevocationsByTwoProcesses(t *testing.T) {
	const each, live = 25, 3
	one := newLane(t)
	plugin, mark := lane()
	two := one.beside(t, plugin)
	two.mark = mark
	if a, b := one.processes(), two.processes(); len(a) != 1 || len(b) != 1 || a[0] == b[0] {
		t.Fatalf("not two processes: %v and %v", a, b)
	}
	var all, spared []harness.Answer
	for _, o := range []*office{one, two} {
		o.auto(t, "session", args{"role_arns": o.role(prodRole)})
		for i := range each + live {
			creds := o.Alice.Read(t, o.Path("creds/session")).OK(t)
			if i < each {
				all = append(all, creds)
			} else {
				spared = append(spared, creds)
			}
		}
	}
	began := clock.System{}.Now()
	var wg sync.WaitGroup
	for _, creds := range all {
		wg.Go(func() {
			answer := bench.host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true})
			if answer.Status != http.StatusNoContent && answer.Status != http.StatusOK {
				t.Errorf("%d %s", answer.Status, answer.Body)
			}
		})
	}
	wg.Wait()
	t.Logf("MEASURED 50 revocations by two processes: %.1f s, %d writes", clock.System{}.Now().Sub(began).Seconds(), one.gate.calls("PutRolePolicy"))
	text := ""
	for _, p := range one.holderPolicies(t, "role", prodRole) {
		text += textOf(p)
	}
	for i, creds := range append(all, spared...) {
		named := strings.Contains(text, `"pim-`+credentialOf(t, creds)+`"`)
		if named != (i < len(all)) {
			t.Errorf("session %d: denied %v", i, named)
		}
	}
	if one.usable(t, all[0]) || one.usable(t, all[len(all)-1]) || !one.usable(t, spared[0]) {
		t.Error("the judge sees it otherwise")
	}
}
