// Package hostprovider runs the host provider, without the plugin around it,
// against real host processes and a real database: the same conformance suite
// that runs on the provider's fake, and what only the real thing can show.
package hostprovider

import (
	"fmt"
	"os"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// elsewhere is a second host: another place.
var host, elsewhere *harness.Host

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	var err error
	if elsewhere, err = harness.Start(harness.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	defer func() {
		if err := elsewhere.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "harness:", err)
			code = 1
		}
	}()
	return harness.Main(m, &host, harness.Options{})
}
