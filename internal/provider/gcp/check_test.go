package gcp

import (
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestCheckNamesWhatIsMissingAndPrintsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.cloud.SetPolicy(projectPolicy, nil, strangers()[0])
	p := k.open(t, k.target(nil))
	roles := []contract.Spec{
		{Role: "own", Fields: normalize(ownToken())},
		{Role: "key", Fields: normalize(existingKey())},
		{Role: "bucket", Fields: normalize(contract.Values{"principal_source": "metadata:m", "iam_roles": []string{"roles/storage.admin"}, "resources": []string{bucket}})},
		{Role: "broken", Fields: contract.Values{"credential_type": kindToken}},
	}
	report, err := p.Check(t.Context(), roles)
	if err != nil {
		t.Fatal(err)
	}
	if report.Identity != engineAccount || len(report.Missing) != 0 || len(report.Unknown) != 0 {
		t.Errorf("%+v", report)
	}
	for _, words := range []string{
		"iam.serviceAccounts.disable", "storage.buckets.setIamPolicy", "hasOnly(['roles/storage.admin'])", engineAccount,
		"# service account " + robot, "iam.serviceAccountKeys.create",
	} {
		if !strings.Contains(report.RequiredPolicy, words) {
			t.Errorf("the policy lacks %s:\n%s", words, report.RequiredPolicy)
		}
	}
	if !slices.ContainsFunc(report.Warnings, func(s string) bool { return strings.Contains(s, "role broken is not valid: iam_roles") }) {
		t.Errorf("warnings: %v", report.Warnings)
	}
	for quota, want := range map[string]int{"service_accounts": 1, "principals:projects/prod-access": 2, "groups:projects/prod-access": 1, "keys:" + robot: 0} {
		if got, ok := report.Quotas[quota]; !ok || got != want {
			t.Errorf("quota %s: %d, not %d", quota, got, want)
		}
	}
	k.cloud.Deny("iam.serviceAccounts.disable")
	k.cloud.Deny("storage.buckets.setIamPolicy")
	k.cloud.Deny("iam.serviceAccounts.list")
	report, err = p.Check(t.Context(), roles)
	want := []string{
		"iam.serviceAccounts.disable on projects/prod-access", "iam.serviceAccounts.list on projects/prod-access",
		"storage.buckets.setIamPolicy on " + bucket,
	}
	if err != nil || !slices.Equal(report.Missing, want) || len(report.Unknown) != 1 {
		t.Errorf("missing %v, unknown %v, %v", report.Missing, report.Unknown, err)
	}
}

func TestCheckRefusesAnotherPlace(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	target := k.target(nil)
	target.Place = "222222222222"
	p := k.open(t, target)
	if _, err := p.Check(t.Context(), nil); err == nil {
		t.Error("another project was checked")
	}
	if err := p.List(t.Context(), func(contract.Found) error { return nil }); err == nil {
		t.Error("another project was listed")
	}
}

func TestAProbeWarnsOfWhatTheEngineLacks(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	k.cloud.Deny("iam.serviceAccounts.create")
	report := p.Validate(t.Context(), contract.Spec{Role: "r", Fields: ownToken()}, true)
	if !report.OK() || !slices.ContainsFunc(report.Warnings, func(s string) bool {
		return strings.Contains(s, "lacks iam.serviceAccounts.create on projects/prod-access")
	}) {
		t.Errorf("%+v", report)
	}
}

