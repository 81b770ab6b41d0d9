package gcp

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const federated = "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/pim"

// files is a PIM_FILE_ROOT with files in it.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// federation is a federation configuration with some fields changed.
func federation(t *testing.T, change map[string]any) string {
	t.Helper()
	fields := map[string]any{
		"type": kindExternal, "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/oidc",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
		"credential_source": map[string]any{"file": "subject.jwt"},
	}
	maps.Copy(fields, change)
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestTheEngineLogsIn(t *testing.T) {
	t.Parallel()
	const (
		one = "one@engine-home.iam.gserviceaccount.com"
		two = "two@engine-home.iam.gserviceaccount.com"
	)
	for name, row := range map[string]struct {
		files   func(t *testing.T, k *kit) map[string]string
		fields  contract.Values
		ambient bool
		machine string // its identity, if it is not the engine's usual one
		env     string // GOOGLE_APPLICATION_CREDENTIALS, a name in the root
		who     string
		through []string
	}{
		"with a key in the target": {who: engineAccount},
		"with a key in a file": {
			files:  func(_ *testing.T, k *kit) map[string]string { return map[string]string{"key.json": k.root.Reveal()} },
			fields: contract.Values{"credentials_file": "key.json"}, who: engineAccount,
		},
		"through a chain of accounts": {fields: contract.Values{"impersonate": []string{one, two}}, who: two, through: []string{engineAccount, two}},
		"federated, as itself": {
			files: func(t *testing.T, _ *kit) map[string]string {
				return map[string]string{"wif.json": federation(t, nil), "subject.jwt": "subject-token\n"}
			},
			fields: contract.Values{"credentials_file": "wif.json"}, who: "a federated identity", through: []string{federated},
		},
		"federated, through an account, the token in JSON": {
			files: func(t *testing.T, _ *kit) map[string]string {
				return map[string]string{
					"wif.json": federation(t, map[string]any{
						"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + one + ":generateAccessToken",
						"credential_source":                 map[string]any{"file": "subject.json", "format": map[string]any{"type": "json", "subject_token_field_name": "t"}},
					}),
					"subject.json": `{"t":"subject-token"}`,
				}
			},
			fields: contract.Values{"credentials_file": "wif.json"}, who: one, through: []string{federated, one},
		},
		"as the machine":             {ambient: true, who: engineAccount},
		"as a workload of a cluster": {ambient: true, machine: "my-cluster.svc.id.goog", who: "a federated identity"},
		"as the environment says": {
			files:   func(_ *testing.T, k *kit) map[string]string { return map[string]string{"adc.json": k.root.Reveal()} },
			ambient: true, env: "adc.json", who: engineAccount,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			for _, email := range []string{one, two} {
				k.cloud.AddAccount("engine-home", email)
				k.cloud.Empower(email)
			}
			k.cloud.Trust("subject-token", federated)
			k.cloud.Machine(cmp.Or(row.machine, engineAccount))
			k.cloud.Empower("my-cluster.svc.id.goog")
			content := map[string]string{}
			if row.files != nil {
				content = row.files(t, k)
			}
			root := files(t, content)
			target := k.target(row.fields)
			if row.ambient || row.fields.String("credentials_file") != "" {
				target.Secrets = nil
			}
			env, w := k.env(), k.surroundings()
			env.FileRoot = root
			if row.ambient {
				env.AllowAmbient = []string{"aws", Type}
			}
			w.getenv = func(key string) string {
				if key == "GOOGLE_APPLICATION_CREDENTIALS" && row.env != "" {
					return filepath.Join(root, row.env)
				}
				return ""
			}
			p, err := open(w, env, target)
			if err != nil {
				t.Fatal(err)
			}
			report, err := p.Check(t.Context(), nil)
			if err != nil || report.Identity != row.who {
				t.Fatalf("%q, %v", report.Identity, err)
			}
			for _, email := range row.through {
				if !slices.Contains(k.cloud.Delegated(), email) {
					t.Errorf("no token was made of %s: %v", email, k.cloud.Delegated())
				}
			}
			_, h := k.mustIssue(t, p, ownUser())
			k.mustEnd(t, p, h)
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFilesThatAreRefusedWhenTheyAreRead(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		files map[string]any // changes of the federation configuration; nil = no such file
		text  string         // the whole file, instead
		words string
	}{
		"no file":                                 {nil, "", "could not be read"},
		"something else":                          {nil, `{"type":"authorized_user"}`, "JSON of a service account key"},
		"a subject token from an address":         {map[string]any{"credential_source": map[string]any{"url": "http://169.254.169.254/"}}, "", "from a file"},
		"a subject token from a program":          {map[string]any{"credential_source": map[string]any{"executable": map[string]any{"command": "id"}, "file": "x"}}, "", "from a file"},
		"a subject token from AWS":                {map[string]any{"credential_source": map[string]any{"environment_id": "aws1", "file": "x"}}, "", "from a file"},
		"a subject token outside of the root":     {map[string]any{"credential_source": map[string]any{"file": "../../etc/passwd"}}, "", "below PIM_FILE_ROOT"},
		"a subject token that is not there":       {map[string]any{"credential_source": map[string]any{"file": "nothing"}}, "", "could not be read"},
		"a token_url that is somebody else's":     {map[string]any{"token_url": "https://evil.example.com/v1/token"}, "", "token_url"},
		"an impersonation of no service account":  {map[string]any{"service_account_impersonation_url": "https://evil.example.com/x"}, "", "no service account"},
		"a federation configuration without type": {map[string]any{"subject_token_type": ""}, "", "lacks audience"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			content := map[string]string{"subject.jwt": "subject-token"}
			switch {
			case row.text != "":
				content["credential.json"] = row.text
			case row.files != nil:
				content["credential.json"] = federation(t, row.files)
			}
			env := k.env()
			env.FileRoot = files(t, content)
			target := k.target(contract.Values{"credentials_file": "credential.json"})
			target.Secrets = nil
			p, err := open(k.surroundings(), env, target)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Place(t.Context())
			own := publicOf(err)
			if err == nil || !strings.Contains(own, row.words) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change  contract.Values
		secret  string // instead of the usual key; "-" = none
		local   bool
		root    string
		ambient []string
		wrong   string
	}{
		"the usual one":                              {},
		"no project":                                 {change: contract.Values{"project": ""}, wrong: "project"},
		"a project's number":                         {change: contract.Values{"project": "111111111111"}, wrong: "project"},
		"a project of an old organization":           {change: contract.Values{"project": "example.com:prod-access", "managed_resources": []string{bucket}}},
		"no credential":                              {secret: "-", wrong: "credentials"},
		"the process's own identity, not allowed":    {secret: "-", ambient: []string{"aws"}, wrong: "credentials"},
		"the process's own identity":                 {secret: "-", ambient: []string{"gcp"}},
		"a key and a file":                           {change: contract.Values{"credentials_file": "x.json"}, root: "/etc/pim", wrong: "credentials_file"},
		"a file and no root":                         {secret: "-", change: contract.Values{"credentials_file": "x.json"}, wrong: "credentials_file"},
		"a file outside of the root":                 {secret: "-", change: contract.Values{"credentials_file": "/etc/passwd"}, root: "/etc/pim", wrong: "credentials_file"},
		"a file inside of the root":                  {secret: "-", change: contract.Values{"credentials_file": "/etc/pim/x.json"}, root: "/etc/pim"},
		"a key that is none":                         {secret: `{"type":"service_account"}`, wrong: "credentials"},
		"a key that goes elsewhere":                  {secret: "evil", wrong: "credentials"},
		"an endpoint of one's own":                   {change: contract.Values{"endpoints": map[string]string{"iam": "https://iam-pim.p.googleapis.com"}}},
		"an endpoint without TLS":                    {change: contract.Values{"endpoints": map[string]string{"iam": "http://iam.example.com"}}, wrong: "endpoints"},
		"an endpoint on this machine":                {change: contract.Values{"endpoints": map[string]string{"iam": "http://127.0.0.1:1"}}, wrong: "endpoints"},
		"an endpoint on this machine, allowed":       {change: contract.Values{"endpoints": map[string]string{"iam": "http://127.0.0.1:1"}}, local: true},
		"the metadata server as an endpoint":         {change: contract.Values{"endpoints": map[string]string{"storage": "http://169.254.169.254"}}, wrong: "endpoints"},
		"an endpoint of another service":             {change: contract.Values{"endpoints": map[string]string{"compute": "https://x.example.com"}}, wrong: "endpoints"},
		"an endpoint with a password":                {change: contract.Values{"endpoints": map[string]string{"iam": "https://a:b@x.example.com"}}, wrong: "endpoints"},
		"a chain through a person":                   {change: contract.Values{"impersonate": []string{"alice@example.com"}}, wrong: "impersonate"},
		"a chain that is too long":                   {change: contract.Values{"impersonate": []string{robot, robot, robot, robot, robot, robot}}, wrong: "impersonate"},
		"a managed resource that takes no condition": {change: contract.Values{"managed_resources": []string{"//pubsub.googleapis.com/projects/p/topics/t"}}, wrong: "managed_resources"},
		"a managed resource with dots":               {change: contract.Values{"managed_resources": []string{"//storage.googleapis.com/buckets/.."}}, wrong: "managed_resources"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			target := k.target(row.change)
			switch row.secret {
			case "":
			case "-":
				target.Secrets = nil
			case "evil":
				target.Secrets["credentials"] = secret.New(strings.Replace(k.root.Reveal(), "oauth2.googleapis.com", "evil.example.com", 1))
			default:
				target.Secrets["credentials"] = secret.New(row.secret)
			}
			env := k.env()
			env.AllowLocal, env.FileRoot, env.AllowAmbient = row.local, row.root, row.ambient
			report := describe(k.surroundings()).CheckTarget(env, target)
			if row.wrong == "" && !report.OK() {
				t.Errorf("refused: %v", report.Problems)
			}
			if row.wrong != "" && !slices.ContainsFunc(report.Problems, func(p contract.Problem) bool { return p.Field == row.wrong }) {
				t.Errorf("field %s was taken: %v", row.wrong, report.Problems)
			}
			if _, err := open(k.surroundings(), env, target); (err == nil) != report.OK() {
				t.Errorf("open: %v", err)
			}
		})
	}
}
