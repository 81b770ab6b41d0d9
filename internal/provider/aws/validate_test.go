package aws

import (
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestRolesThatAreNotValid(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 129)
	for _, row := range []struct {
		name   string
		fields contract.Values
		want   []string // "field: part of the text"
	}{
		{"nothing at all", contract.Values{}, []string{"credential_type: is required"}},
		{"a policy alone, which implies nothing", contract.Values{"policy_document": allowAllPolicy}, []string{"credential_type: is required"}},
		{"a session of no role", contract.Values{"credential_type": kindRole}, []string{"role_arns: is required"}},
		{"something that is no role", role("role_arns", []string{"prod-admin"}), []string{"role_arns: not the ARN of an IAM role"}},
		{"a user instead of a role", role("role_arns", []string{userARNOf(homeAccount, "x")}), []string{"role_arns: not the ARN"}},
		{"a role of another account", role("role_arns", []string{roleARN(otherAccount, "x")}), []string{"role_arns: another account"}},
		{"a role of Identity Center", role("role_arns", []string{roleARN(homeAccount, "aws-reserved/sso.amazonaws.com/AWSReservedSSO_A_1")}), []string{"role_arns: keeps to itself"}},
		{"several roles without a parameter to choose", role("role_arns", []string{roleARN(homeAccount, "a"), roleARN(homeAccount, "b")}), []string{"role_arns: request parameter role_arn"}},
		{"the base role", role("role_arns", []string{roleARN(homeAccount, "pim-base")}), []string{"role_arns: own identity"}},
		{
			"everything wrong at once", role("policy_document", "{", "policy_arns", []string{"x"}, "allow_chaining", []string{"y"}, "external_id", " "),
			[]string{"policy_document: not a policy", "policy_arns: managed policy", "allow_chaining: not the ARN", "external_id: form"},
		},
		{"chaining to another account", role("allow_chaining", []string{roleARN(otherAccount, "x")}), []string{"allow_chaining: another account"}},
		{"a policy that is too long with the guard", role("policy_document", strings.Replace(allowAllPolicy, `"*"`, `"`+strings.Repeat("a", 1500)+`"`, 1)), []string{"policy_document: characters with what pim adds"}},
		{"a tag with a parameter that is not declared", role("session_tags", map[string]string{"a": "{{params.b}}"}), []string{"session_tags: does not declare"}},
		{"a tag with an unknown placeholder", role("session_tags", map[string]string{"a": "{{secret}}"}), []string{"session_tags: not known"}},
		{"tags that AWS does not take", role("session_tags", map[string]string{"aws:x": "", "b*": "", long: "", "c": "*"}), []string{"session_tags: begins with", "session_tags: key that AWS", "session_tags: value"}},
		{"tags that differ in case alone", role("session_tags", map[string]string{"Team": "", "team": ""}), []string{"session_tags: differ in case"}},
		{"a transitive tag that is none", role("transitive_tags", []string{"x"}), []string{"transitive_tags: does not have"}},
		{"fields of a user on a session", role("credential_type", kindRole, "iam_groups", []string{"a"}, "user_path", "/pim/"), []string{"iam_groups: does not belong", "user_path: does not belong"}},
		{"a user outside of our path", userFields("user_path", "/admins/"), []string{"user_path: below /pim/"}},
		{"a user that is allowed nothing", contract.Values{"credential_type": kindUser}, []string{"policy_document: needs"}},
		{"a key that is tried for ever", userFields("key_probes", 11), []string{"key_probes: from 0 to 10"}},
		{"a key that is tried less than never", userFields("key_probes", -1), []string{"key_probes: from 0 to 10"}},
		{"keys of a session", role("key_probes", 2), []string{"key_probes: does not belong"}},
		{"a user that is not deleted", userFields("revocation", string(domain.ExpiryOnly)), []string{"revocation: always deleted"}},
		{"a user with a boundary that is none", userFields("permissions_boundary_arn", "x", "iam_groups", []string{"a b"}), []string{"permissions_boundary_arn: not the ARN", "iam_groups: not the name"}},
		{"a console for a user", userFields("console", true), []string{"console: does not belong"}},
		{"a federation token through a base role", federationFields(), []string{"credential_type: without base_role_arn"}},
		{"a federation token that is allowed nothing", contract.Values{"credential_type": kindFederation}, []string{"policy_document: needs"}},
		{"an assignment of nothing", contract.Values{"credential_type": kindCenter}, []string{"permission_set_arn: is required", "account_id: is required", "principal_source: is required"}},
		{"an assignment by a display name", centerFields("principal_source", "name"), []string{"principal_source: must be alias"}},
		{"a service control policy that is none", centerFields("scp_deny", "FullAWSAccess"), []string{"scp_deny: not the id"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newFakeAWS().open(t, func(target *contract.Target) { target.Fields["base_role_arn"] = roleARN(homeAccount, "pim-base") })
			report := p.Validate(noCancel, contract.Spec{Role: "prod", Fields: row.fields}, false)
			for _, want := range row.want {
				field, text, _ := strings.Cut(want, ": ")
				if !slices.ContainsFunc(report.Problems, func(p contract.Problem) bool { return p.Field == field && strings.Contains(p.Text, text) }) {
					t.Errorf("%q is not reported: %v", want, report.Problems)
				}
			}
			for _, problem := range report.Problems {
				if strings.Contains(problem.Text, long) {
					t.Error("a problem repeats the value")
				}
			}
		})
	}
}

