package pim

import (
	"os"
	"strings"
	"testing"
)

// ServeFactory does what the SDK's ServeMultiplex did in one version of it. Another
// version may do more: compare the two before this is changed.
func TestTheSDKThatServingWasComparedWith(t *testing.T) {
	raw, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if compared := "github.com/hashicorp/vault/sdk v0.25.1\n"; !strings.Contains(string(raw), compared) {
		t.Errorf("go.mod does not have %q: compare serve.go with plugin/serve.go of the SDK that it has", compared)
	}
}
