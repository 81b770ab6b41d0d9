//go:build !faults

package pim

import (
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

// crashSteps is nothing in a release: crash hooks exist only in builds with
// the tag faults.
func crashSteps(hclog.Logger) func(string) { return nil }

// machineClock is the machine's clock; builds with the tag faults can move it.
func machineClock() clock.Clock { return clock.System{} }

// machineStorage is the host's storage as it is; builds with the tag faults can
// make it fail.
func machineStorage(s logical.Storage) logical.Storage { return s }
