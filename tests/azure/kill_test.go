package azure

import (
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

func TestKilledBetweenAnyTwoCalls(t *testing.T) {
	t.Parallel()
	for _, role := range kindNames() {
		harness.KilledBetweenCalls(t, role, func(t *testing.T, plugin harness.Plugin) harness.Mortal {
			t.Helper()
			o := newOffice(t, plugin)
			fields := o.Role(o.kinds()[role])
			fields["max_credentials"] = 32
			o.Write(t, "roles/"+role, fields)
			o.Granted(t, role, nil)
			return harness.Mortal{Office: o.Office, Role: role, Bound: endBound, Watch: o.Watch, Left: o.usable}
		})
	}
}
