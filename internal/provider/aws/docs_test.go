package aws

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

var (
	jsonBlock = regexp.MustCompile("(?s)```json\n(.*?)```")
	blanks    = regexp.MustCompile(`\s+`)
)

// indented is a policy as a page shows it.
func indented(t *testing.T, text string) string {
	t.Helper()
	var d any
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// The page has the minimal policy of every credential type, as check would
// print it.
func TestThePageHasTheMinimalPolicies(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../../docs/providers/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, block := range jsonBlock.FindAllStringSubmatch(string(raw), -1) {
		shown[indented(t, block[1])] = true
	}
	p := newFakeAWS().open(t, nil)
	who := identity{ARN: userARNOf(homeAccount, "pim"), Account: homeAccount}
	issuer := func(by needBy) bool { return by == byIssuer }
	for _, row := range []struct {
		name   string
		fields contract.Values
		keep   func(needBy) bool
	}{
		{"issuing sessions of a role", role("session_tags", map[string]string{"who": "{{person}}"}), issuer},
		{"revoking them", role(), func(by needBy) bool { return by == byRevoker }},
		{"users", contract.Values{"credential_type": kindUser, "iam_groups": []string{"admins"}}, issuer},
		{"federation tokens", federationFields(), issuer},
		{"denying federation tokens", federationFields("revocation", string(domain.Propagating)), func(by needBy) bool { return by == byRevoker }},
		{"assignments, with a service control policy", centerFields("scp_deny", fakeRail), issuer},
		{"rotating the root credential", role(), func(by needBy) bool { return by == byRoot }},
	} {
		policy, err := requiredPolicy(p.needs([]contract.Spec{{Role: "prod", Fields: row.fields}}, who), row.keep)
		if err != nil {
			t.Fatal(err)
		}
		if want := indented(t, policy); !shown[want] {
			t.Errorf("the policy for %s is not on the page:\n%s", row.name, blanks.ReplaceAllString(strings.ReplaceAll(want, "\n", " "), " "))
		}
	}
}
