package aws

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func specs(fields ...contract.Values) []contract.Spec {
	var out []contract.Spec
	for _, f := range fields {
		out = append(out, contract.Spec{Role: "prod", Fields: f})
	}
	return out
}

func TestCheckSaysWhoWeAreAndWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.accounts[homeAccount].users["root"].inline["less"] = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":["iam:PutRolePolicy","iam:CreateUser"],"Resource":"*"}]}`
	report, err := w.open(t, nil).Check(noCancel, specs(role(), userFields(), federationFields("revocation", string(domain.Propagating)), centerFields("scp_deny", fakeRail)))
	if err != nil {
		t.Fatal(err)
	}
	if report.Identity != userARNOf(homeAccount, "root") {
		t.Errorf("identity %q", report.Identity)
	}
	for _, want := range []string{
		"iam:PutRolePolicy on " + roleARN(homeAccount, prodRole),
		"iam:CreateUser on arn:aws:iam::" + homeAccount + ":user/pim/pim-*",
	} {
		if !slices.Contains(report.Missing, want) {
			t.Errorf("%q is not among the missing: %v", want, report.Missing)
		}
	}
	if report.Quotas["users_quota"] != 5000 || report.Quotas["revocations_free:"+prodRole] < 100 {
		t.Errorf("quotas %v", report.Quotas)
	}
}

func TestCheckSaysWhatItCouldNotKnow(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.fail("SimulatePrincipalPolicy", "AccessDenied", -1)
	w.fail("GetAccountSummary", "AccessDenied", -1)
	w.fail("ListAttached", "AccessDenied", -1)
	report, err := w.open(t, nil).Check(noCancel, specs(role()))
	if err != nil || len(report.Missing) > 0 {
		t.Fatalf("%v, %v", report.Missing, err)
	}
	text := strings.Join(report.Unknown, "\n")
	for _, want := range []string{"permissions on " + roleARN(homeAccount, prodRole), "quotas of the account", "room for revocations", "trust policies"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say that it does not know %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, upstreamWords) {
		t.Error("the target's own words")
	}
}

// What docs and check tell an operator to allow must be enough: the required
// policy allows every action that the roles need, and nothing on other roles.
func TestTheRequiredPolicyIsEnoughAndNoMore(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	report, err := p.Check(noCancel, specs(role("session_tags", map[string]string{"a": "b"}), userFields("iam_groups", []string{"admins"})))
	if err != nil || !json.Valid([]byte(report.RequiredPolicy)) {
		t.Fatalf("%v: %s", err, report.RequiredPolicy)
	}
	prod := roleARN(homeAccount, prodRole)
	user := "arn:aws:iam::" + homeAccount + ":user/pim/pim-01kjmekwdgbtqakvbp2svn3b3z"
	for _, row := range []struct {
		action, resource string
		want             bool
	}{
		{"sts:AssumeRole", prod, true},
		{"sts:SetSourceIdentity", prod, true},
		{"sts:TagSession", prod, true},
		{"iam:PutRolePolicy", prod, true},
		{"iam:CreatePolicyVersion", "arn:aws:iam::" + homeAccount + ":policy/pim/pim-revocations-role-prod-admin-1", true},
		{"iam:CreateUser", user, true},
		{"iam:AddUserToGroup", "arn:aws:iam::" + homeAccount + ":group/admins", true},
		{"iam:PutRolePolicy", roleARN(homeAccount, "prod-reader"), false},
		{"iam:UpdateAssumeRolePolicy", prod, false},
		{"iam:CreateUser", userARNOf(homeAccount, "alice"), false},
		{"iam:CreatePolicyVersion", "arn:aws:iam::" + homeAccount + ":policy/prod", false},
	} {
		if got := judge(row.action, row.resource, nil, []string{report.RequiredPolicy}); got != row.want {
			t.Errorf("%s on %s: %v\n%s", row.action, row.resource, got, report.RequiredPolicy)
		}
	}
}

func TestCheckAsksForTheRevokerApart(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.accounts[homeAccount].roles["pim-revoker"].inline["own"] = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:Get*","Resource":"*"}]}`
	p := w.open(t, func(target *contract.Target) { target.Fields["revoker_role_arn"] = roleARN(homeAccount, "pim-revoker") })
	report, err := p.Check(noCancel, specs(role()))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(report.RequiredPolicy, "iam:PutRolePolicy") || !strings.Contains(strings.Join(report.Warnings, ""), "iam:PutRolePolicy") {
		t.Errorf("%s\n%v", report.RequiredPolicy, report.Warnings)
	}
	if !slices.Contains(report.Missing, "iam:PutRolePolicy on "+roleARN(homeAccount, prodRole)) {
		t.Errorf("missing: %v", report.Missing)
	}
}

func TestCheckAtAnotherPlace(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, func(target *contract.Target) { *target = fakeTarget(otherKey); target.Place = homeAccount })
	_, err := p.Check(noCancel, nil)
	wantCode(t, err, "place_changed")
}

func TestWhosePoliciesAreSimulated(t *testing.T) {
	t.Parallel()
	for in, want := range map[[2]string]string{
		{userARNOf(homeAccount, "root"), ""}:                                                        userARNOf(homeAccount, "root"),
		{"arn:aws:sts::111111111111:assumed-role/node/i-0123", ""}:                                  roleARN(homeAccount, "node"),
		{"arn:aws:sts::111111111111:assumed-role/base/pim-base", roleARN(homeAccount, "path/base")}: roleARN(homeAccount, "path/base"),
		{"arn:aws:iam::111111111111:root", ""}:                                                      "",
	} {
		if got := policySource(identity{ARN: in[0]}, in[1]); got != want {
			t.Errorf("%v: %q, want %q", in, got, want)
		}
	}
}
