package pim

import (
	"os"
	"regexp"
)

// Texts are written for a mount at pim/ and for Vault's command line. Whoever
// reads one can paste it only if it names the mount and the program at hand.
var (
	typedMount   = regexp.MustCompile(`\bpim/`)
	typedProgram = regexp.MustCompile(`\bvault (read|write|list|delete|path-help)\b`)
)

// program is the host's command line: OpenBao tells its plugins its version
// under a name of its own, besides Vault's.
func program() string {
	if os.Getenv("BAO_VERSION") != "" {
		return "bao"
	}
	return "vault"
}

// asTyped is a text of ours for the mount that a call came through. mount ends
// with a slash, as the host sends it; without one the text stays.
func (h *handler) asTyped(text, mount string) string {
	if mount != "" {
		text = typedMount.ReplaceAllLiteralString(text, mount)
	}
	return typedProgram.ReplaceAllString(text, h.program+" $1")
}

// dataAsTyped does the same with the fields that are declared to hold commands.
// All of their text is ours: nothing that somebody sent is rewritten.
func (h *handler) dataAsTyped(data map[string]any, fields []field, mount string) {
	for _, f := range fields {
		if !f.command {
			continue
		}
		switch v := data[f.name].(type) {
		case string:
			data[f.name] = h.asTyped(v, mount)
		case []string:
			out := make([]string, len(v))
			for i, s := range v {
				out[i] = h.asTyped(s, mount)
			}
			data[f.name] = out
		}
	}
}
