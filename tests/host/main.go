// Command vault is the host that the acceptance tests and the demo run against:
// the Vault server and CLI of the version that this directory's go.mod pins. It
// is a module of its own because its dependencies contradict the plugin's, and
// because its licence (BUSL-1.1) stays out of everything we ship. Build it with
// scripts/host.sh.
package main

import (
	"os"

	"github.com/hashicorp/vault/command"
)

func main() {
	addEngines()
	os.Exit(command.Run(os.Args[1:]))
}
