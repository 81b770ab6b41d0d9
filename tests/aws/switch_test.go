package aws

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// The kill switch on an account with 100 sessions of one AWS role: one write
// denies them all, before and instead of one for each.
func TestKillSwitchOfManySessions(t *testing.T) {
	const teams, each = 4, 25
	o := newOffice(t, harness.Plain)
	var wg sync.WaitGroup
	for n := range teams {
		name := fmt.Sprintf("team-%d", n)
		o.auto(t, name, args{"role_arns": o.role(prodRole)})
		wg.Go(func() {
			for range each {
				if creds := o.Alice.Read(t, o.Path("creds/"+name)); creds.Status != http.StatusOK {
					t.Errorf("%s: %d %s", name, creds.Status, creds.Body)
				}
			}
		})
	}
	wg.Wait()
	all := o.gate.sessions(t)
	if len(all) != teams*each || o.gate.calls("PutRolePolicy") != 0 {
		t.Fatalf("%d sessions, %d denies", len(all), o.gate.calls("PutRolePolicy"))
	}
	began := clock.System{}.Now()
	job := o.Write(t, "revoke", args{"target": "prod", "reason": "a laptop was stolen"}).String(t, "job")
	poll.Until(t, endBound, func() error {
		if answer := bench.host.Root().Read(t, o.Path("revoke/"+job)).OK(t); answer.Data["done"] != true {
			return fmt.Errorf("live: %v", answer.Data["credentials_live"])
		}
		return nil
	})
	t.Logf("MEASURED 100 sessions ended %.1f s after the kill switch, with %d writes", clock.System{}.Now().Sub(began).Seconds(), o.gate.calls("PutRolePolicy"))
	if n := o.gate.calls("PutRolePolicy"); n != 1 {
		t.Errorf("%d writes of the revocation policy", n)
	}
	policies, now := o.holderPolicies(t, "role", prodRole), clock.System{}.Now()
	text := ""
	for _, p := range policies {
		text += textOf(p)
	}
	for i, s := range all {
		if !strings.Contains(text, s.SourceIdentity) {
			t.Errorf("%s is not denied", s.SourceIdentity)
		}
		if i%10 == 0 && o.judge(t, s, policies, tryAction, tryResource, now) {
			t.Errorf("%s works", s.SourceIdentity)
		}
	}
}
