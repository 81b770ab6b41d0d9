package pim

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *backend) grantPaths() []path {
	id := idCapture("request_id", "Id of the grant, which is that of its request.")
	return []path{{
		pattern: "grants/mine/?", name: "my-grants", help: "Your grants.",
		description: "Your grants that are active or still have live credentials.",
		fields:      pageFields(),
		ops: []op{{
			verb: logical.ListOperation, summary: "List your grants.", ok: listFields("role, who, state and times"),
			statuses: asked(), do: b.listMine(b.access.MyGrants),
		}},
	}, {
		pattern: "grants/" + segment("request_id") + "/revoke", name: "grant", help: "End one grant.",
		description: "For its requester and for those who could approve it. The access ends at the target; the host's lease entry stays listed until its own end.",
		captures:    []field{id},
		fields:      []field{{name: "reason", typ: contract.TypeString, desc: "Shown to the requester."}},
		ops: []op{{
			verb: logical.UpdateOperation, name: "revoke", summary: "End one grant.", ok: requestWire(), statuses: asked(), do: b.revokeGrant,
		}},
	}, {
		pattern: "grants/" + segment("request_id"), name: "grants", help: "One grant.",
		description: "A request that was granted, with its credentials.",
		captures:    []field{id},
		ops: []op{{
			verb: logical.ReadOperation, summary: "Read one grant.", ok: requestWire(), statuses: asked(), do: b.readView(b.access.Grant),
		}},
	}}
}

func (b *backend) revokeGrant(ctx context.Context, c *call) (*answer, error) {
	id, err := domain.ParseRequestID(c.Capture("request_id"))
	if err != nil {
		return nil, err
	}
	v, err := b.access.RevokeGrant(ctx, caller(c), id, c.String("reason"))
	if err != nil {
		return nil, err
	}
	return &answer{data: requestData(v)}, nil
}
