// Package faults kills the real plugin process at every step of the use cases that
// a crash could separate, on a real host, and looks at what is left: at the target
// nothing that nobody will end, on record nothing that is stuck.
package faults

import (
	"os"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

var host *harness.Host

func TestMain(m *testing.M) { os.Exit(harness.Main(m, &host, harness.Options{})) }
