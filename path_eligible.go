package pim

import (
	"context"
	"maps"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

func (b *backend) eligiblePaths() []path {
	return []path{{
		pattern: "eligible/?", name: "eligible-roles", help: "What you may request.",
		description: "The roles that the caller is eligible for now.",
		fields:      pageFields(),
		ops: []op{{
			verb: logical.ListOperation, summary: "List what you may request.", ok: listFields(""), statuses: asked(), do: b.listEligible,
		}},
	}, {
		pattern: "eligible/" + segment("role"), name: "eligible-role", help: "What one role needs and yields.",
		description: "What a request must carry, what it yields, who approves, how surely it ends, and the ready command.",
		captures:    []field{nameCapture("role", "Name of the role.")},
		ops: []op{{
			verb: logical.ReadOperation, summary: "See what one role needs and yields.", ok: eligibleWire(),
			statuses: []int{http.StatusForbidden}, do: b.readEligible,
		}},
	}}
}

func eligibleWire() []field {
	return append([]field{
		always(str("role", "The role.")),
		str("description", "What it is for."),
		str("owner", "Who owns it."),
		always(str("yields", "Kind of credential and type of target.")),
		always(texts("needs", "Fields that a request carries.")),
		always(integer("approvals", "Approvals needed.")),
		always(str("approved_by", "Who can decide.")),
		always(integer("ttl", "Default window in seconds.")),
		always(integer("max_ttl", "Longest window in seconds.")),
		always(boolean("auto_approve", "The role approves by itself.")),
		always(command("command", "The command that asks for it.")),
	}, append(emergencyWire(), revocationWire()...)...)
}

func (b *backend) listEligible(ctx context.Context, c *call) (*answer, error) {
	keys, err := b.access.Eligible(ctx, caller(c), c.String("after"), c.Int("limit"))
	if err != nil {
		return nil, err
	}
	return &answer{keys: keys}, nil
}

func (b *backend) readEligible(ctx context.Context, c *call) (*answer, error) {
	v, err := b.access.EligibleRole(ctx, caller(c), c.Capture("role"))
	if err != nil {
		return nil, err
	}
	approvals := v.Role.Quorum()
	if v.Role.AutoApprove {
		approvals = 0
	}
	data := map[string]any{
		"role": v.Role.Name, "description": domain.Printable(v.Role.Description), "owner": domain.Printable(v.Role.Owner),
		"yields": strings.TrimSpace(v.Yields + " of a " + v.Provider + " target"), "needs": orEmpty(v.Needs),
		"approvals": approvals, "approved_by": v.WaitingFor,
		"ttl": int(v.Role.TTL), "max_ttl": int(v.Role.MaxTTL), "auto_approve": v.Role.AutoApprove, "command": v.Command,
	}
	emergencyData(data, v.Emergency)
	maps.Copy(data, access.RevocationFields(v.Revocation))
	return &answer{data: data}, nil
}
