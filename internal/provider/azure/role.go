package azure

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// What an own account can be.
const (
	principalUser    = "User"
	principalService = "ServicePrincipal"
)

// Bounds of a role. A handle names every assignment and must stay below
// domain.MaxHandleBytes.
const (
	maxRoles  = 5
	maxGroups = 10
)

var (
	scopeForm = regexp.MustCompile(`^(/subscriptions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/resourceGroups/[A-Za-z0-9._()-]{1,90}` +
		`(/providers/[A-Za-z0-9.]{1,60}(/[A-Za-z0-9._()-]{1,90}){2,8})?)?|/providers/Microsoft\.Management/managementGroups/[A-Za-z0-9._()-]{1,90})$`)
	// principalForm holds a principal to what can be part of a path.
	principalForm = regexp.MustCompile(`^[0-9a-z][0-9a-z-]{0,63}$`)
)

const maxScopeLength = 400

// builtIn are the ids of common built-in role definitions, which are the same
// in every tenant.
func builtIn() map[string]string {
	return map[string]string{ //nolint:gosec // ids of role definitions, which everybody knows
		"owner":                                   "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
		"contributor":                             "b24988ac-6180-42a0-ab88-20f7382dd24c",
		"reader":                                  "acdd72a7-3385-48ef-bd42-f606fba81ae7",
		"user access administrator":               "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
		"virtual machine contributor":             "9980e02c-c2be-4d73-94e8-173b1dc7cf3c",
		"storage blob data reader":                "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
		"storage blob data contributor":           "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
		"key vault secrets user":                  "4633458b-17de-408a-b874-0445c86b69e6",
		"role based access control administrator": "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
	}
}

// grantsRoles lists the definitions whose holder can assign roles.
func grantsRoles() []string {
	b := builtIn()
	return []string{b["owner"], b["user access administrator"], b["role based access control administrator"]}
}

// grant is a role to assign and where.
type grant struct{ role, scope string }

// role is what a role's fields say, in types.
type role struct {
	kind      string
	grants    []grant
	groups    []string
	object    string // of an existing application
	purge     bool
	timed     bool                   // Azure itself ends the assignment
	source    remote.PrincipalSource // of the requester's object id
	principal string                 // type of the requester's account
}

// belongs lists which fields go with which credential type.
func belongs() map[string][]string {
	return map[string][]string{
		"azure_roles":           {kindPrincipal, kindAssignment},
		"azure_groups":          {kindPrincipal, kindMember},
		"application_object_id": {kindPassword},
		"permanently_delete":    {kindPrincipal},
		"schedule":              {kindAssignment},
		"principal_source":      {kindAssignment, kindMember},
		"principal_type":        {kindAssignment, kindMember},
	}
}

func isSet(v contract.Values, name string) bool {
	switch x := v[name].(type) {
	case string:
		return x != "" && (name != "principal_type" || x != principalUser)
	case []string:
		return len(x) > 0
	case bool:
		return x
	}
	return false
}

// readRole reads a role's fields for a target and reports everything that is
// wrong with them.
func (c targetConfig) readRole(fields contract.Values) (role, contract.Report) {
	var report contract.Report
	v := normalize(fields)
	r := role{
		kind: v.String("credential_type"), groups: v.Strings("azure_groups"), object: v.String("application_object_id"),
		purge: v.Bool("permanently_delete"), timed: v.Bool("schedule"), principal: v.String("principal_type"),
	}
	if r.kind == "" {
		report.Addf("credential_type", "is required: nothing else says what to issue")
		return r, report
	}
	if r.principal == "" {
		r.principal = principalUser
	}
	for _, name := range contract.SortedKeys(belongs()) {
		if isSet(v, name) && !slices.Contains(belongs()[name], r.kind) {
			report.Addf(name, "does not go with credential_type=%s", r.kind)
		}
	}
	r.readGrants(c, v.Strings("azure_roles"), &report)
	if len(r.groups) > maxGroups || slices.ContainsFunc(r.groups, func(g string) bool { return !guidForm.MatchString(g) }) {
		report.Addf("azure_groups", "must be at most %d object ids in lower case", maxGroups)
	}
	r.checkKind(c, v, &report)
	return r, report
}

func (r *role) checkKind(c targetConfig, v contract.Values, report *contract.Report) {
	switch r.kind {
	case kindPrincipal:
		if len(r.grants) == 0 && len(r.groups) == 0 {
			report.Addf("azure_roles", "is required, or azure_groups: they say what the service principal may do")
		}
	case kindPassword:
		switch {
		case !guidForm.MatchString(r.object):
			report.Addf("application_object_id", "is required: the application's object id in lower case")
		case r.object == c.client:
			report.Addf("application_object_id", "is the engine's own application, which no role may use")
		}
	case kindAssignment:
		if len(r.grants) != 1 {
			report.Addf("azure_roles", "must have exactly one entry for role_assignment: several windows of one person then count on the same assignment")
		}
	case kindMember:
		if len(r.groups) != 1 {
			report.Addf("azure_groups", "must have exactly one entry for group_membership")
		}
	}
	if r.kind == kindAssignment || r.kind == kindMember {
		r.source = remote.ReadPrincipalSource(v, report)
	}
}

func (r *role) readGrants(c targetConfig, entries []string, report *contract.Report) {
	if len(entries) > maxRoles {
		report.Addf("azure_roles", "at most %d", maxRoles)
		return
	}
	for _, entry := range entries {
		name, scope, _ := strings.Cut(entry, "@")
		id := strings.ToLower(strings.TrimSpace(name))
		if known := builtIn()[id]; known != "" {
			id = known
		}
		switch {
		case !guidForm.MatchString(id):
			report.Addf("azure_roles", "each must be ROLE@SCOPE, with the id of a role definition or one of these names: %s",
				strings.Join(contract.SortedKeys(builtIn()), ", "))
		case !scopeForm.MatchString(scope) || len(scope) > maxScopeLength:
			report.Addf("azure_roles", "each must be ROLE@SCOPE, with a scope such as /subscriptions/ID/resourceGroups/NAME")
		case !c.manages(scope):
			report.Addf("azure_roles", "a scope is not below the target's managed_scopes")
		case slices.Contains(r.grants, grant{id, scope}):
			report.Addf("azure_roles", "has one twice")
		default:
			r.grants = append(r.grants, grant{id, scope})
		}
		if slices.Contains(grantsRoles(), id) {
			report.Warnf("azure_roles has a role whose holder can assign roles: what is assigned in the window outlives it")
		}
	}
}

// ResolvePrincipal implements contract.PrincipalResolver.
func (p *Provider) ResolvePrincipal(ctx context.Context, who domain.Entity, fields contract.Values) (string, error) {
	const op = "resolve principal"
	r, report := p.config.readRole(fields)
	if r.kind != kindAssignment && r.kind != kindMember {
		return "", nil
	}
	if r.source.Missing() {
		return "", contract.BadRole(op, report)
	}
	id, err := r.source.Principal(who, "object id at Entra", "object ids at Entra")
	if err != nil {
		return "", err
	}
	if id = strings.ToLower(id); !guidForm.MatchString(id) {
		return "", contract.Refused(op, "bad_principal", "what the role's principal_source names is not an object id at Entra")
	}
	me, err := p.self(ctx, p.config.armScope())
	if err != nil {
		return "", err
	}
	if id == me.Object || id == me.Client {
		return "", contract.Refused(op, remote.CodeOwnIdentity, "your account is the engine's own identity, which no role may elevate")
	}
	return id, nil
}
