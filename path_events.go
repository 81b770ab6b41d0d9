package pim

import (
	"context"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *backend) eventPaths() []path {
	name := nameCapture("consumer", "Name of the consumer.")
	return []path{{
		pattern: "events/?", name: "events", help: "What happened, in order.",
		description: "The feed of events: ids and no text of anybody. Pass the last id as after to go on; an event may come twice after a crash, with the same request and number. Kept for 7 days.",
		fields:      pageFields(),
		ops:         []op{{verb: logical.ListOperation, summary: "List what happened.", ok: listFields("kind, request, role, time, number and history head"), do: b.listEvents}},
	}, {
		pattern: "events/consumers/?", name: "event-consumers", help: "Who reads the events.",
		description: "The consumers of events and how far each has come.",
		fields:      pageFields(),
		ops:         []op{{verb: logical.ListOperation, summary: "List the consumers of events.", ok: listFields("cursor and time"), do: b.listConsumers}},
	}, {
		pattern: "events/consumers/" + segment("consumer"), name: "event-consumer", help: "How far a consumer has come.",
		description: "Writing says that everything up to an event was taken: emergencies among them then count as heard. The cursor never goes back.",
		captures:    []field{name},
		fields:      []field{{name: "cursor", typ: contract.TypeString, required: true, desc: "Id of the last event that was taken.", check: checkID}},
		ops: []op{
			{verb: logical.ReadOperation, summary: "See how far a consumer has come.", ok: consumerWire(), statuses: []int{http.StatusNotFound}, do: b.readConsumer},
			{verb: logical.UpdateOperation, name: "acknowledge", summary: "Say that events were taken.", ok: consumerWire(), statuses: []int{http.StatusForbidden}, do: b.acknowledge},
			{verb: logical.DeleteOperation, name: "forget", summary: "Forget a consumer.", do: b.forgetConsumer},
		},
	}}
}

func consumerWire() []field {
	return []field{
		always(str("consumer", "The consumer.")),
		always(str("cursor", "Id of the last event that it has taken.")),
		always(str("at", "When it said so.")),
	}
}

func consumerData(c domain.Consumer) map[string]any {
	return map[string]any{"consumer": c.Name, "cursor": c.Cursor, "at": stampOf(c.At)}
}

func (b *backend) listEvents(ctx context.Context, c *call) (*answer, error) {
	list, err := b.access.Events(ctx, c.String("after"), c.Int("limit"))
	if err != nil {
		return nil, err
	}
	a := &answer{info: map[string]any{}}
	for _, e := range list {
		a.keys = append(a.keys, e.ID)
		a.info[e.ID] = map[string]any{
			"kind": string(e.Kind), "request_id": string(e.Request), "role": e.Role, "break_glass": e.Glass,
			"at": stampOf(e.At), "number": e.N, "pim_history_head": e.Head,
		}
	}
	return a, nil
}

func (b *backend) listConsumers(ctx context.Context, c *call) (*answer, error) {
	list, err := b.access.Consumers(ctx)
	if err != nil {
		return nil, err
	}
	a := &answer{info: map[string]any{}}
	for _, x := range list {
		if x.Name > c.String("after") && len(a.keys) < c.Int("limit") {
			a.keys = append(a.keys, x.Name)
			a.info[x.Name] = consumerData(x)
		}
	}
	return a, nil
}

func (b *backend) readConsumer(ctx context.Context, c *call) (*answer, error) {
	x, err := b.access.Consumer(ctx, c.Capture("consumer"))
	if err != nil || x == nil {
		return nil, err
	}
	return &answer{data: consumerData(*x)}, nil
}

func (b *backend) acknowledge(ctx context.Context, c *call) (*answer, error) {
	x, err := b.access.Acknowledge(ctx, caller(c), c.Capture("consumer"), c.String("cursor"))
	if err != nil {
		return nil, err
	}
	return &answer{data: consumerData(x)}, nil
}

func (b *backend) forgetConsumer(ctx context.Context, c *call) (*answer, error) {
	return nil, b.access.ForgetConsumer(ctx, c.Capture("consumer"))
}

// eventKindsText names the kinds of events that the settings can add to those
// that are always kept.
func eventKindsText() string {
	var out []string
	for _, k := range domain.EventKinds() {
		if !k.AlwaysKept() {
			out = append(out, string(k))
		}
	}
	return strings.Join(out, ", ")
}
