package pim

import (
	"context"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// configField ties a setting to its field, once for reading and writing.
type configField struct {
	field
	get func(domain.Config) any
	set func(*domain.Config, *call, string)
}

func configInt(name, desc string, at func(*domain.Config) *int) configField {
	return configField{
		field{name: name, typ: contract.TypeInt, desc: desc},
		func(c domain.Config) any { return *at(&c) },
		func(c *domain.Config, in *call, n string) { *at(c) = in.Int(n) },
	}
}

func configSeconds(name, desc string, at func(*domain.Config) *domain.Seconds) configField {
	return configField{
		field{name: name, typ: contract.TypeSeconds, desc: desc},
		func(c domain.Config) any { return int(*at(&c)) },
		func(c *domain.Config, in *call, n string) { *at(c) = in.Seconds(n) },
	}
}

func configFields() []configField {
	return []configField{
		{
			field{name: "person_key", typ: contract.TypeString, desc: "Entity metadata key under which entities are one person everywhere. Entities without it can neither request nor decide."},
			func(c domain.Config) any { return c.PersonKey },
			func(c *domain.Config, in *call, n string) { c.PersonKey = in.String(n) },
		},
		{
			field{name: "human_mounts", typ: contract.TypeStrings, desc: "Accessors of jwt and oidc mounts whose logins are people."},
			func(c domain.Config) any { return orEmpty(c.HumanMounts) },
			func(c *domain.Config, in *call, n string) { c.HumanMounts = in.Strings(n) },
		},
		{
			field{name: "min_revocation", typ: contract.TypeString, desc: "Weakest revocation class that a role may have: immediate, propagating or expiry_only."},
			func(c domain.Config) any { return string(c.MinRevocation) },
			func(c *domain.Config, in *call, n string) { c.MinRevocation = domain.Class(in.String(n)) },
		},
		configInt("max_open", "Open requests of this mount.", func(c *domain.Config) *int { return &c.MaxOpen }),
		configInt("person_max_open", "Open requests of one person.", func(c *domain.Config) *int { return &c.PersonMaxOpen }),
		configInt("machine_max_open", "Open requests of one machine.", func(c *domain.Config) *int { return &c.MachineMaxOpen }),
		configInt("issue_rate", "Credentials a minute for one person.", func(c *domain.Config) *int { return &c.IssueRate }),
		configInt("machine_issue_rate", "Credentials a minute for one machine.", func(c *domain.Config) *int { return &c.MachineIssueRate }),
		configInt("auto_request_per_day", "Requests that reads may file for one person in 24 hours.", func(c *domain.Config) *int { return &c.AutoRequestPerDay }),
		configSeconds("auto_request_cooldown", "How long after a refusal reads file no new request, and show the refusal.", func(c *domain.Config) *domain.Seconds { return &c.AutoRequestCooldown }),
		configSeconds("hold_ttl", "Life of the hold that the kill switch writes.", func(c *domain.Config) *domain.Seconds { return &c.HoldTTL }),
		configSeconds("retention_human", "How long closed requests of people are kept.", func(c *domain.Config) *domain.Seconds { return &c.RetentionHuman }),
		configSeconds("retention_auto", "How long closed requests that a role approved by itself are kept.", func(c *domain.Config) *domain.Seconds { return &c.RetentionAuto }),
		configSeconds("reap_interval", "How often the reaper looks; at most a minute.", func(c *domain.Config) *domain.Seconds { return &c.ReapInterval }),
		{
			field{name: "end_on_ineligible", typ: contract.TypeBool, desc: "End the access of people who are no longer eligible."},
			func(c domain.Config) any { return c.EndOnIneligible },
			func(c *domain.Config, in *call, n string) { c.EndOnIneligible = in.Bool(n) },
		},
		{
			field{name: "events", typ: contract.TypeStrings, desc: "Kinds of events in the feed beside those that always are: " + eventKindsText() + ". Each costs a write or two."},
			func(c domain.Config) any { return orEmpty(c.Events) },
			func(c *domain.Config, in *call, n string) { c.Events = in.Strings(n) },
		},
		{
			field{name: "edit_sod", typ: contract.TypeBool, desc: "Security edits of roles, targets and these settings wait until another person confirms them. Switching it takes two people too, on as well as off."},
			func(c domain.Config) any { return c.EditSOD },
			func(c *domain.Config, in *call, n string) { c.EditSOD = in.Bool(n) },
		},
	}
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (b *backend) configPaths() []path {
	var writable []field
	for _, f := range configFields() {
		writable = append(writable, f.field)
	}
	shown := append(append([]field(nil), writable...),
		integer("epoch", "How often rotate-epoch was written."),
		str("epoch_check", "ok, due (sealed for long, or restored from a copy: decide about rotate-epoch) or running."),
		texts("epoch_unfinished", "Targets that rotate-epoch has not finished with."),
		str("last_beat", "Last sign of life of the reaper."),
	)
	return []path{{
		pattern: "config", name: "config", help: "Settings of this mount.",
		description: "Defaults, limits and retention. A write changes the named fields only.",
		fields:      writable,
		ops: []op{
			{verb: logical.ReadOperation, summary: "Read the settings.", ok: append(slices.Clone(shown), proposedField()), do: b.readConfig},
			{verb: logical.UpdateOperation, summary: "Change settings.", ok: append(slices.Clone(shown), proposedWire()...), do: b.writeConfig},
		},
	}, {
		pattern: "rotate-epoch", name: "epoch", help: "Start afresh after a restore from a copy.",
		description: "Ends every outstanding request, revokes every credential on record, and stops issuing at each target until it is clean.",
		ops: []op{{
			verb: logical.UpdateOperation, name: "rotate", summary: "Start afresh after a restore.",
			ok: []field{always(integer("epoch", "The new epoch.")), always(integer("requests_ended", "Requests that are being ended.")), always(texts("epoch_unfinished", "Targets where nothing is issued until they are clean."))},
			do: b.rotateEpoch,
		}},
	}}
}

func (b *backend) readConfig(ctx context.Context, _ *call) (*answer, error) {
	cfg, st, err := b.access.Config(ctx)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"epoch": st.Epoch, "last_beat": stampOf(st.Beat), "epoch_check": "ok",
		"epoch_unfinished": orEmpty(contract.SortedKeys(st.Unswept)),
	}
	switch {
	case st.Draining:
		data["epoch_check"] = "running"
	case b.access.EpochDue(st):
		data["epoch_check"] = "due"
	}
	for _, f := range configFields() {
		data[f.name] = f.get(cfg)
	}
	if data["proposed"], err = b.access.Proposed(ctx, domain.EditConfig, ""); err != nil {
		return nil, err
	}
	return &answer{data: data}, nil
}

func (b *backend) writeConfig(ctx context.Context, c *call) (*answer, error) {
	eff, err := b.access.WriteConfig(ctx, caller(c), func(cfg *domain.Config) {
		for _, f := range configFields() {
			if c.Given(f.name) {
				f.set(cfg, c, f.name)
			}
		}
	}, access.EditOptions{})
	if err != nil {
		return nil, err
	}
	out, err := b.readConfig(ctx, c)
	if err == nil && eff.Proposed.Waits {
		proposedData(out.data, eff.Proposed)
		out.warnings = proposedWarning(eff.Proposed, nil)
	}
	return out, err
}

func (b *backend) rotateEpoch(ctx context.Context, c *call) (*answer, error) {
	st, n, err := b.access.RotateEpoch(ctx, caller(c))
	if err != nil {
		return nil, err
	}
	return &answer{data: map[string]any{
		"epoch": st.Epoch, "requests_ended": n, "epoch_unfinished": orEmpty(contract.SortedKeys(st.Unswept)),
	}}, nil
}
