package pim

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// roleField ties a core field of a role to its place, once for reading and
// writing.
type roleField struct {
	field
	get func(*domain.Role) any
	set func(*domain.Role, *call, string)
}

func roleString(name, desc string, at func(*domain.Role) *string) roleField {
	return roleField{
		field{name: name, typ: contract.TypeString, desc: desc},
		func(r *domain.Role) any { return *at(r) },
		func(r *domain.Role, c *call, n string) { *at(r) = c.String(n) },
	}
}

func roleList(name, desc string, at func(*domain.Role) *[]string) roleField {
	return roleField{
		field{name: name, typ: contract.TypeStrings, desc: desc},
		func(r *domain.Role) any { return orEmpty(*at(r)) },
		func(r *domain.Role, c *call, n string) { *at(r) = c.Strings(n) },
	}
}

func roleSeconds(name, desc string, at func(*domain.Role) *domain.Seconds) roleField {
	return roleField{
		field{name: name, typ: contract.TypeSeconds, desc: desc},
		func(r *domain.Role) any { return int(*at(r)) },
		func(r *domain.Role, c *call, n string) { *at(r) = c.Seconds(n) },
	}
}

func roleInt(name, desc string, at func(*domain.Role) *int) roleField {
	return roleField{
		field{name: name, typ: contract.TypeInt, desc: desc},
		func(r *domain.Role) any { return *at(r) },
		func(r *domain.Role, c *call, n string) { *at(r) = c.Int(n) },
	}
}

func roleBool(name, desc string, at func(*domain.Role) *bool) roleField {
	return roleField{
		field{name: name, typ: contract.TypeBool, desc: desc},
		func(r *domain.Role) any { return *at(r) },
		func(r *domain.Role, c *call, n string) { *at(r) = c.Bool(n) },
	}
}

// roleFields are all core fields of a role, in the order in which they are shown.
func roleFields() []roleField {
	return slices.Concat(
		coreFields(),
		policyFields(),
		stepUpFields(),
		breakGlassFields(),
	)
}

