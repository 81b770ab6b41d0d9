// Package acceptance runs the main job of pim on a real host, with the plugin as a
// process of its own and with real logins.
package acceptance

import (
	"os"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

var host *harness.Host

func TestMain(m *testing.M) { os.Exit(harness.Main(m, &host, harness.Options{})) }