// TestEveryMethodThatIsCalledIsGooglesOwn goes through everything that the
// provider can do, and compares what was called with a list. The methods
// themselves, their parameters and bodies are judged at each call.
func TestEveryMethodThatIsCalledIsGooglesOwn(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	called := k.gather()
	resources := []string{
		"projects/prod-access", "folders/77", "organizations/42", bucket, vaultSecret,
		"//cloudkms.googleapis.com/projects/prod-access/locations/global/keyRings/main/cryptoKeys/db",
		"//run.googleapis.com/projects/prod-access/locations/europe-west1/services/api",
	}
	target := k.target(contract.Values{"managed_resources": resources, "impersonate": []string{"pim-engine-two@engine-home.iam.gserviceaccount.com"}})
	k.cloud.AddAccount("engine-home", "pim-engine-two@engine-home.iam.gserviceaccount.com")
	p := k.open(t, target)
	everywhere := contract.Values{
		"iam_roles": []string{"projects/prod-access/roles/reader"}, "resources": resources, "wait_for_permissions": []string{"compute.instances.get"},
	}
	user := contract.Values{"principal_source": "metadata:m", "iam_roles": []string{"organizations/42/roles/networkObserver", "roles/compute.viewer"}, "resources": []string{"organizations/42"}}
	foreign := contract.Values{"service_account_email": robot}
	specs := []contract.Spec{}
	for _, fields := range []contract.Values{everywhere, user, foreign, existingKey(), ownKey()} {
		specs = append(specs, contract.Spec{Role: "r", Fields: normalize(fields)})
		p.Validate(t.Context(), specs[len(specs)-1], true)
		_, h := k.mustIssue(t, p, fields)
		if err := p.List(t.Context(), func(contract.Found) error { return nil }); err != nil {
			t.Fatal(err)
		}
		k.mustEnd(t, p, h)
	}
	if _, err := p.Check(t.Context(), specs); err != nil {
		t.Fatal(err)
	}
	in := k.input(t, ownToken())
	h := k.plan(t, p, in)
	for range 2 { // the second time finds its own account without knowing of it
		if _, _, err := k.issue(t, p, in, h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.StageRoot(t.Context(), rotation); err != nil {
		t.Fatal(err)
	}
	if err := p.AbandonRoot(t.Context(), rotation, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"cloudkms.projects.locations.keyRings.cryptoKeys.getIamPolicy", "cloudkms.projects.locations.keyRings.cryptoKeys.setIamPolicy",
		"cloudkms.projects.locations.keyRings.cryptoKeys.testIamPermissions", "cloudresourcemanager.folders.get",
		"cloudresourcemanager.folders.getIamPolicy", "cloudresourcemanager.folders.setIamPolicy", "cloudresourcemanager.folders.testIamPermissions",
		"cloudresourcemanager.organizations.getIamPolicy", "cloudresourcemanager.organizations.setIamPolicy",
		"cloudresourcemanager.organizations.testIamPermissions", "cloudresourcemanager.projects.get", "cloudresourcemanager.projects.getIamPolicy",
		"cloudresourcemanager.projects.setIamPolicy", "cloudresourcemanager.projects.testIamPermissions",
		"iam.organizations.roles.get", "iam.projects.roles.get", "iam.projects.serviceAccounts.create", "iam.projects.serviceAccounts.delete",
		"iam.projects.serviceAccounts.disable", "iam.projects.serviceAccounts.get", "iam.projects.serviceAccounts.keys.delete",
		"iam.projects.serviceAccounts.keys.get", "iam.projects.serviceAccounts.keys.list", "iam.projects.serviceAccounts.keys.upload",
		"iam.projects.serviceAccounts.list", "iam.projects.serviceAccounts.testIamPermissions", "iam.roles.get",
		"iamcredentials.projects.serviceAccounts.generateAccessToken", "run.projects.locations.services.getIamPolicy",
		"run.projects.locations.services.setIamPolicy", "run.projects.locations.services.testIamPermissions",
		"secretmanager.projects.secrets.getIamPolicy", "secretmanager.projects.secrets.setIamPolicy", "secretmanager.projects.secrets.testIamPermissions",
		"storage.buckets.getIamPolicy", "storage.buckets.setIamPolicy", "storage.buckets.testIamPermissions",
	}
	if got := called(); !slices.Equal(got, want) {
		t.Errorf("called:\n%s\nexpected:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
