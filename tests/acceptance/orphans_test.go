package acceptance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// A sweep answers at once, runs in the background, and says of each target what
// came of it: a host keeps no tags that could be listed. Providers that can list
// are swept in their own suites.
func TestSweepOfOrphans(t *testing.T) {
	t.Parallel()
	v := newVaultScene(t)
	if keys := host.Root().List(t, v.path("orphans/")); len(keys.Keys(t)) != 0 {
		t.Errorf("orphans before any sweep: %s", keys.Body)
	}
	if before := host.Root().Read(t, v.path("orphans/sweep")).OK(t); before.Data["running"] != false || before.Data["failed"] != false {
		t.Errorf("before any sweep: %s", before.Body)
	}
	host.Root().Write(t, v.path("orphans/sweep"), map[string]any{"target": "local"}).OK(t)
	poll.Until(t, settles, func() error {
		status := host.Root().Read(t, v.path("orphans/sweep")).OK(t)
		if status.Data["running"] != false {
			return fmt.Errorf("%s", status.Body)
		}
		if !strings.Contains(string(status.Body), "local: cannot_list") || status.Data["failed"] != false {
			t.Errorf("afterwards: %s", status.Body)
		}
		return nil
	})
	host.Root().Write(t, v.path("orphans/sweep"), map[string]any{"end": true}).OK(t)
}
