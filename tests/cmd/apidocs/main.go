// Command apidocs writes docs/api.md. It reads the OpenAPI document of a mounted
// plugin from its standard input, as vault path-help -format=json prints it, and
// writes Markdown to its standard output.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/openapi"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "apidocs:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	raw, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	doc, err := openapi.Parse(raw)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, doc.Markdown())
	return err
}
