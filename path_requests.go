package pim

import (
	"context"
	"maps"
	"net/http"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// askFields are what a request says; creds takes them too, as query
// parameters.
func askFields() []field {
	return []field{
		{name: "justification", typ: contract.TypeString, query: true, desc: "Why the access is needed; at most 2 KiB."},
		{name: "ticket", typ: contract.TypeString, query: true, desc: "Number of a ticket."},
		{name: "ttl", typ: contract.TypeSeconds, query: true, desc: "Length of the access window; the role's default when absent.", least: 1, most: int(domain.LimitTTL)},
		{name: "params", typ: contract.TypeMap, query: true, desc: "Parameters that the role declares, as name=value."},
	}
}

func askOf(c *call) access.Ask {
	a := access.Ask{Justification: c.String("justification"), Ticket: c.String("ticket"), Params: maps.Clone(c.Map("params"))}
	if c.Given("ttl") {
		ttl := c.Seconds("ttl")
		a.TTL = &ttl
	}
	return a
}

func (b *backend) requestPaths() []path {
	id := idCapture("request_id", "Id of the request.")
	return []path{{
		pattern: "request/" + segment("role"), name: "request",
		help:        "Ask for a role.",
		description: "Files a request, or answers with the same ask that is open already (existing=true).",
		captures:    []field{nameCapture("role", "Name of the role.")},
		fields: append(askFields(), field{
			name: "start_time", typ: typeTime, desc: "When the access window starts, at most 30 days ahead; as soon as approved when absent.",
		}, field{
			name: "series_count", typ: contract.TypeInt, least: 1, most: domain.LimitSeries, desc: "Asks for so many runs at once, where the role takes series; ttl is then the time they have.",
		}, field{
			name: "series_params", typ: typeMaps, desc: "Sets of parameters that the runs may have, as a JSON list of objects of strings; those of params when absent.",
		}),
		ops: []op{{
			verb: logical.UpdateOperation, name: "file", summary: "Ask for a role.", statuses: []int{http.StatusForbidden},
			ok: append(requestWire(), always(boolean("existing", "The same ask was open already."))),
			do: b.fileRequest,
		}},
	}, {
		pattern: "requests/mine/?", name: "my-requests", help: "Your requests.",
		description: "Your requests that are not archived yet, in the order in which they were filed.",
		fields:      pageFields(),
		ops: []op{{
			verb: logical.ListOperation, summary: "List your requests.", ok: listFields("role, who, state and times"),
			statuses: asked(), do: b.listMine(b.access.MyRequests),
		}},
	}, {
		pattern: "requests/" + segment("request_id") + "/wait", name: "request-change", help: "Wait until a request changes.",
		description: "Answers once the request has changed, or as it is after 25 seconds.",
		captures:    []field{id},
		ops: []op{{
			verb: logical.ReadOperation, name: "wait-for", summary: "Wait until a request changes.", ok: requestWire(), statuses: asked(),
			do: b.readView(b.access.Wait),
		}},
	}, {
		pattern: "requests/" + segment("request_id") + "/extend", name: "extension", help: "Ask for more time.",
		description: "For the requester of an active grant: a new decision over the same grant, never beyond the role's max_extension. The same ask while it waits changes nothing.",
		captures:    []field{id},
		fields: []field{
			{name: "ttl", typ: contract.TypeSeconds, required: true, desc: "How much longer.", least: 1, most: int(domain.LimitTTL)},
			{name: "justification", typ: contract.TypeString, desc: "Why; at most 2 KiB."},
		},
		ops: []op{{
			verb: logical.UpdateOperation, name: "extend", summary: "Ask for more time.", ok: requestWire(), statuses: asked(), do: b.extend,
		}},
	}, {
		pattern: "requests/" + segment("request_id"), name: "requests", help: "One request.",
		description: "For its requester, for who has decided on it, and for who can decide now. Deleting withdraws it, or gives an active grant back.",
		captures:    []field{id},
		ops: []op{
			{verb: logical.ReadOperation, summary: "Read one request.", ok: requestWire(), statuses: asked(), do: b.readView(b.access.Request)},
			{verb: logical.DeleteOperation, name: "cancel", summary: "Withdraw a request, or give a grant back.", ok: requestWire(), statuses: asked(), do: b.readView(b.access.Cancel)},
		},
	}}
}

func (b *backend) fileRequest(ctx context.Context, c *call) (*answer, error) {
	ask := askOf(c)
	ask.Start = c.Time("start_time")
	if c.Given("series_count") || c.Given("series_params") {
		ask.Series = &access.SeriesAsk{Count: c.Int("series_count"), Each: c.Maps("series_params")}
	}
	s, err := b.access.Submit(ctx, caller(c), c.Capture("role"), ask)
	if err != nil {
		return nil, err
	}
	data := requestData(s.View)
	data["existing"] = s.Existing
	return &answer{data: data}, nil
}

func (b *backend) extend(ctx context.Context, c *call) (*answer, error) {
	return b.readView(func(ctx context.Context, who access.Caller, id domain.RequestID) (access.RequestView, error) {
		return b.access.Extend(ctx, who, id, access.ExtendAsk{TTL: c.Seconds("ttl"), Justification: c.String("justification")})
	})(ctx, c)
}

// readView is an operation on one request that answers with its view.
func (b *backend) readView(do func(context.Context, access.Caller, domain.RequestID) (access.RequestView, error)) func(context.Context, *call) (*answer, error) {
	return func(ctx context.Context, c *call) (*answer, error) {
		id, err := domain.ParseRequestID(c.Capture("request_id"))
		if err != nil {
			return nil, err
		}
		v, err := do(ctx, caller(c), id)
		if err != nil {
			return nil, err
		}
		return &answer{data: requestData(v)}, nil
	}
}

// listMine is a list of the caller's own.
func (b *backend) listMine(do func(context.Context, access.Caller, string, int) (access.Page, error)) func(context.Context, *call) (*answer, error) {
	return func(ctx context.Context, c *call) (*answer, error) {
		p, err := do(ctx, caller(c), c.String("after"), c.Int("limit"))
		if err != nil {
			return nil, err
		}
		return pageAnswer(p), nil
	}
}
