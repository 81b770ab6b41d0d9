package pim

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

func (b *backend) targetPaths(provider []field) []path {
	core := []field{
		{name: "type", typ: contract.TypeString, desc: "Type of the target; it never changes."},
		{name: "description", typ: contract.TypeString, desc: "For people."},
		{name: "allowed_roles", typ: contract.TypeStrings, desc: "Names of roles that may use it, with * for any characters; empty = all."},
		{name: "max_live", typ: contract.TypeInt, desc: "Live credentials at most; 0 = no bound."},
	}
	writable := append(core, provider...)
	shown := []field{
		always(str("name", "The target's name.")), str("place", "Which place it is, as it proved itself."),
		texts("secrets_set", "Secret fields that have a value."), integer("live", "Live credentials."), str("rotated_at", "When the root credential was rotated."),
	}
	for _, f := range writable {
		if !f.sensitive {
			shown = append(shown, f)
		}
	}
	name := nameCapture("name", "Name of the target.")
	gone := []int{http.StatusNotFound}
	return []path{{
		pattern: "targets/?", name: "targets", help: "Places where credentials are made.", description: "Names of all targets.", fields: pageFields(),
		ops: []op{{verb: logical.ListOperation, summary: "List targets.", ok: listFields("proposed: an edit of it waits; in_force: false when it is only proposed"), do: b.listTargets}},
	}, {
		pattern: "targets/" + segment("name") + "/check", name: "target-check", help: "Who we are at a target, and what is missing there.",
		description: "Asks the target, at most once a minute.", captures: []field{name},
		ops: []op{{verb: logical.ReadOperation, name: "read", summary: "Check a target.", ok: checkWire(), statuses: gone, do: b.checkTarget}},
	}, {
		pattern: "targets/" + segment("name") + "/rotate-root", name: "target-root", help: "Replace a target's root credential.",
		description: "In two phases: the new one is on record and proven before the old one dies.", captures: []field{name},
		ops: []op{{verb: logical.UpdateOperation, name: "rotate", summary: "Replace a target's root credential.", ok: shown, statuses: gone, do: b.rotateRoot}},
	}, {
		pattern: "targets/" + segment("name"), name: "target", help: "One place where credentials are made.",
		description: "A write changes the named fields only; an empty value clears one. One that changes where or to whom we speak must carry the secret again.",
		captures:    []field{name},
		fields:      append(writable, editFields()...),
		ops: []op{
			{verb: logical.ReadOperation, summary: "Read a target, without its secrets.", ok: append(slices.Clone(shown), proposedField()), statuses: gone, do: b.readTarget, takes: []string{}},
			{verb: logical.UpdateOperation, summary: "Create or change a target.", ok: append(slices.Clone(shown), effectWire()...), do: b.writeTarget},
			{verb: logical.DeleteOperation, summary: "Delete a target that nothing uses.", ok: append([]field{always(boolean("dry_run", "Nothing was changed."))}, proposedWire()...), do: b.deleteTarget, takes: []string{"dry_run"}},
		},
	}}
}

func checkWire() []field {
	return []field{
		always(str("place", "Which place the target proved to be.")),
		always(str("identity", "Who we are there.")),
		always(texts("missing", "Permissions that the roles in use need and we lack.")),
		always(texts("unknown", "What could not be found out.")),
		always(field{name: "quotas", typ: contract.TypeMap, desc: "Quotas used, by name."}),
		always(texts("direct_access", "What opens what the roles hand out past pim: policies of the host that were there before, and still are.")),
		always(texts("direct_access_unknown", "Of that, what could not be found out.")),
		always(str("required_policy", "The minimal policy for the roles in use, ready to paste.")),
	}
}

func (b *backend) listTargets(ctx context.Context, c *call) (*answer, error) {
	p, err := b.access.TargetList(ctx, c.String("after"), c.Int("limit"))
	if err != nil {
		return nil, err
	}
	return &answer{keys: p.Keys, info: listInfo(p)}, nil
}

