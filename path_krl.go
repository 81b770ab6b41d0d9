package pim

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
)

// mediaRaw is the content type of lists: sshd reads a file, not JSON.
const mediaRaw = "application/octet-stream"

// publicPaths are answered without a token. Each of them is as good as absent
// unless the target's own field opens it.
func publicPaths() []string { return []string{"public/ssh/+/krl"} }

func (b *backend) krlPaths() []path {
	target := nameCapture("target", "Name of the target.")
	gone := []int{http.StatusNotFound}
	return []path{{
		pattern: "ssh/" + segment("target") + "/krl/info", name: "krl-info", help: "What a target's key revocation list is.",
		description: "For hosts that want to know whether their copy is the present one.", captures: []field{target},
		ops: []op{{verb: logical.ReadOperation, summary: "Read about a key revocation list.", ok: krlWire(), statuses: gone, do: b.readListInfo}},
	}, {
		pattern: "ssh/" + segment("target") + "/krl", name: "krl", help: "A target's key revocation list, for sshd.",
		description: "Raw bytes in OpenSSH's binary form: every certificate that was ended before its time and has not expired.",
		captures:    []field{target},
		ops:         []op{{verb: logical.ReadOperation, summary: "Fetch a key revocation list.", media: mediaRaw, statuses: gone, do: b.readList(false)}},
	}, {
		pattern: "public/ssh/" + segment("target") + "/krl", name: "public-krl", help: "The same list for callers without a token.",
		description: "Absent unless the target says public_krl=true.", captures: []field{target},
		ops: []op{{verb: logical.ReadOperation, summary: "Fetch a key revocation list without a token.", media: mediaRaw, statuses: gone, do: b.readList(true)}},
	}}
}

func krlWire() []field {
	return []field{
		always(str("sha256", "SHA-256 of the list as it is served.")),
		always(integer("number", "Number of this issue; it grows with every change.")),
		always(integer("entries", "Credentials on it.")),
		always(integer("size", "Its length in bytes.")),
		always(str("generated_at", "When it was written.")),
		always(str("next_change", "When an entry falls off by itself, unless something is revoked before; empty = there is none.")),
		always(boolean("public", "Callers without a token may have it.")),
	}
}

// readList answers with the list as it was stored; nothing is computed here.
func (b *backend) readList(public bool) func(context.Context, *call) (*answer, error) {
	return func(ctx context.Context, c *call) (*answer, error) {
		l, err := b.list(ctx, c)
		if err != nil || l == nil || (public && !l.Public) {
			return nil, err
		}
		return &answer{raw: l.Body}, nil
	}
}

func (b *backend) readListInfo(ctx context.Context, c *call) (*answer, error) {
	l, err := b.list(ctx, c)
	if err != nil || l == nil {
		return nil, err
	}
	return &answer{data: map[string]any{
		"sha256": l.Sum, "number": l.Number, "entries": l.Entries, "size": len(l.Body),
		"generated_at": stampOf(l.At), "next_change": stampOf(l.Next), "public": l.Public,
	}}, nil
}

func (b *backend) list(ctx context.Context, c *call) (*access.Published, error) {
	return b.access.ReadList(ctx, c.Capture("target"))
}
