package ssh

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// heals bounds everything that the reaper does after a crash: the host starts
// the plugin again at the next call, and it looks every ten seconds.
const heals = 45 * time.Second

func TestACrashBetweenRecordAndListHeals(t *testing.T) {
	s := newSite(t, harness.Plugin{Variant: harness.Faults})
	d := startSSHD(t, s)
	for _, step := range []string{"after put end intended", "before put list", "after put list", "after provider revoke", "before put end settled"} {
		t.Run(step, func(t *testing.T) {
			k, other := s.sign(t, nil), s.sign(t, nil)
			before := s.info(t)
			s.pim.CrashAt(t, step)
			// The host reports the crash, or has already tried again.
			host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": k.lease, "sync": true})
			if !s.pim.Crashed(t) {
				t.Fatal("the step was not reached")
			}
			poll.Until(t, heals, func() error {
				a := host.Root().Read(t, s.path("audit/requests/"+k.grant))
				if a.Status != http.StatusOK || !strings.Contains(string(a.Body), " ended, planned") {
					return fmt.Errorf("not ended yet: %d %s", a.Status, a.Body)
				}
				return nil
			})
			after := s.info(t)
			if after.entries != before.entries+1 || after.number <= before.number {
				t.Errorf("the list was %+v and is %+v", before, after)
			}
			d.fetch(t)
			d.refuses(t, k)
			d.letsIn(t, other)
		})
	}
}

func TestACrashBetweenSignatureAndRecordHeals(t *testing.T) {
	s := newSite(t, harness.Plugin{Variant: harness.Faults})
	d := startSSHD(t, s)
	for _, step := range []string{"before put checkpoint#2", "after put checkpoint#2", "after provider issue", "before put issue settled"} {
		t.Run(step, func(t *testing.T) {
			before := s.info(t)
			k := newKey(t)
			signed := s.tap.Next(t)
			s.pim.CrashAt(t, step)
			s.alice.Write(t, s.path("creds/"+s.role), map[string]any{"params": map[string]string{"public_key": k.public}})
			if !s.pim.Crashed(t) {
				t.Fatal("the step was not reached")
			}
			write(t, k.file+"-cert.pub", signed())
			poll.Until(t, heals, func() error {
				if a := host.Root().Read(t, s.path("ssh/local/krl/info")); a.Status != http.StatusOK || a.Data["entries"] == float64(before.entries) {
					return fmt.Errorf("not on the list yet: %d %s", a.Status, a.Body)
				}
				return nil
			})
			d.fetch(t)
			d.refuses(t, k)
		})
	}
}

func TestManyEndAtOnce(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	d := startSSHD(t, s)
	const many = 12
	keys := make([]*key, many)
	for i := range keys {
		keys[i] = s.sign(t, nil)
	}
	before := s.info(t)
	host.Root().Write(t, s.path("revoke"), map[string]any{"role": s.role, "reason": "drill"}).OK(t)
	poll.Until(t, heals, func() error {
		if now := s.info(t); now.entries != before.entries+many {
			return errors.New("not all are on the list yet")
		}
		return nil
	})
	d.fetch(t)
	for _, k := range keys {
		d.refuses(t, k)
	}
	poll.Until(t, heals, func() error {
		if live := host.Root().Read(t, s.targetPath).OK(t).Data["live"]; live != 0.0 {
			return fmt.Errorf("%v are live", live)
		}
		return nil
	})
	refused := host.Root().Delete(t, s.targetPath)
	if refused.Status != http.StatusBadRequest || !strings.Contains(string(refused.Body), "not gone yet") {
		t.Errorf("a target whose list still matters was deleted: %d %s", refused.Status, refused.Body)
	}
}

func TestTheListOutlivesTheProcessAndTheRole(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	d := startSSHD(t, s)
	k := s.sign(t, nil)
	s.revokeLease(t, k)
	before := s.info(t)
	host.Root().Write(t, "sys/plugins/reload/backend", map[string]any{"mounts": []string{s.pim.Path}}).OK(t)
	live := s.sign(t, nil)
	host.Root().Delete(t, s.path("roles/"+s.role)+"?live=keep").OK(t)
	if after := s.info(t); after.sha256 != before.sha256 {
		t.Errorf("a restart changed the list: %+v, %+v", before, after)
	}
	s.revokeLease(t, live)
	if after := s.info(t); after.entries != before.entries+1 {
		t.Errorf("%d entries, want one more than %d", after.entries, before.entries)
	}
	d.fetch(t)
	d.refuses(t, k)
	d.refuses(t, live)
}
