package pim

import (
	"context"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *backend) holdPaths() []path {
	return []path{{
		pattern: "holds/?", name: "holds", help: "Blocks on people, roles and targets.",
		description: "Listing shows the holds; writing sets one.",
		fields: slices.Concat(selectorFields(), pageFields(),
			[]field{{name: "ttl", typ: contract.TypeSeconds, desc: "Life of the hold; until it is lifted when absent.", most: int(domain.LimitTTL)}}),
		ops: []op{
			{verb: logical.ListOperation, summary: "List holds.", ok: listFields("what each hold is about"), do: b.listHolds},
			{verb: logical.UpdateOperation, name: "set", summary: "Set a hold.", ok: holdWire(), do: b.setHold, takes: []string{"entity_id", "role", "target", "ticket", "all", "confirm", "reason", "ttl"}},
		},
	}, {
		pattern: "holds/" + segment("id"), name: "hold", help: "One hold.", description: "Deleting lifts it; not by the person held.",
		captures: []field{idCapture("id", "Id of the hold.")},
		fields: []field{
			{name: "ttl", typ: contract.TypeSeconds, desc: "New life from now on; empty = until it is lifted.", most: int(domain.LimitTTL)},
			{name: "reason", typ: contract.TypeString, desc: "New reason."},
		},
		ops: []op{
			{verb: logical.UpdateOperation, name: "change", summary: "Change how long a hold lasts.", ok: holdWire(), statuses: asked(), do: b.changeHold},
			{verb: logical.ReadOperation, summary: "Read a hold.", ok: holdWire(), statuses: []int{http.StatusNotFound}, do: b.readHold},
			{verb: logical.DeleteOperation, name: "lift", summary: "Lift a hold.", statuses: []int{http.StatusForbidden}, do: b.liftHold},
		},
	}}
}

func holdWire() []field {
	return []field{
		always(str("hold_id", "Id of the hold.")),
		always(str("kind", "person, role, target, ticket or all.")),
		always(str("value", "What it is about.")),
		always(str("reason", "Why.")),
		always(str("set_by", "Who set it.")),
		always(str("set_at", "When it was set.")),
		always(str("until", "When it ends by itself; empty = when it is lifted.")),
	}
}

func holdData(h domain.Hold) map[string]any {
	return map[string]any{
		"hold_id": h.ID, "kind": string(h.Kind), "value": domain.Printable(h.Value), "reason": domain.Printable(h.Reason),
		"set_by": domain.Printable(h.By), "set_at": stampOf(h.Set), "until": stampOf(h.Until),
	}
}

func (b *backend) listHolds(ctx context.Context, c *call) (*answer, error) {
	list, err := b.access.Holds(ctx)
	if err != nil {
		return nil, err
	}
	a := &answer{info: map[string]any{}}
	for _, h := range list {
		if h.ID <= c.String("after") || len(a.keys) >= c.Int("limit") {
			continue
		}
		a.keys = append(a.keys, h.ID)
		a.info[h.ID] = holdData(h)
	}
	return a, nil
}

func (b *backend) setHold(ctx context.Context, c *call) (*answer, error) {
	k, err := selectorOf(c)
	if err != nil {
		return nil, err
	}
	if c.Given("ttl") {
		ttl := c.Seconds("ttl")
		if ttl == 0 {
			return nil, errInput("ttl", "must be longer than zero")
		}
		k.Hold = &ttl
	}
	h, err := b.access.SetHold(ctx, caller(c), k)
	if err != nil {
		return nil, err
	}
	return &answer{data: holdData(h)}, nil
}

func (b *backend) changeHold(ctx context.Context, c *call) (*answer, error) {
	var e access.HoldEdit
	if c.Given("reason") {
		v := c.String("reason")
		e.Reason = &v
	}
	if c.Given("ttl") {
		v := c.Seconds("ttl")
		e.TTL = &v
		if v == 0 && !c.Cleared("ttl") {
			return nil, errInput("ttl", "must be longer than zero")
		}
	}
	h, err := b.access.ChangeHold(ctx, caller(c), c.Capture("id"), e)
	if err != nil {
		return nil, err
	}
	return &answer{data: holdData(h)}, nil
}

func (b *backend) readHold(ctx context.Context, c *call) (*answer, error) {
	h, err := b.access.Hold(ctx, c.Capture("id"))
	if err != nil || h == nil {
		return nil, err
	}
	return &answer{data: holdData(*h)}, nil
}

func (b *backend) liftHold(ctx context.Context, c *call) (*answer, error) {
	return nil, b.access.LiftHold(ctx, caller(c), c.Capture("id"))
}
