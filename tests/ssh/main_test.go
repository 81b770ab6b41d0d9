// Package ssh runs pim's SSH certificates against a real host with its SSH
// engine, a real sshd and a real ssh. It needs Debian's openssh-server,
// openssh-client and curl: scripts/test-ssh.sh installs them.
package ssh

import (
	"os"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

var host *harness.Host

func TestMain(m *testing.M) { os.Exit(harness.Main(m, &host, harness.Options{})) }
