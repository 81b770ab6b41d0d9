package aws

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

func TestTargetsThatAreNotValid(t *testing.T) {
	t.Parallel()
	keys := map[string]secret.String{"access_key": secret.New(rootKey), "secret_key": secret.New(rootSecret)}
	for _, row := range []struct {
		name    string
		env     contract.Env
		fields  contract.Values
		secrets map[string]secret.String
		want    []string // "field: part of the text"
	}{
		{"no keys", contract.Env{}, contract.Values{}, nil, []string{"access_key: is required", "secret_key: is required"}},
		{"the plugin's own identity where it is not allowed", contract.Env{}, contract.Values{"root_credential": sourceInstance}, nil, []string{"root_credential: PIM_ALLOW_AMBIENT"}},
		{"the plugin's own identity where another type's is allowed", contract.Env{AllowAmbient: []string{"gcp"}}, contract.Values{"root_credential": sourceContainer}, nil, []string{"root_credential: PIM_ALLOW_AMBIENT"}},
		{"keys beside another identity", contract.Env{AllowAmbient: []string{Type}}, contract.Values{"root_credential": sourceEnvironment}, keys, []string{"access_key: belongs to"}},
		{"a token file without a root for files", contract.Env{}, contract.Values{"root_credential": sourceWebIdentity, "web_identity_token_file": "token"}, nil, []string{"web_identity_token_file: PIM_FILE_ROOT", "web_identity_role_arn: is required"}},
		{"a token file outside of the root", contract.Env{FileRoot: "/srv"}, contract.Values{"root_credential": sourceWebIdentity, "web_identity_token_file": "../etc/passwd"}, nil, []string{"web_identity_token_file: below PIM_FILE_ROOT"}},
		{"an absolute token file", contract.Env{FileRoot: "/srv"}, contract.Values{"root_credential": sourceWebIdentity, "web_identity_token_file": "/etc/passwd"}, nil, []string{"web_identity_token_file: below PIM_FILE_ROOT"}},
		{"a token file beside keys", contract.Env{FileRoot: "/srv"}, contract.Values{"web_identity_token_file": "token"}, keys, []string{"web_identity_token_file: belongs to"}},
		{"an endpoint on loopback", contract.Env{}, contract.Values{"sts_endpoint": "http://127.0.0.1:1"}, keys, []string{"sts_endpoint: PIM_ALLOW_LOCAL"}},
		{"an endpoint by the name of loopback", contract.Env{}, contract.Values{"iam_endpoint": "https://localhost./"}, keys, []string{"iam_endpoint: PIM_ALLOW_LOCAL"}},
		{"the metadata service as an endpoint", contract.Env{}, contract.Values{"signin_endpoint": "http://169.254.169.254"}, keys, []string{"signin_endpoint: PIM_ALLOW_LOCAL"}},
		{"loopback inside an IPv6 address", contract.Env{}, contract.Values{"sts_endpoint": "https://[::ffff:127.0.0.1]"}, keys, []string{"sts_endpoint: PIM_ALLOW_LOCAL"}},
		{"plain HTTP to somewhere else", contract.Env{AllowLocal: true}, contract.Values{"organizations_endpoint": "http://example.com"}, keys, []string{"organizations_endpoint: https"}},
		{"an endpoint with more than a host", contract.Env{}, contract.Values{"identity_store_endpoint": "https://u:p@example.com", "identity_center_endpoint": "https://example.com/x?y"}, keys, []string{"identity_store_endpoint: scheme and host", "identity_center_endpoint: scheme and host"}},
		{"something that is no URL", contract.Env{}, contract.Values{"sts_endpoint": "sts"}, keys, []string{"sts_endpoint: scheme and host"}},
		{
			"fallbacks that do not match",
			contract.Env{},
			contract.Values{"sts_fallback_endpoints": []string{"https://a.example.com", "ftp://b.example.com"}, "sts_fallback_regions": []string{"mars"}},
			keys,
			[]string{"sts_fallback_endpoints: one entry", "sts_fallback_endpoints: https", "sts_fallback_regions: region"},
		},
		{"roles that are none", contract.Env{}, contract.Values{"base_role_arn": "x", "revoker_role_arn": userARNOf(homeAccount, "x")}, keys, []string{"base_role_arn: not the ARN", "revoker_role_arn: not the ARN"}},
		{"regions that are none", contract.Env{}, contract.Values{"region": "EU", "sts_region": "x y"}, keys, []string{"region: region", "sts_region: region"}},
		{"an instance that is none", contract.Env{}, contract.Values{"identity_center_arn": "ssoins-1"}, keys, []string{"identity_center_arn: instance"}},
		{"too many retries", contract.Env{}, contract.Values{"max_retries": 99, "external_id": "x"}, keys, []string{"max_retries: from 0", "external_id: form"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			report := checkTarget(row.env, contract.Target{Name: "prod", Fields: row.fields, Secrets: row.secrets})
			for _, want := range row.want {
				field, text, _ := strings.Cut(want, ": ")
				if !slices.ContainsFunc(report.Problems, func(p contract.Problem) bool { return p.Field == field && strings.Contains(p.Text, text) }) {
					t.Errorf("%q is not reported: %v", want, report.Problems)
				}
			}
			if _, err := open(row.env, contract.Target{Fields: row.fields, Secrets: row.secrets}, dialAWS, usualPace()); codeOf(err) != "bad_target" {
				t.Errorf("it was opened: %v", err)
			}
		})
	}
}

func TestFilesAreReadBelowTheirRootAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(root, 0o700))
	must(os.WriteFile(filepath.Join(root, "token"), []byte("inside"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "token"), []byte("outside"), 0o600))
	must(os.Symlink(filepath.Join(dir, "token"), filepath.Join(root, "link")))
	if data, err := readFile(root, "token"); err != nil || string(data) != "inside" {
		t.Errorf("%q, %v", data, err)
	}
	for _, name := range []string{"link", "../token", "none"} {
		if data, err := readFile(root, name); err == nil {
			t.Errorf("%s was read: %q", name, data)
		}
	}
}

func TestLocalAddresses(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "169.254.170.2": true, "fe80::1": true, "0.0.0.0": true, "LOCALHOST": true, "x.localhost": true,
		"10.0.0.1": false, "sts.eu-west-1.amazonaws.com": false, "localhost.example.com": false,
	} {
		if isLocalHost(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
}

func TestPartsOfARNs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][3]string{
		"arn:aws:iam::111111111111:role/a/b/name":             {"name", "", ""},
		"arn:aws-us-gov:iam::111111111111:user/a/name":        {"", "name", ""},
		"arn:aws:sts::111111111111:assumed-role/name/session": {"", "", "name"},
		"arn:aws:iam::111111111111:root":                      {"", "", ""},
		"arn:aws:iam::111111111111:role/":                     {"", "", ""},
		"arn:gcp:iam::1:role/x":                               {"", "", ""},
		"role/x":                                              {"", "", ""},
	} {
		a, _ := parseARN(text)
		role, _ := a.roleName()
		user, _ := a.userName()
		session, _ := a.sessionRole()
		if got := [3]string{role, user, session}; got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}
