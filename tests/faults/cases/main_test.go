// Package cases is the list of faults that every build has to survive, R1 to R22, on
// real hosts with the plugin as a process of its own and a journaling target as the
// witness. docs/faults.md describes them. make test runs those that need no more than
// a host in development mode; make faults (build tag faults) runs all.
package cases

import (
	"os"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// shared is the host of the cases that leave a host as they found it.
var shared *harness.Host

func TestMain(m *testing.M) { os.Exit(harness.Main(m, &shared, harness.Options{})) }
