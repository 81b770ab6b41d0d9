package pim

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) tidyPaths() []path {
	status := []field{
		always(boolean("running", "A run is under way.")),
		always(str("last_run", "End of the last run.")),
		always(integer("freed", "What the last run dropped.")),
	}
	return []path{{
		pattern: "tidy", name: "tidy", help: "Drop what is past its retention.",
		description: "Runs in the background; the reaper starts it by itself once an hour.",
		ops:         []op{{verb: logical.UpdateOperation, name: "start", summary: "Drop what is past its retention.", ok: status, do: b.tidy}},
	}, {
		pattern: "tidy-status", name: "tidy-status", help: "What the last run of tidy did.", description: "What the last run of tidy did.",
		ops: []op{{verb: logical.ReadOperation, summary: "See what the last run of tidy did.", ok: status, do: b.tidyStatus}},
	}}
}

func (b *backend) tidy(ctx context.Context, c *call) (*answer, error) {
	b.access.Tidy(ctx)
	return b.tidyStatus(ctx, c)
}

func (b *backend) tidyStatus(ctx context.Context, _ *call) (*answer, error) {
	s, err := b.access.TidyStatus(ctx)
	if err != nil {
		return nil, err
	}
	return &answer{data: map[string]any{"running": s.Running, "last_run": stampOf(s.At), "freed": s.Freed}}, nil
}
