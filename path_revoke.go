package pim

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func errAbsent() error { return fault.New(fault.Absent, fault.CodeInvalid, "no such thing", nil) }

// selectorFields name what a kill switch or a hold is about: exactly one.
func selectorFields() []field {
	return []field{
		{name: "entity_id", typ: contract.TypeString, desc: "A person, by any of their entities."},
		{name: "role", typ: contract.TypeString, desc: "A role."},
		{name: "target", typ: contract.TypeString, desc: "A target."},
		{name: "ticket", typ: contract.TypeString, desc: "A ticket."},
		{name: "all", typ: contract.TypeBool, desc: "Everything of this mount; with confirm=all."},
		{name: "confirm", typ: contract.TypeString, desc: "all, to mean everything."},
		{name: "reason", typ: contract.TypeString, desc: "Shown to the people concerned."},
	}
}

// selectorOf reads the one thing that was named.
func selectorOf(c *call) (access.Kill, error) {
	var p fault.Problems
	k := access.Kill{Reason: c.String("reason")}
	kinds := []struct {
		name string
		kind domain.HoldKind
	}{{"entity_id", domain.HoldPerson}, {"role", domain.HoldRole}, {"target", domain.HoldTarget}, {"ticket", domain.HoldTicket}}
	n := 0
	for _, x := range kinds {
		if v := c.String(x.name); v != "" {
			n++
			k.Kind, k.Value = x.kind, v
			if why := domain.CheckText(v, domain.MaxTicket); why != "" {
				p.Add(x.name, why)
			}
		}
	}
	if c.Bool("all") {
		n++
		k.Kind, k.Value = domain.HoldAll, ""
		if c.String("confirm") != "all" {
			p.Add("confirm", "must be all, to mean everything")
		}
	}
	if n != 1 {
		p.Add("entity_id", "name exactly one of entity_id, role, target, ticket, all")
	}
	if why := domain.CheckText(k.Reason, domain.MaxComment); why != "" {
		p.Add("reason", why)
	}
	return k, p.Err()
}

func (b *backend) revokePaths() []path {
	return []path{{
		pattern: "revoke", name: "kill-switch", help: "End everything of a person, role, target or ticket, now.",
		description: "First writes a hold, so that nothing new gets through, then ends everything in the background. Answers at once with a job.",
		fields: append(selectorFields(),
			field{name: "hold", typ: contract.TypeSeconds, desc: "Life of the hold; the mount's hold_ttl when absent, 0 for none.", most: int(domain.LimitTTL)}),
		ops: []op{{verb: logical.UpdateOperation, name: "pull", summary: "End everything of a person, role, target or ticket.", ok: jobWire(), do: b.kill}},
	}, {
		pattern: "revoke/" + segment("job"), name: "kill-switch-job", help: "How far a kill switch has come.",
		description: "The outcome, credential by credential.", captures: []field{idCapture("job", "Id of the job.")},
		ops: []op{{verb: logical.ReadOperation, summary: "See how far a kill switch has come.", ok: jobWire(), statuses: []int{http.StatusNotFound}, do: b.readJob}},
	}}
}

func jobWire() []field {
	return []field{
		always(str("job", "Id of the job.")),
		always(str("selector", "What it is about.")),
		str("hold_id", "The hold that was written; none with hold=0."),
		always(str("started_at", "When it was pulled.")),
		always(integer("requests", "Requests it concerns.")),
		always(integer("requests_ended", "Of them, those that have ended.")),
		always(integer("credentials_live", "Credentials that may still give access.")),
		always(integer("credentials_ended", "Credentials whose access the target has ended.")),
		always(boolean("done", "Nothing is left that may give access.")),
		always(texts("outcome", "One sentence for each credential, at most 1000; of a job over more than 1000 requests, for each that may still give access.")),
	}
}

func jobData(v access.JobView) map[string]any {
	outcome := make([]string, 0, len(v.Outcome))
	for _, o := range v.Outcome {
		s := string(o.Request) + " " + string(o.Credential) + " " + string(o.State)
		if o.Problem != "" {
			s += ", last try failed: " + o.Problem
		}
		outcome = append(outcome, s)
	}
	selector := string(v.Job.Selector.Kind)
	if v.Job.Selector.Value != "" {
		selector += " " + domain.Printable(v.Job.Selector.Value)
	}
	return map[string]any{
		"job": v.Job.ID, "selector": selector, "hold_id": v.Job.HoldID, "started_at": stampOf(v.Job.At),
		"requests": v.Requests, "requests_ended": v.Marked, "credentials_live": v.Live, "credentials_ended": v.Gone,
		"done": v.Job.Marked && v.Live == 0, "outcome": outcome,
	}
}

func (b *backend) kill(ctx context.Context, c *call) (*answer, error) {
	k, err := selectorOf(c)
	if err != nil {
		return nil, err
	}
	if c.Given("hold") {
		hold := c.Seconds("hold")
		k.Hold = &hold
	}
	v, err := b.access.Kill(ctx, caller(c), k)
	if err != nil {
		return nil, err
	}
	return &answer{data: jobData(v)}, nil
}

func (b *backend) readJob(ctx context.Context, c *call) (*answer, error) {
	v, err := b.access.KillJob(ctx, c.Capture("job"))
	if err != nil || v == nil {
		return nil, err
	}
	return &answer{data: jobData(*v)}, nil
}
