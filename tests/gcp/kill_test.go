package gcp

import (
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

func TestKilledBetweenAnyTwoCalls(t *testing.T) {
	t.Parallel()
	for _, role := range contract.SortedKeys(kinds()) {
		harness.KilledBetweenCalls(t, role, func(t *testing.T, plugin harness.Plugin) harness.Mortal {
			t.Helper()
			o := newOfficeAs(t, newCloud(t), plugin)
			fields := o.Role(kinds()[role])
			fields["max_credentials"] = 32
			o.Write(t, "roles/"+role, fields)
			o.Granted(t, role, nil)
			return harness.Mortal{Office: o.Office, Role: role, Bound: endBound, Watch: o.Watch, Left: o.usable}
		})
	}
}
