package pim

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *backend) approvalPaths() []path {
	decision := []field{
		{name: "decision", typ: contract.TypeString, required: true, allowed: []string{string(domain.Approve), string(domain.Deny)}, desc: "approve or deny."},
		{name: "comment", typ: contract.TypeString, desc: "For the requester and other approvers; at most 2 KiB."},
		{name: "ttl", typ: contract.TypeSeconds, desc: "Shortens the access window.", least: 1, most: int(domain.LimitTTL)},
	}
	return []path{{
		pattern: "approvals/bulk", name: "approvals-bulk", help: "Decide on several requests at once.",
		description: "The same decision on several requests, each bound to its own digest and decided as if alone: one that is refused does not stop the others. After 15 s those that are left are refused as busy, with nothing decided on them: send them again.",
		fields: append(slices.Clone(decision), field{
			name: "requests", typ: contract.TypeMap, required: true, checkMap: checkBulk,
			desc: "Ids of the requests, each with the digest of what was read; at most 50.",
		}),
		ops: []op{{
			verb: logical.UpdateOperation, name: "decide-on", summary: "Approve or deny several requests.", statuses: []int{http.StatusForbidden},
			ok: []field{
				always(integer("decided", "Requests that were decided on.")),
				always(integer("refused", "Requests that nothing was decided on.")),
				always(texts("outcome", "What became of each request, as sentences.")),
			},
			do: b.decideMany,
		}},
	}, {
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
		fields: append(slices.Clone(decision), field{
			name: "digest", typ: contract.TypeString, desc: "Digest of what was read; required to approve.",
		}),
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

func checkBulk(m map[string]string) string {
	if len(m) > access.MaxBulk {
		return fmt.Sprintf("has more than %d requests", access.MaxBulk)
	}
	for id := range m {
		if _, err := domain.ParseRequestID(id); err != nil {
			return "has a key that is not a request id"
		}
	}
	return ""
}

func (b *backend) decideMany(ctx context.Context, c *call) (*answer, error) {
	d := access.BulkDecision{
		Decision: access.Decision{Verdict: domain.Verdict(c.String("decision")), Comment: c.String("comment")},
		Digests:  map[domain.RequestID]string{},
	}
	if c.Given("ttl") {
		ttl := c.Seconds("ttl")
		d.TTL = &ttl
	}
	var ids []domain.RequestID
	requests := c.Map("requests")
	for _, s := range slices.Sorted(maps.Keys(requests)) {
		id, err := domain.ParseRequestID(s)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
		d.Digests[id] = requests[s]
	}
	done, err := b.access.DecideMany(ctx, caller(c), d, ids)
	if err != nil {
		return nil, err
	}
	var outcome []string
	refused := 0
	for _, one := range done {
		if one.Problem != nil {
			refused++
			outcome = append(outcome, string(one.Request)+" refused: "+fault.From(one.Problem).Public)
			continue
		}
		outcome = append(outcome, fmt.Sprintf("%s is %s with %d of %d approvals", one.Request, one.State, one.Have, one.Need))
	}
	return &answer{data: map[string]any{"decided": len(done) - refused, "refused": refused, "outcome": orEmpty(outcome)}}, nil
}