func TestRolesThatAreValid(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string]contract.Values{
		"a plain role":        role(),
		"a role below a path": role("role_arns", []string{roleARN(homeAccount, "team/deep/prod")}),
		"a federation token":  federationFields(),
		"an assignment":       centerFields("scp_deny", fakeRail, "principal_attribute", attributeEmail),
		"a user":              userFields("user_path", "/pim/a/b/"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFakeAWS().open(t, nil)
			if report := p.Validate(noCancel, contract.Spec{Role: "prod", Fields: fields}, false); !report.OK() {
				t.Errorf("%v", report.Problems)
			}
		})
	}
}

func TestProbingARole(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		fields  contract.Values
		spoil   func(*fakeAWS)
		problem string // field
		warning string
	}{
		{name: "a role that does not exist", fields: role("role_arns", []string{roleARN(homeAccount, "gone")}), problem: "role_arns"},
		{name: "a role with another path at AWS", fields: role("role_arns", []string{roleARN(homeAccount, "path/"+prodRole)}), problem: "role_arns"},
		{name: "a role that may not be read", fields: role(), spoil: func(w *fakeAWS) { w.fail("GetRole", "AccessDenied", -1) }, warning: "could not be read"},
		{name: "a role whose policies may not be read", fields: role(), spoil: func(w *fakeAWS) { w.fail("ListAttached", "AccessDenied", -1) }, warning: "policies of a role could not be read"},
		{name: "a permission set that does not exist", fields: centerFields("permission_set_arn", fakeSet+"0"), problem: "permission_set_arn"},
		{name: "an assignment tells how long sessions last", fields: centerFields(), warning: "can last 1h"},
		{name: "a service control policy that was not prepared", fields: centerFields("scp_deny", fakeRail), spoil: func(w *fakeAWS) { w.center.rails[fakeRail] = allowAllPolicy }, problem: "scp_deny"},
		{name: "AWS cannot be reached", fields: role(), spoil: func(w *fakeAWS) { w.broken = true }, warning: "could not be asked"},
		{name: "lasting access is warned of", fields: role("can_persist", true), warning: "outlive"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newFakeAWS()
			if row.spoil != nil {
				row.spoil(w)
			}
			report := w.open(t, nil).Validate(noCancel, contract.Spec{Fields: row.fields}, true)
			if row.problem == "" && !report.OK() || row.problem != "" && !slices.ContainsFunc(report.Problems, func(p contract.Problem) bool { return p.Field == row.problem }) {
				t.Errorf("problems %v, want one with %q", report.Problems, row.problem)
			}
			if !strings.Contains(strings.Join(report.Warnings, "\n"), row.warning) {
				t.Errorf("warnings %v, want %q", report.Warnings, row.warning)
			}
		})
	}
}