func (b *backend) targetData(v *access.TargetView) map[string]any {
	data := map[string]any{
		"name": v.Target.Name, "type": v.Target.Type, "description": v.Target.Description, "place": v.Target.Place,
		"allowed_roles": orEmpty(v.Target.AllowedRoles), "max_live": v.Target.MaxLive, "secrets_set": orEmpty(v.SecretsSet),
		"live": v.Live, "rotated_at": stampOf(v.Target.RotatedAt),
	}
	for _, d := range b.descriptors {
		if d.Type == v.Target.Type {
			fieldData(data, d.TargetFields, v.Fields)
		}
	}
	return data
}

func (b *backend) readTarget(ctx context.Context, c *call) (*answer, error) {
	v, err := b.access.ReadTarget(ctx, c.Capture("name"))
	if err != nil || v == nil {
		return nil, err
	}
	data := b.targetData(v)
	if data["proposed"], err = b.access.Proposed(ctx, domain.EditTarget, v.Target.Name); err != nil {
		return nil, err
	}
	return &answer{data: data}, nil
}

func (b *backend) writeTarget(ctx context.Context, c *call) (*answer, error) {
	var e access.TargetEdit
	if c.Given("type") {
		v := c.String("type")
		e.Type = &v
	}
	if c.Given("description") {
		v := c.String("description")
		e.Description = &v
	}
	if c.Given("allowed_roles") {
		v := c.Strings("allowed_roles")
		e.AllowedRoles = &v
	}
	if c.Given("max_live") {
		v := c.Int("max_live")
		e.MaxLive = &v
	}
	e.Set, e.Clear = b.providerValues(c, func(d contract.Descriptor) []contract.Field { return d.TargetFields })
	e.Secrets = b.providerSecrets(c)
	v, err := b.access.WriteTarget(ctx, caller(c), c.Capture("name"), e, editOptions(c))
	if err != nil {
		return nil, err
	}
	data := b.targetData(v)
	effectData(data, v.Effect, c.Bool("dry_run"))
	return &answer{data: data, warnings: proposedWarning(v.Effect.Proposed, v.Warnings)}, nil
}

// providerSecrets picks the secret fields that were sent; a cleared one comes
// as an empty secret.
func (b *backend) providerSecrets(c *call) map[string]secret.String {
	out := map[string]secret.String{}
	for _, d := range b.descriptors {
		set, cleared := c.Secrets(d.TargetFields)
		maps.Copy(out, set)
		for _, k := range cleared {
			out[k] = secret.String{}
		}
	}
	return out
}

func (b *backend) deleteTarget(ctx context.Context, c *call) (*answer, error) {
	eff, err := b.access.DeleteTarget(ctx, caller(c), c.Capture("name"), editOptions(c))
	if err != nil {
		return nil, err
	}
	data := map[string]any{"dry_run": c.Bool("dry_run")}
	proposedData(data, eff.Proposed)
	return &answer{data: data, warnings: proposedWarning(eff.Proposed, nil)}, nil
}

func (b *backend) checkTarget(ctx context.Context, c *call) (*answer, error) {
	r, place, err := b.access.CheckTarget(ctx, c.Capture("name"))
	if err != nil || r == nil {
		return nil, err
	}
	quotas := map[string]any{}
	for k, v := range r.Quotas {
		quotas[k] = v
	}
	return &answer{data: map[string]any{
		"place": place, "identity": domain.Printable(r.Identity), "missing": orEmpty(r.Missing), "unknown": orEmpty(r.Unknown),
		"quotas": quotas, "required_policy": r.RequiredPolicy,
		"direct_access": printables(r.Direct), "direct_access_unknown": printables(r.DirectUnknown),
	}, warnings: r.Warnings}, nil
}

// printables shows texts that hold names of somebody else's.
func printables(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, domain.Printable(s))
	}
	return out
}

func (b *backend) rotateRoot(ctx context.Context, c *call) (*answer, error) {
	v, err := b.access.RotateRoot(ctx, c.Capture("name"))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, errAbsent()
	}
	return &answer{data: b.targetData(v)}, nil
}
