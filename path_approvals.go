package pim

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *backend) approvalPaths() []path {
	return []path{{
		pattern: "approvals/?", name: "approvals", help: "Requests that wait for your decision.",
		description: "The inbox of an approver: pending requests that the caller can decide on now.",
		fields:      pageFields(),
		ops: []op{{
			verb: logical.ListOperation, summary: "List the requests that wait for your decision.",
			ok: listFields("role, who, state and times"), statuses: asked(), do: b.listMine(b.access.Inbox),
		}},
	}, {
		pattern: "approvals/" + segment("request_id"), name: "approval", help: "Decide on one request.",
		description: "Reading shows exactly what is asked. Writing approves or denies it, bound to the digest of what was read.",
		captures:    []field{idCapture("request_id", "Id of the request.")},
		fields: []field{
			{name: "decision", typ: contract.TypeString, required: true, allowed: []string{string(domain.Approve), string(domain.Deny)}, desc: "approve or deny."},
			{name: "comment", typ: contract.TypeString, desc: "For the requester and other approvers; at most 2 KiB."},
			{name: "digest", typ: contract.TypeString, desc: "Digest of what was read; required to approve."},
			{name: "ttl", typ: contract.TypeSeconds, desc: "Shortens the access window.", least: 1, most: int(domain.LimitTTL)},
		},
		ops: []op{
			{verb: logical.ReadOperation, summary: "See what is asked.", ok: approvalWire(), statuses: asked(), do: b.readApproval},
			{verb: logical.UpdateOperation, name: "decide", summary: "Approve or deny.", ok: approvalWire(), statuses: asked(), do: b.decide},
		},
	}}
}

func (b *backend) readApproval(ctx context.Context, c *call) (*answer, error) {
	id, err := domain.ParseRequestID(c.Capture("request_id"))
	if err != nil {
		return nil, err
	}
	v, err := b.access.Approval(ctx, caller(c), id)
	if err != nil {
		return nil, err
	}
	return &answer{data: approvalData(v, b.access.Now())}, nil
}

func (b *backend) decide(ctx context.Context, c *call) (*answer, error) {
	id, err := domain.ParseRequestID(c.Capture("request_id"))
	if err != nil {
		return nil, err
	}
	d := access.Decision{Verdict: domain.Verdict(c.String("decision")), Comment: c.String("comment"), Digest: c.String("digest")}
	if c.Given("ttl") {
		ttl := c.Seconds("ttl")
		d.TTL = &ttl
	}
	v, err := b.access.Decide(ctx, caller(c), id, d)
	if err != nil {
		return nil, err
	}
	return &answer{data: approvalData(v, b.access.Now())}, nil
}
