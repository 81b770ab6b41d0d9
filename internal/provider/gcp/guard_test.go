package gcp

import (
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// TestNobodyBecomesTheEngine looks at both ends: what is refused when a role is
// written, and what is refused at issue when the target changed meanwhile.
func TestNobodyBecomesTheEngine(t *testing.T) {
	t.Parallel()
	const chained = "stepping@engine-home.iam.gserviceaccount.com"
	grants := func(role, on string) contract.Values {
		return contract.Values{"principal_source": "metadata:m", "iam_roles": []string{role}, "resources": []string{on}}
	}
	for name, row := range map[string]struct {
		fields  contract.Values
		atWrite bool // offline
		atProbe bool
		atIssue bool
	}{
		"its own account":                               {contract.Values{"service_account_email": engineAccount}, true, true, true},
		"an account that it goes through":               {contract.Values{"service_account_email": chained}, true, true, true},
		"a key of its own account":                      {contract.Values{"credential_type": kindKey, "service_account_email": engineAccount}, true, true, true},
		"token creator on its own project":              {grants("roles/iam.serviceAccountTokenCreator", "projects/engine-home"), true, true, true},
		"the same, with the project's number":           {grants("roles/iam.serviceAccountTokenCreator", "projects/333333333333"), false, true, true},
		"a custom role that impersonates, on its own":   {grants("roles/custom.impersonator", "projects/engine-home"), false, true, true},
		"token creator on the folder above":             {grants("roles/iam.serviceAccountTokenCreator", "folders/77"), false, true, true},
		"a role that sets policies, on the folder":      {grants("roles/resourcemanager.folderIamAdmin", "folders/77"), false, true, true},
		"a harmless role on its own project":            {grants("roles/custom.harmless", "projects/engine-home"), false, false, false},
		"a harmless role on the folder above":           {grants("roles/compute.viewer", "folders/77"), false, false, false},
		"token creator on another project":              {grants("roles/iam.serviceAccountTokenCreator", "projects/prod-access"), false, false, false},
		"a role on a bucket, below which nobody lives":  {grants("roles/custom.impersonator", bucket), false, false, false},
		"an account of one's own with a role like that": {contract.Values{"iam_roles": []string{"roles/custom.impersonator"}, "resources": []string{"projects/engine-home"}}, false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			k.cloud.AddAccount("engine-home", chained)
			p := k.open(t, k.target(contract.Values{
				"impersonate":       []string{chained},
				"managed_resources": []string{"projects/prod-access", "projects/engine-home", "projects/333333333333", "folders/77", bucket},
			}))
			k.cloud.Empower(chained)
			spec := contract.Spec{Role: "r", Fields: normalize(row.fields)}
			if report := p.Validate(t.Context(), spec, false); report.OK() == row.atWrite {
				t.Errorf("at write: %v", report.Problems)
			}
			if report := p.Validate(t.Context(), spec, true); report.OK() == row.atProbe {
				t.Errorf("at write, with a look: %v", report.Problems)
			}
			in := k.input(t, row.fields)
			_, h, err := k.issue(t, p, in, k.plan(t, p, in))
			if (err != nil) != row.atIssue {
				t.Fatalf("at issue: %v", err)
			}
			if err != nil {
				wantError(t, err, "own_identity", "engine's own identity")
				if left := k.exists(t, h); len(left) != 0 {
					t.Errorf("left: %v", left)
				}
				return
			}
			k.mustEnd(t, p, h)
		})
	}
}

func TestHomesOfServiceAccounts(t *testing.T) {
	t.Parallel()
	for email, want := range map[string]string{
		"a@my-project.iam.gserviceaccount.com":             "my-project",
		"a@my-project.example.com.iam.gserviceaccount.com": "example.com:my-project",
		"12345-compute@developer.gserviceaccount.com":      "12345",
		"my-project@appspot.gserviceaccount.com":           "my-project",
	} {
		if got := homes([]string{email}); len(got) != 1 || got[0] != want {
			t.Errorf("%s lives in %v, not %s", email, got, want)
		}
	}
}

func TestWhetherAFolderIsAboveTheEngineMustBeKnown(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	k.cloud.Deny("resourcemanager.projects.get")
	fields := contract.Values{"principal_source": "metadata:m", "iam_roles": []string{"roles/compute.viewer"}, "resources": []string{"folders/77"}}
	in := k.input(t, fields)
	_, _, err := k.issue(t, p, in, k.plan(t, p, in))
	wantError(t, err, "IAM_PERMISSION_DENIED", "lacks the permission resourcemanager.projects.get")
}
