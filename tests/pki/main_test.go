// Package pki runs pim's X.509 certificates against a real host with its PKI
// engine, and has openssl judge them. scripts/test-ssh.sh runs it.
package pki

import (
	"os"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

var host *harness.Host

func TestMain(m *testing.M) { os.Exit(harness.Main(m, &host, harness.Options{})) }
