package providertest

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

var (
	fieldName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	typeName  = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
)

// coreTargetFields and coreRoleFields belong to the core (design, section 3);
// no provider may declare them.
var (
	coreTargetFields = []string{"name", "type", "place", "allowed_roles", "max_live", "description", "dry_run", "live"}
	coreRoleFields   = []string{
		"name", "target", "description", "owner", "labels", "eligible_groups", "eligible_entities", "approvals",
		"auto_approve", "approver_groups", "approver_entities", "ttl", "max_ttl", "lease_ttl", "request_ttl",
		"require_justification", "justification_pattern", "require_ticket", "ticket_pattern", "max_active",
		"max_credentials", "min_ttl", "start", "claim_within", "reuse_window", "auto_request", "auto_request_again",
		"params", "wrap_ttl", "min_revocation", "composite", "dry_run", "live",
	}
)

// CheckDescriptor checks what can be said of every descriptor: names, texts,
// defaults, and that all its functions are there.
func CheckDescriptor(t *testing.T, d contract.Descriptor) {
	t.Helper()
	if !typeName.MatchString(d.Type) || d.Summary == "" {
		t.Errorf("type %q needs a plain name and a summary", d.Type)
	}
	if d.Normalize == nil || d.CheckTarget == nil || d.Limits == nil || d.Revocation == nil || d.New == nil {
		t.Fatalf("descriptor %s lacks a function", d.Type)
	}
	checkList(t, d)
	checkFields(t, "target", d.TargetFields, coreTargetFields)
	checkFields(t, "role", d.RoleFields, coreRoleFields)
	for _, f := range d.RoleFields {
		if f.Secret || f.Where {
			t.Errorf("role field %s: secrets and addresses belong to the target", f.Name)
		}
	}
	if !slices.ContainsFunc(d.TargetFields, func(f contract.Field) bool { return f.Where }) {
		t.Errorf("descriptor %s: no target field says where we speak", d.Type)
	}
}

// checkList checks a list as far as it can be without handles: it is one, and
// grows by its number alone.
func checkList(t *testing.T, d contract.Descriptor) {
	t.Helper()
	if d.List == nil {
		return
	}
	if d.List.Until == nil || d.List.Render == nil {
		t.Fatalf("the list of %s lacks a function", d.Type)
	}
	if !slices.ContainsFunc(d.TargetFields, func(f contract.Field) bool {
		return f.Name == d.List.PublicField && f.Type == contract.TypeBool && f.Default == nil
	}) {
		t.Errorf("descriptor %s: %q is no bool target field without default", d.Type, d.List.PublicField)
	}
	one, err := d.List.Render(nil, 1, time.Unix(1, 0))
	two, err2 := d.List.Render(nil, 2, time.Unix(1, 0))
	if err != nil || err2 != nil || len(one) == 0 || string(one) == string(two) {
		t.Errorf("descriptor %s: a list of nothing is a list with a number (%v, %v)", d.Type, err, err2)
	}
	if until := d.List.Until(domain.Handle{Provider: d.Type}); !until.IsZero() {
		t.Errorf("descriptor %s: an empty handle is on the list", d.Type)
	}
}

func checkFields(t *testing.T, kind string, fields []contract.Field, core []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range fields {
		if !fieldName.MatchString(f.Name) || seen[f.Name] || slices.Contains(core, f.Name) {
			t.Errorf("%s field %q: badly named, declared twice, or one of the core's", kind, f.Name)
		}
		seen[f.Name] = true
		if f.Description == "" {
			t.Errorf("%s field %s has no description", kind, f.Name)
		}
		if f.Default != nil && !defaultFits(f) {
			t.Errorf("%s field %s: the default is no %s, or not among the allowed values", kind, f.Name, f.Type)
		}
		if f.Allowed != nil && f.Type != contract.TypeString {
			t.Errorf("%s field %s: only strings have a closed list", kind, f.Name)
		}
		if f.Secret && (f.Type != contract.TypeString || f.Default != nil) {
			t.Errorf("%s field %s: a secret is a string without default", kind, f.Name)
		}
	}
}

func defaultFits(f contract.Field) bool {
	switch f.Type {
	case contract.TypeString:
		s, ok := f.Default.(string)
		return ok && (f.Allowed == nil || slices.Contains(f.Allowed, s))
	case contract.TypeStrings:
		_, ok := f.Default.([]string)
		return ok
	case contract.TypeBool:
		_, ok := f.Default.(bool)
		return ok
	case contract.TypeInt, contract.TypeSeconds:
		_, ok := f.Default.(int)
		return ok
	case contract.TypeMap:
		_, ok := f.Default.(map[string]string)
		return ok
	}
	return false
}

// checkClasses checks that every credential type, and every case, has a
// revocation class and limits that can be kept.
func checkClasses(t *testing.T, d contract.Descriptor, cases []Case) {
	t.Helper()
	specs := map[string]contract.Values{"no fields at all": {}}
	for _, f := range d.RoleFields {
		if f.Name == "credential_type" {
			for _, kind := range f.Allowed {
				specs["credential_type="+kind] = contract.Values{"credential_type": kind}
			}
		}
	}
	for _, c := range cases {
		specs[c.Name] = c.Fields
	}
	for name, fields := range specs {
		role := d.Normalize(fields)
		promise := d.Revocation(role)
		if !promise.Class.Valid() || promise.Seconds < 0 {
			t.Errorf("%s: no valid revocation class", name)
		}
		if promise.Class == domain.Immediate && promise.Seconds > 15 {
			t.Errorf("%s: %d seconds are not immediate", name, promise.Seconds)
		}
		for _, s := range promise.Survives {
			if !slices.Contains(domain.Survivors(), s) {
				t.Errorf("%s: unknown survivor %s", name, s)
			}
		}
		l := d.Limits(role)
		if l.MinTTL < 0 || l.MaxTTL < 0 || (l.MaxTTL > 0 && l.MinTTL > l.MaxTTL) {
			t.Errorf("%s: shortest life %s, longest %s", name, l.MinTTL, l.MaxTTL)
		}
		if l.IssueTimeout <= 0 || (l.IssueTimeout > 25*time.Second && !l.Slow) {
			t.Errorf("%s: an issue of %s does not fit into a call", name, l.IssueTimeout)
		}
	}
}