func coreFields() []roleField {
	return []roleField{
		roleString("target", "Where credentials are made.", func(r *domain.Role) *string { return &r.Target }),
		roleString("description", "For people.", func(r *domain.Role) *string { return &r.Description }),
		roleString("owner", "Who answers for the role.", func(r *domain.Role) *string { return &r.Owner }),
		{
			field{name: "labels", typ: contract.TypeMap, desc: "For people and reports."},
			func(r *domain.Role) any { return orEmptyMap(r.Labels) },
			func(r *domain.Role, c *call, n string) { r.Labels = maps.Clone(c.Map(n)) },
		},
		roleList("eligible_groups", "Groups whose members may request, by id, or by name which is pinned to its id at the first match.", func(r *domain.Role) *[]string { return &r.EligibleGroups }),
		roleList("eligible_entities", "Entities that may request: ids, or alias:<mount accessor>/<name>.", func(r *domain.Role) *[]string { return &r.EligibleEntities }),
		roleInt("approvals", "Approvals needed, each by another person.", func(r *domain.Role) *int { return &r.Approvals }),
		roleBool("auto_approve", "The role approves by itself; then it has no approvers.", func(r *domain.Role) *bool { return &r.AutoApprove }),
		roleList("approver_groups", "Groups whose members may decide.", func(r *domain.Role) *[]string { return &r.ApproverGroups }),
		roleList("approver_entities", "Entities that may decide.", func(r *domain.Role) *[]string { return &r.ApproverEntities }),
		roleSeconds("ttl", "Default access window.", func(r *domain.Role) *domain.Seconds { return &r.TTL }),
		roleSeconds("max_ttl", "Longest access window.", func(r *domain.Role) *domain.Seconds { return &r.MaxTTL }),
		roleInt("series_max", "Runs that one approval of a series may cover; 0 = no series.", func(r *domain.Role) *int { return &r.SeriesMax }),
		roleSeconds("series_within", "Longest window of a series.", func(r *domain.Role) *domain.Seconds { return &r.SeriesWithin }),
		roleSeconds("max_extension", "Time that extensions may add to a window in all; 0 = none.", func(r *domain.Role) *domain.Seconds { return &r.MaxExtension }),
		roleSeconds("lease_ttl", "Longest lease of one credential; 0 = the window.", func(r *domain.Role) *domain.Seconds { return &r.LeaseTTL }),
		roleSeconds("request_ttl", "How long a request waits for decisions.", func(r *domain.Role) *domain.Seconds { return &r.RequestTTL }),
		roleSeconds("min_ttl", "Shortest lease that is still worth issuing.", func(r *domain.Role) *domain.Seconds { return &r.MinTTL }),
		roleSeconds("reuse_window", "Within it, reads share one credential; at most 5m, 0 = never.", func(r *domain.Role) *domain.Seconds { return &r.ReuseWindow }),
		roleSeconds("wrap_ttl", "Always answer wrapped, for this long; 0 = as the caller asks.", func(r *domain.Role) *domain.Seconds { return &r.WrapTTL }),
		roleString("start", "When the window starts: approval or first_read.", func(r *domain.Role) *string { return &r.Start }),
		roleSeconds("claim_within", "With start=first_read: how long the first read may take.", func(r *domain.Role) *domain.Seconds { return &r.ClaimWithin }),
		roleInt("max_active", "Open requests of one person for this role.", func(r *domain.Role) *int { return &r.MaxActive }),
		roleInt("max_credentials", "Live credentials of one grant; at most 32.", func(r *domain.Role) *int { return &r.MaxCredentials }),
		roleBool("require_justification", "A request must say why.", func(r *domain.Role) *bool { return &r.RequireJustification }),
		roleString("justification_pattern", "RE2 pattern, anchored, that a justification must match.", func(r *domain.Role) *string { return &r.JustificationPattern }),
		roleBool("require_ticket", "A request must name a ticket.", func(r *domain.Role) *bool { return &r.RequireTicket }),
		roleString("ticket_pattern", "RE2 pattern, anchored, that a ticket must match.", func(r *domain.Role) *string { return &r.TicketPattern }),
		roleBool("auto_request", "A read without a grant files one request.", func(r *domain.Role) *bool { return &r.AutoRequest }),
		roleBool("auto_request_again", "It also does after an earlier one ended or expired.", func(r *domain.Role) *bool { return &r.AutoRequestAgain }),
		{
			field{name: "params", typ: typeObjects, desc: "Parameters of a request: name to what it may be.", members: paramMembers()},
			func(r *domain.Role) any { return paramsOut(r.Params) },
			func(r *domain.Role, c *call, n string) { r.Params = paramsIn(c.Objects(n)) },
		},
		{
			field{name: "min_revocation", typ: contract.TypeString, desc: "Weakest revocation class that this role may have."},
			func(r *domain.Role) any { return string(r.MinRevocation) },
			func(r *domain.Role, c *call, n string) { r.MinRevocation = domain.Class(c.String(n)) },
		},
		roleBool("composite", "Always add single-line composites such as a kubeconfig.", func(r *domain.Role) *bool { return &r.Composite }),
	}
}

func orEmptyMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func paramMembers() []field {
	return []field{
		{name: "pattern", typ: contract.TypeString, desc: "RE2 pattern, anchored."},
		{name: "allowed", typ: contract.TypeStrings, desc: "Closed list of values."},
		{name: "required", typ: contract.TypeBool, desc: "A request must give it."},
		{name: "default", typ: contract.TypeString, desc: "Value when it is not given."},
		{name: "sensitive", typ: contract.TypeBool, desc: "Shown as a hash."},
	}
}