// A role that the target does not name is known by asking as which role we run.
func TestARoleOfTheEnginesOwnIdentityIsRefusedAtWrite(t *testing.T) {
	t.Parallel()
	node := func(p *Provider) { // as a process on a machine with an instance profile
		p.who = identity{Account: homeAccount, ARN: "arn:aws:sts::" + homeAccount + ":assumed-role/node/i-0123"}
		p.whoAt = p.env.Clock.Now()
	}
	for _, row := range []struct {
		name             string
		fields           contract.Values
		spoil            func(*fakeAWS)
		run              func(*Provider)
		problem, warning bool
	}{
		{name: "a role that is not ours", fields: role(), run: node},
		{name: "the role that we run as", fields: role("role_arns", []string{roleARN(homeAccount, prodRole), roleARN(homeAccount, "node")}), run: node, problem: true},
		{name: "one of its name in another account", fields: role("role_arns", []string{roleARN(otherAccount, "node")}), run: node},
		{name: "AWS cannot be reached", fields: role(), spoil: func(w *fakeAWS) { w.broken = true }, warning: true},
		{name: "a user, which is made for the credential", fields: userFields(), spoil: func(w *fakeAWS) { w.broken = true }},
	} {
		w := newFakeAWS()
		p := w.open(t, nil)
		if row.spoil != nil {
			row.spoil(w)
		}
		if row.run != nil {
			row.run(p)
		}
		report := p.GuardSelf(noCancel, contract.Spec{Role: "prod", Fields: row.fields})
		if (report.Fields() == "role_arns") != row.problem || (len(report.Warnings) > 0) != row.warning {
			t.Errorf("%s: %+v", row.name, report)
		}
	}
}

func TestWhatRolesPromise(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		fields   contract.Values
		class    domain.Class
		survives string
	}{
		{"a role session", role(), domain.Propagating, "open_sessions identity_proofs"},
		{"a role session that may go on", role("allow_chaining", []string{roleARN(homeAccount, "x")}), domain.Propagating, "open_sessions chained_roles identity_proofs created_objects"},
		{"a role session that may persist", role("can_persist", true), domain.Propagating, "open_sessions identity_proofs created_objects"},
		{"a role session that declares it", role("revocation", "expiry_only"), domain.ExpiryOnly, "open_sessions identity_proofs"},
		{"a user", userFields(), domain.Propagating, "open_sessions"},
		{"a user that may persist", userFields("can_persist", true), domain.Propagating, "open_sessions created_objects"},
		{"a federation token", federationFields(), domain.ExpiryOnly, "open_sessions identity_proofs"},
		{"a federation token with a deny", federationFields("revocation", "propagating"), domain.Propagating, "open_sessions identity_proofs"},
		{"a federation token that may persist", federationFields("can_persist", true), domain.ExpiryOnly, "open_sessions identity_proofs created_objects"},
		{"an assignment", centerFields(), domain.ExpiryOnly, "open_sessions chained_roles identity_proofs created_objects"},
		{"an assignment with a service control policy", centerFields("scp_deny", fakeRail), domain.Propagating, "open_sessions chained_roles identity_proofs created_objects"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got := revocation(row.fields)
			var list []string
			for _, s := range got.Survives {
				list = append(list, string(s))
			}
			if got.Class != row.class || got.Seconds != 0 || strings.Join(list, " ") != row.survives {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestWhatFieldsImply(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		fields contract.Values
		want   string
	}{
		{role(), kindRole},
		{contract.Values{"user_path": "/pim/x/"}, kindUser},
		{contract.Values{"iam_groups": []string{"a"}}, kindUser},
		{contract.Values{"permission_set_arn": fakeSet}, kindCenter},
		{contract.Values{"policy_document": allowAllPolicy}, ""},
		{contract.Values{"credential_type": kindFederation, "role_arns": []string{"x"}}, kindFederation},
	} {
		once := normalize(row.fields)
		if got := once.String("credential_type"); got != row.want {
			t.Errorf("%v implies %q, want %q", row.fields, got, row.want)
		}
		twice := normalize(once)
		if len(twice) != len(once) || twice.String("revocation") != once.String("revocation") {
			t.Errorf("normalizing twice changes %v to %v", once, twice)
		}
	}
}
