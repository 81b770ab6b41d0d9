package aws

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// rootInOrder tells whether the root user has one key again, nothing of a
// rotation under way, and pim acts with that key.
func (o *office) rootInOrder(t *testing.T) error {
	t.Helper()
	var keys struct {
		AccessKeyMetadata []struct{ AccessKeyID string }
	}
	call(t, o.account, "iam", "list_access_keys", args{"UserName": "pim"}, &keys)
	if len(keys.AccessKeyMetadata) != 1 {
		return fmt.Errorf("the root user has %d keys", len(keys.AccessKeyMetadata))
	}
	var tags struct{ Tags []struct{ Key string } }
	call(t, o.account, "iam", "list_user_tags", args{"UserName": "pim"}, &tags)
	if len(tags.Tags) != 0 {
		return fmt.Errorf("the root user is marked: %v", tags.Tags)
	}
	target := bench.host.Root().Read(t, o.Path("targets/prod"))
	if target.Status != http.StatusOK {
		return fmt.Errorf("the target: %d %s", target.Status, target.Body)
	}
	creds := o.Alice.Read(t, o.Path("creds/session"))
	if creds.Status != http.StatusOK {
		return fmt.Errorf("an issue: %d %s", creds.Status, creds.Body)
	}
	if !o.usable(t, creds) {
		t.Error("what alice was given does not work")
	}
	return nil
}

// rotateOnce asks for a rotation as a client does: it asks again while the reaper
// still puts the one before in order.
func (o *office) rotateOnce(t *testing.T) harness.Answer {
	t.Helper()
	var answer harness.Answer
	poll.Until(t, endBound, func() error {
		answer = bench.host.Root().Write(t, o.Path("targets/prod/rotate-root"), nil)
		if answer.Data["poll_after_seconds"] != nil {
			return fmt.Errorf("busy: %s", answer.Body)
		}
		return nil
	})
	return answer
}

// The plugin is killed after each call of a rotation. Once it is back the root
// user has one key, which pim knows; nobody has to do anything.
func TestKillsOfARotation(t *testing.T) {
	t.Parallel()
	o := newLane(t)
	o.auto(t, "session", args{"role_arns": o.role(prodRole)})
	var worst time.Duration
	n, again := 1, 0
	for ; n < 40; n++ {
		o.kill()
		o.back(t)
		fired := o.killAt(t, n)
		answer := o.rotateOnce(t)
		if hit, _ := fired(); !hit {
			answer.OK(t)
			break
		}
		if answer.Status/100 == 2 { // the kill came upon another call; once more
			if again++; again > 5 {
				t.Fatalf("other calls come between at call %d", n)
			}
			n--
			continue
		}
		back := o.back(t)
		poll.Until(t, endBound, func() error { return o.rootInOrder(t) })
		worst = max(worst, clock.System{}.Now().Sub(back))
	}
	if err := o.rootInOrder(t); err != nil || n < 8 {
		t.Errorf("%d kills, at last: %v", n-1, err)
	}
	t.Logf("MEASURED %d kills, one after each call; in order at most %.1f s after the plugin was back", n-1, worst.Seconds())
}
