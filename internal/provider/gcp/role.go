package gcp

import (
	"regexp"
	"slices"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Bounds of a role. A handle names every resource and must stay below
// domain.MaxHandleBytes.
const (
	maxRoles       = 10
	maxScopes      = 20
	maxPermissions = 100 // of one testIamPermissions call
)

var (
	roleForm  = regexp.MustCompile(`^((projects/([a-z][a-z0-9.-]{1,60}:)?[a-z0-9][a-z0-9-]{1,62}/|organizations/[0-9]{1,20}/))?roles/[A-Za-z][A-Za-z0-9_.]{1,99}$`)
	scopeForm = regexp.MustCompile(`^https://[a-z0-9.]{1,60}/[A-Za-z0-9._/-]{0,120}$|^(openid|email|profile)$`)
)

// role is what a role's fields say, in types.
type role struct {
	kind      string
	existing  string // e-mail address of an existing account; "" = one of its own
	roles     []string
	resources []resource
	condition string
	scopes    []string
	wait      []string // permissions to wait for
	principal principalRule
}

// belongs lists which fields go with which way of issuing.
func belongs() map[string][]string {
	const existingToken, existingKey, ownToken, ownKey = "existing " + kindToken, "existing " + kindKey, "own " + kindToken, "own " + kindKey
	own := []string{ownToken, ownKey}
	return map[string][]string{
		"iam_roles":            append([]string{kindBinding}, own...),
		"resources":            append([]string{kindBinding}, own...),
		"condition":            append([]string{kindBinding}, own...),
		"token_scopes":         {existingToken, ownToken},
		"wait_for_permissions": own,
		"principal_source":     {kindBinding},
		"member_type":          {kindBinding},
		"service_account_email": {
			existingToken, existingKey,
		},
	}
}

// way names the way of issuing as belongs does.
func (r role) way() string {
	switch {
	case r.kind == kindBinding:
		return kindBinding
	case r.existing != "":
		return "existing " + r.kind
	}
	return "own " + r.kind
}

// own tells whether every credential has an account of its own.
func (r role) own() bool { return r.kind != kindBinding && r.existing == "" }

// readRole reads a role's fields for a target and reports everything that is
// wrong with them.
func (c targetConfig) readRole(fields contract.Values) (role, contract.Report) {
	var report contract.Report
	v := normalize(fields)
	r := role{
		kind: v.String("credential_type"), existing: v.String("service_account_email"), roles: v.Strings("iam_roles"),
		condition: v.String("condition"), scopes: v.Strings("token_scopes"), wait: v.Strings("wait_for_permissions"),
	}
	if r.kind == "" {
		report.Addf("credential_type", "is required: nothing else says what to issue")
		return r, report
	}
	for _, name := range contract.SortedKeys(belongs()) {
		if isSet(v, name) && !slices.Contains(belongs()[name], r.way()) {
			report.Addf(name, "does not go with %s", describeWay(r))
		}
	}
	if r.existing != "" && !accountForm.MatchString(r.existing) {
		report.Addf("service_account_email", "must be the e-mail address of a service account")
	}
	if len(r.scopes) == 0 {
		r.scopes = []string{cloudPlatform}
	}
	r.checkTexts(&report)
	if r.kind == kindBinding || r.own() {
		r.readGrants(c, v, &report)
	}
	if r.kind == kindBinding {
		r.principal = readPrincipalRule(v, &report)
	}
	return r, report
}

func describeWay(r role) string {
	switch {
	case r.kind == kindBinding:
		return "credential_type=" + kindBinding
	case r.existing != "":
		return "service_account_email"
	}
	return "credential_type=" + r.kind + " without service_account_email"
}

// isSet tells whether a field says anything beside its default.
func isSet(v contract.Values, name string) bool {
	switch x := v[name].(type) {
	case string:
		return x != "" && (name != "member_type" || x != memberUser)
	case []string:
		return len(x) > 0 && (name != "token_scopes" || !slices.Equal(x, []string{cloudPlatform}))
	}
	return false
}

func (r *role) checkTexts(report *contract.Report) {
	if len(r.scopes) > maxScopes || slices.ContainsFunc(r.scopes, func(s string) bool { return !scopeForm.MatchString(s) }) {
		report.Addf("token_scopes", "must be at most %d OAuth scopes, such as %s", maxScopes, cloudPlatform)
	}
	if len(r.wait) > maxPermissions || slices.ContainsFunc(r.wait, func(s string) bool { return !permissionForm.MatchString(s) }) {
		report.Addf("wait_for_permissions", "must be at most %d permissions, such as storage.buckets.get", maxPermissions)
	}
	if err := checkCondition(r.condition); err != nil {
		report.Addf("condition", "%s", err.Error())
	}
}

func (r *role) readGrants(c targetConfig, v contract.Values, report *contract.Report) {
	switch {
	case len(r.roles) == 0:
		report.Addf("iam_roles", "is required: it says what is granted")
	case len(r.roles) > maxRoles:
		report.Addf("iam_roles", "at most %d", maxRoles)
	}
	for i, name := range r.roles {
		if !roleForm.MatchString(name) {
			report.Addf("iam_roles", "must be roles/NAME, projects/ID/roles/NAME or organizations/NUMBER/roles/NAME")
			break
		}
		if slices.Contains(r.roles[:i], name) {
			report.Addf("iam_roles", "names one role twice")
		}
	}
	list := v.Strings("resources")
	if len(list) == 0 {
		list = []string{projectsPrefix + c.project}
	}
	if len(list) > maxResources {
		report.Addf("resources", "at most %d", maxResources)
	}
	r.resources = readResources("resources", list, report)
	for _, res := range r.resources {
		if !c.manages(res) {
			report.Addf("resources", "the target's managed_resources does not have all of them")
			break
		}
	}
	r.checkBasic(report)
}

// isBasic tells whether a role is one of the three that every project has.
func isBasic(name string) bool {
	return slices.Contains([]string{"roles/owner", "roles/editor", "roles/viewer"}, name)
}

// checkBasic refuses what Google does: basic roles take no conditions, and
// every grant of ours has one.
func (r *role) checkBasic(report *contract.Report) {
	if slices.ContainsFunc(r.roles, isBasic) {
		report.Addf("iam_roles", "Google takes no condition on roles/owner, roles/editor and roles/viewer, so their grants could not end by "+
			"themselves; name predefined or custom roles instead")
	}
}
