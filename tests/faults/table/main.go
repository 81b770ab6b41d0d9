// Command table prints the report of the fault tests as a table, for scripts/faults.sh.
// It fails if a case did.
package main

import (
	"fmt"
	"os"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: table FILE")
	}
	raw, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	rows, failed, err := report.Table(os.Stdout, string(raw))
	if err == nil && (rows == 0 || failed > 0) {
		err = fmt.Errorf("%d of %d rows failed", failed, rows)
	}
	return err
}
