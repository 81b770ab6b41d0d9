package pim

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// auditPaths show everything, under a prefix of their own so that no
// requester's policy covers it: ACL alone decides.
func (b *backend) auditPaths() []path {
	var out []path
	for _, kind := range []string{"requests", "grants"} {
		grants := kind == "grants"
		out = append(out, path{
			pattern: "audit/" + kind + "/?", name: "audit-" + kind, help: "Everybody's " + kind + ".",
			description: "For auditors: all " + kind + ", archived ones included.",
			fields:      pageFields(),
			ops: []op{{
				verb: logical.ListOperation, summary: "List everybody's " + kind + ".", ok: listFields(""),
				do: func(ctx context.Context, c *call) (*answer, error) {
					keys, err := b.access.AuditList(ctx, grants, c.String("after"), c.Int("limit"))
					if err != nil {
						return nil, err
					}
					return &answer{keys: keys}, nil
				},
			}},
		}, path{
			pattern: "audit/" + kind + "/" + segment("request_id"), name: "audit-" + kind[:len(kind)-1], help: "Anybody's request.",
			description: "For auditors: one request with its decisions, credentials and history.",
			captures:    []field{idCapture("request_id", "Id of the request.")},
			ops: []op{{
				verb: logical.ReadOperation, summary: "Read anybody's request.", ok: requestWire(), statuses: []int{http.StatusNotFound},
				do: func(ctx context.Context, c *call) (*answer, error) {
					id, err := domain.ParseRequestID(c.Capture("request_id"))
					if err != nil {
						return nil, err
					}
					v, err := b.access.AuditRequest(ctx, id, grants)
					if err != nil {
						return nil, err
					}
					return &answer{data: requestData(v)}, nil
				},
			}},
		})
	}
	return out
}
