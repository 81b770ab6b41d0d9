package pim

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *backend) orphanPaths() []path {
	return []path{{
		pattern: "orphans/?", name: "orphans", help: "What exists at targets with our tag and on no record.",
		description: "The outcome of the last sweep of each target. Empty until orphans/sweep was written.",
		fields:      pageFields(),
		ops: []op{{
			verb: logical.ListOperation, summary: "List what the last sweeps found.",
			ok: listFields("what each of them is"), do: b.listOrphans,
		}},
	}, {
		pattern: "orphans/sweep", name: "orphans-sweep", help: "Look for what carries our tag and is on no record.",
		description: "Runs in the background, one sweep at a time. Nothing is listed that is on record, or younger than ten minutes. " +
			"Without end nothing is changed.",
		fields: []field{
			{name: "target", typ: contract.TypeString, desc: "Sweep this target only; every target when absent.", check: checkName},
			{name: "end", typ: contract.TypeBool, desc: "End what an earlier sweep has listed and this one finds again. What it finds for the first time is only listed."},
		},
		ops: []op{
			{verb: logical.UpdateOperation, name: "start", summary: "Look for orphans.", ok: sweepWire(), do: b.sweepOrphans},
			{verb: logical.ReadOperation, name: "read", summary: "See how far the last sweep has come.", ok: sweepWire(), do: b.sweepStatus},
		},
	}, {
		pattern: "orphans/" + segment("id"), name: "orphan", help: "One thing that is on no record.",
		description: "As the last sweep of its target found it.",
		captures:    []field{idCapture("id", "Id of the credential that its tag names.")},
		ops: []op{{
			verb: logical.ReadOperation, summary: "Read an orphan.", ok: orphanWire(), statuses: []int{http.StatusNotFound}, do: b.readOrphan,
		}},
	}}
}

func orphanWire() []field {
	return []field{
		always(str("credential_id", "Id of the credential that its tag names.")),
		always(str("target", "The target.")),
		always(str("request_id", "The request that its tag names; empty = none.")),
		always(str("what", "What it is there: kind and name.")),
		always(str("planned_at", "When a credential of that id was planned.")),
		always(str("found_at", "When a sweep first listed it.")),
		always(str("access_ended_at", "When a sweep ended its access; empty = it may give access.")),
		always(str("clear_after", "When a sweep with end=true can clear away what is left of it; empty = at once.")),
		always(str("problem", "Why the last try to end it failed, as the target's code; empty = it did not.")),
	}
}

func orphanData(o domain.Orphan) map[string]any {
	return map[string]any{
		"credential_id": string(o.Credential), "target": o.Target, "request_id": string(o.Request), "what": domain.Printable(o.What),
		"planned_at": stampOf(domain.TimeOf(string(o.Credential))), "found_at": stampOf(o.FoundAt),
		"access_ended_at": stampOf(o.EndedAt), "clear_after": stampOf(o.Due), "problem": o.Problem,
	}
}

func sweepWire() []field {
	return []field{
		always(boolean("running", "A sweep is under way.")),
		always(integer("orphans", "Orphans that are listed now.")),
		always(boolean("failed", "A target could not be swept; its list is that of an earlier sweep.")),
		always(texts("targets", "The last sweep of each target, a sentence each.")),
	}
}

func sweepData(s access.SweepStatus) map[string]any {
	targets := make([]string, 0, len(s.Targets))
	failed := false
	for _, t := range s.Targets {
		failed = failed || t.State == access.SweepFailed || t.State == access.SweepInterrupted
		targets = append(targets, sweepSentence(t))
	}
	return map[string]any{"running": s.Running, "orphans": len(s.Orphans), "failed": failed, "targets": targets}
}

func sweepSentence(t access.SweptTarget) string {
	s := t.Target + ": " + string(t.State)
	switch t.State {
	case access.SweepRunning, access.SweepInterrupted:
		return s + " since " + stampOf(t.Begun)
	case access.SweepFailed:
		return s + " " + stampOf(t.Done) + ", " + t.Problem
	case access.SweepDone:
		return fmt.Sprintf("%s %s, %d found, %d ended", s, stampOf(t.Done), t.Found, t.Ended)
	case access.SweepNoList:
	}
	return s
}

func (b *backend) sweepOrphans(ctx context.Context, c *call) (*answer, error) {
	if c.Cleared("target") { // a script's empty variable does not mean every target
		return nil, errInput("target", "must not be empty; leave it out to sweep every target")
	}
	s, err := b.access.Sweep(ctx, access.SweepAsk{Target: c.String("target"), End: c.Bool("end")})
	if err != nil {
		return nil, err
	}
	return &answer{data: sweepData(s)}, nil
}

func (b *backend) sweepStatus(ctx context.Context, _ *call) (*answer, error) {
	s, err := b.access.Orphans(ctx)
	if err != nil {
		return nil, err
	}
	return &answer{data: sweepData(s)}, nil
}

func (b *backend) listOrphans(ctx context.Context, c *call) (*answer, error) {
	s, err := b.access.Orphans(ctx)
	if err != nil {
		return nil, err
	}
	a := &answer{info: map[string]any{}}
	for _, o := range s.Orphans {
		id := string(o.Credential)
		if id <= c.String("after") || len(a.keys) >= c.Int("limit") || slices.Contains(a.keys, id) {
			continue
		}
		a.keys = append(a.keys, id)
		a.info[id] = orphanData(o)
	}
	return a, nil
}

func (b *backend) readOrphan(ctx context.Context, c *call) (*answer, error) {
	o, err := b.access.Orphan(ctx, c.Capture("id"))
	if err != nil || o == nil {
		return nil, err
	}
	return &answer{data: orphanData(*o)}, nil
}
