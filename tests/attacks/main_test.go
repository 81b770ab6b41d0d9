// Package attacks runs what hostile people with real tokens try against a real host:
// every attack comes with a control, a case that works and differs in nothing but
// what the defence looks at, and it fails unless both were seen.
package attacks

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

var host *harness.Host

func TestMain(m *testing.M) {
	code := harness.Main(m, &host, harness.Options{})
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
	if err := results.publish(whole && code == 0); err != nil {
		fmt.Fprintln(os.Stderr, "attacks:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}