func paramsIn(in map[string]*input) map[string]domain.Param {
	out := make(map[string]domain.Param, len(in))
	for name, p := range in {
		out[name] = domain.Param{
			Pattern: p.String("pattern"), Allowed: p.Strings("allowed"), Required: p.Bool("required"),
			Default: p.String("default"), Sensitive: p.Bool("sensitive"),
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func paramsOut(in map[string]domain.Param) map[string]any {
	out := make(map[string]any, len(in))
	for name, p := range in {
		m := map[string]any{"required": p.Required, "sensitive": p.Sensitive}
		if p.Pattern != "" {
			m["pattern"] = p.Pattern
		}
		if len(p.Allowed) > 0 {
			m["allowed"] = p.Allowed
		}
		if p.Default != "" {
			m["default"] = p.Default
		}
		out[name] = m
	}
	return out
}

// editFields go with every edit of a role or target.
func editFields() []field {
	return []field{
		{name: "live", typ: contract.TypeString, query: true, allowed: []string{string(access.LiveKeep), string(access.LiveRevoke)}, desc: "What a security edit or delete does to live credentials: keep or revoke."},
		{name: "dry_run", typ: contract.TypeBool, query: true, desc: "Say what would change, and change nothing."},
	}
}

func editOptions(c *call) access.EditOptions {
	return access.EditOptions{Live: access.Live(c.String("live")), DryRun: c.Bool("dry_run")}
}

// effectWire is what an edit did, or would do.
func effectWire() []field {
	return append([]field{
		boolean("created", "It was not there before."),
		boolean("dry_run", "Nothing was changed."),
		texts("security_changed", "Security fields that changed."),
		integer("requests_voided", "Open requests that became void."),
		integer("live_credentials", "Live credentials that the edit concerns."),
		boolean("live_revoked", "They are being revoked."),
	}, proposedWire()...)
}

func effectData(data map[string]any, e access.Effect, dry bool) {
	data["created"], data["dry_run"] = e.Created, dry
	data["security_changed"] = orEmpty(e.SecurityChanged)
	data["requests_voided"], data["live_credentials"], data["live_revoked"] = e.Voided, e.Live, e.Revoked
	proposedData(data, e.Proposed)
}

func (b *backend) rolePaths(provider []field) []path {
	var core []field
	for _, f := range roleFields() {
		core = append(core, f.field)
	}
	writable := append(core, provider...)
	shown := append(append([]field{always(str("name", "The role's name.")), str("type", "Type of the target.")}, writable...), revocationWire()...)
	return []path{{
		pattern: "roles/?", name: "roles", help: "What can be had.", description: "Names of all roles.", fields: pageFields(),
		ops: []op{{verb: logical.ListOperation, summary: "List roles.", ok: listFields("proposed: an edit of it waits; in_force: false when it is only proposed"), do: b.listRoles}},
	}, {
		pattern: "roles/" + segment("name"), name: "role", help: "One role: what can be had, by whom, who approves, for how long.",
		description: "A write changes the named fields only; an empty value clears one. The fields of the target's type are flat beside the core fields.",
		captures:    []field{nameCapture("name", "Name of the role.")},
		fields:      append(writable, editFields()...),
		ops: []op{
			{verb: logical.ReadOperation, summary: "Read a role.", ok: append(slices.Clone(shown), proposedField()), statuses: []int{http.StatusNotFound}, do: b.readRole, takes: []string{}},
			{verb: logical.UpdateOperation, summary: "Create or change a role.", ok: append(slices.Clone(shown), effectWire()...), do: b.writeRole},
			{verb: logical.DeleteOperation, summary: "Delete a role.", ok: effectWire(), do: b.deleteRole, takes: []string{"live", "dry_run"}},
		},
	}}
}

func (b *backend) listRoles(ctx context.Context, c *call) (*answer, error) {
	p, err := b.access.RoleList(ctx, c.String("after"), c.Int("limit"))
	if err != nil {
		return nil, err
	}
	return &answer{keys: p.Keys, info: listInfo(p)}, nil
}

func (b *backend) roleData(v *access.RoleView) map[string]any {
	data := map[string]any{"name": v.Role.Name, "type": v.Type}
	for _, f := range roleFields() {
		if value := f.get(&v.Role); value != nil { // a time that is not set
			data[f.name] = value
		}
	}
	for _, d := range b.descriptors {
		if d.Type == v.Type {
			fieldData(data, d.RoleFields, v.Fields)
		}
	}
	maps.Copy(data, access.RevocationFields(v.Revocation))
	return data
}

// fieldData shows a provider's fields, all of them, so that what was written
// reads back in the form it was written.
func fieldData(data map[string]any, fields []contract.Field, v contract.Values) {
	for _, f := range fields {
		if f.Secret {
			continue
		}
		switch f.Type {
		case contract.TypeString:
			data[f.Name] = v.String(f.Name)
		case contract.TypeStrings:
			data[f.Name] = orEmpty(v.Strings(f.Name))
		case contract.TypeBool:
			data[f.Name] = v.Bool(f.Name)
		case contract.TypeInt, contract.TypeSeconds:
			data[f.Name] = v.Int(f.Name)
		case contract.TypeMap:
			data[f.Name] = orEmptyMap(v.Map(f.Name))
		}
	}
}

func (b *backend) readRole(ctx context.Context, c *call) (*answer, error) {
	v, err := b.access.ReadRole(ctx, c.Capture("name"))
	if err != nil || v == nil {
		return nil, err
	}
	data := b.roleData(v)
	if data["proposed"], err = b.access.Proposed(ctx, domain.EditRole, v.Role.Name); err != nil {
		return nil, err
	}
	return &answer{data: data, warnings: v.Warnings}, nil
}

// roleEdit is what was sent of a role's fields.
func (b *backend) roleEdit(c *call) access.RoleEdit {
	e := access.RoleEdit{Core: func(r *domain.Role) {
		for _, f := range roleFields() {
			if c.Given(f.name) {
				f.set(r, c, f.name)
			}
		}
		defaultApprovals(r, c)
	}}
	e.Set, e.Clear = b.providerValues(c, func(d contract.Descriptor) []contract.Field { return d.RoleFields })
	return e
}

func (b *backend) writeRole(ctx context.Context, c *call) (*answer, error) {
	v, err := b.access.WriteRole(ctx, caller(c), c.Capture("name"), b.roleEdit(c), editOptions(c))
	if err != nil {
		return nil, err
	}
	data := b.roleData(v)
	effectData(data, v.Effect, c.Bool("dry_run"))
	return &answer{data: data, warnings: proposedWarning(v.Effect.Proposed, v.Warnings)}, nil
}

// defaultApprovals fills in approvals where it was not written: none for a role
// that approves by itself or by stages, one for every other.
func defaultApprovals(r *domain.Role, c *call) {
	switch {
	case c.Given("approvals"):
	case c.Given("auto_approve") && r.AutoApprove, len(r.Stages) > 0:
		r.Approvals = 0
	case (c.Given("auto_approve") || c.Given("stages")) && r.Approvals == 0 && !r.AutoApprove:
		r.Approvals = 1
	}
}

// providerValues picks what was sent of any provider's fields; access refuses
// what the target's type does not know.
func (b *backend) providerValues(c *call, pick func(contract.Descriptor) []contract.Field) (contract.Values, []string) {
	seen := map[string]bool{}
	var fields []contract.Field
	for _, d := range b.descriptors {
		for _, f := range pick(d) {
			if !seen[f.Name] {
				seen[f.Name] = true
				fields = append(fields, f)
			}
		}
	}
	return c.Values(fields)
}

func (b *backend) deleteRole(ctx context.Context, c *call) (*answer, error) {
	eff, err := b.access.DeleteRole(ctx, caller(c), c.Capture("name"), editOptions(c))
	if err != nil {
		return nil, err
	}
	data := map[string]any{}
	effectData(data, eff, c.Bool("dry_run"))
	return &answer{data: data, warnings: proposedWarning(eff.Proposed, nil)}, nil
}

// errInput is one problem with one field.
func errInput(name, text string) error {
	var p fault.Problems
	p.Add(name, text)
	return p.Err()
}
