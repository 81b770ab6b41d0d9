package pim

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// proposedField is on everything that edit_sod covers.
func proposedField() field {
	return boolean("proposed", "An edit waits for another person to confirm it, and is not in force.")
}

// proposedWire is what a write says of an edit that waits.
func proposedWire() []field {
	return []field{
		proposedField(),
		str("proposal_digest", "What the confirmation names."),
		str("proposal_expires_at", "When the proposal lapses."),
		command("next", "The command with which another person confirms it."),
	}
}

func proposedData(data map[string]any, p access.Proposed) {
	data["proposed"], data["proposal_digest"] = p.Waits, p.Digest
	data["proposal_expires_at"], data["next"] = stampOf(p.Expires), p.Next
}

// proposedWarning says what a write of Terraform and the like would not notice.
func proposedWarning(p access.Proposed, warnings []string) []string {
	if p.Waits {
		warnings = append(warnings, "not in force: another person has to confirm this edit")
	}
	return warnings
}

func (b *backend) confirmPaths() []path {
	return []path{
		b.confirmPath("config/confirm", "config-confirm", domain.EditConfig, nil),
		b.confirmPath("roles/"+segment("name")+"/confirm", "role-confirm", domain.EditRole, []field{nameCapture("name", "Name of the role.")}),
		b.confirmPath("targets/"+segment("name")+"/confirm", "target-confirm", domain.EditTarget, []field{nameCapture("name", "Name of the target.")}),
		b.revokeAllPath("roles/"+segment("name")+"/revoke", "role-grants", domain.HoldRole, nameCapture("name", "Name of the role.")),
		b.revokeAllPath("targets/"+segment("name")+"/revoke", "target-grants", domain.HoldTarget, nameCapture("name", "Name of the target.")),
	}
}

func (b *backend) confirmPath(pattern, name string, kind domain.EditKind, captures []field) path {
	on := func(c *call) string {
		if captures == nil {
			return ""
		}
		return c.Capture("name")
	}
	return path{
		pattern: pattern, name: name, help: "An edit that waits for another person.",
		description: "With edit_sod, a security edit is in force only when another human being has confirmed it with its digest. Deleting withdraws it.",
		captures:    captures,
		fields: []field{
			{name: "digest", typ: contract.TypeString, required: true, desc: "The digest of the proposed edit, as it was read."},
			{name: "live", typ: contract.TypeString, allowed: []string{string(access.LiveKeep), string(access.LiveRevoke)}, desc: "What happens to live credentials, where the proposal does not say."},
		},
		ops: []op{
			{verb: logical.ReadOperation, summary: "Read an edit that waits.", ok: proposalWire(), statuses: []int{http.StatusNotFound}, takes: []string{}, do: func(ctx context.Context, c *call) (*answer, error) {
				v, err := b.access.Proposal(ctx, kind, on(c))
				if err != nil || v == nil {
					return nil, err
				}
				return &answer{data: proposalData(*v)}, nil
			}},
			{verb: logical.UpdateOperation, name: "confirm", summary: "Put another person's edit in force.", ok: append([]field{always(boolean("confirmed", "It is in force."))}, effectWire()...), statuses: []int{http.StatusForbidden, http.StatusNotFound}, do: func(ctx context.Context, c *call) (*answer, error) {
				eff, err := b.access.Confirm(ctx, caller(c), kind, on(c), access.Confirmation{Digest: c.String("digest"), Live: access.Live(c.String("live"))})
				if err != nil {
					return nil, err
				}
				data := map[string]any{"confirmed": true}
				effectData(data, eff, false)
				return &answer{data: data}, nil
			}},
			{verb: logical.DeleteOperation, name: "withdraw", summary: "Withdraw an edit that waits.", takes: []string{}, do: func(ctx context.Context, c *call) (*answer, error) {
				return nil, b.access.Withdraw(ctx, kind, on(c))
			}},
		},
	}
}

func proposalWire() []field {
	return []field{
		always(str("operation", "create, change or delete.")),
		always(texts("changes", "Every field that changes, with its value before and after; secrets by name alone.")),
		always(str("who", "Who proposed it.")),
		always(boolean("machine", "The proposal comes from a machine or a token without identity.")),
		always(str("proposed_at", "When it was proposed.")),
		always(str("expires_at", "When it lapses.")),
		str("live", "What it does to live credentials."),
		always(boolean("stale", "What it changes was changed since: it can only be withdrawn.")),
		always(str("digest", "What the confirmation names.")),
		command("next", "The command that comes next."),
	}
}

func proposalData(v access.ProposalView) map[string]any {
	p, operation := v.Proposal, "change"
	switch {
	case p.Deletes():
		operation = "delete"
	case p.Creates():
		operation = "create"
	}
	changes := []string{}
	shown := func(s string) string {
		if s == "" {
			return "(not set)"
		}
		return domain.Printable(s)
	}
	for _, x := range p.Changes() {
		changes = append(changes, domain.Printable(x.Field)+": "+shown(x.From)+" -> "+shown(x.To))
	}
	for _, name := range p.Secrets {
		changes = append(changes, domain.Printable(name)+": a secret, given with the edit and not shown")
	}
	return map[string]any{
		"operation": operation, "changes": changes, "who": domain.Printable(p.By.Name), "machine": p.By.Machine || p.By.Entity == "",
		"proposed_at": stampOf(p.At), "expires_at": stampOf(p.Expires), "live": p.Live, "stale": v.Stale, "digest": v.Digest, "next": v.Next,
	}
}

func (b *backend) revokeAllPath(pattern, name string, kind domain.HoldKind, capture field) path {
	return path{
		pattern: pattern, name: name, help: "End everything of one " + string(kind) + ", now.",
		description: "The kill switch for this " + string(kind) + " alone, so that a policy can hand it to whoever answers for it.",
		captures:    []field{capture},
		fields: []field{
			{name: "reason", typ: contract.TypeString, required: true, desc: "Shown to the people concerned.", check: func(s string) string {
				if s == "" {
					return "must say why"
				}
				return domain.CheckText(s, domain.MaxComment)
			}},
			holdField(),
		},
		ops: []op{{
			verb: logical.UpdateOperation, name: "revoke", summary: "End everything of one " + string(kind) + ".", ok: jobWire(), statuses: []int{http.StatusNotFound},
			do: func(ctx context.Context, c *call) (*answer, error) {
				k := access.Kill{Kind: kind, Value: c.Capture("name"), Reason: c.String("reason")}
				if c.Given("hold") {
					hold := c.Seconds("hold")
					k.Hold = &hold
				}
				v, err := b.access.RevokeAll(ctx, caller(c), k)
				if err != nil {
					return nil, err
				}
				return &answer{data: jobData(v)}, nil
			},
		}},
	}
}

// holdField is the life of the hold that comes with an end of everything.
func holdField() field {
	return field{name: "hold", typ: contract.TypeSeconds, desc: "Life of the hold; the mount's hold_ttl when absent, 0 for none.", most: int(domain.LimitTTL)}
}

// listInfo is what a list says beside its keys.
func listInfo(p access.Page) map[string]any {
	out := map[string]any{}
	for k, v := range p.Info {
		out[k] = v
	}
	return out
}
