// Command vault-plugin-secrets-pim is the plugin's process. The host starts
// it; by hand it does nothing.
package main

import (
	"os"

	"github.com/hashicorp/go-hclog"

	pim "github.com/vault-pim/vault-plugin-secrets-pim"
)

func main() {
	if err := pim.Serve(os.Args[1:]); err != nil {
		hclog.New(&hclog.LoggerOptions{}).Error("plugin shutting down", "error", err)
		os.Exit(1)
	}
}
