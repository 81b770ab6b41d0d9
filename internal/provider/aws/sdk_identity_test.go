package aws

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// webIdentity answers a token with a session that the next call uses.
func TestAWebIdentityTokenFromAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("first-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWire(t, func(r wireRequest) (int, string) {
		if r.Action == "AssumeRoleWithWebIdentity" {
			return http.StatusOK, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>` +
				`<Credentials><AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>` +
				`<Expiration>2036-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
		}
		return wireIdentity()
	})
	p := onWire(t, w, func(env *contract.Env, target *contract.Target) {
		env.FileRoot = dir
		target.Secrets = nil
		target.Fields["root_credential"], target.Fields["web_identity_token_file"] = sourceWebIdentity, "token"
		target.Fields["web_identity_role_arn"] = roleARN(homeAccount, "web")
	})
	if _, err := p.Place(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.requests[0].Form.Get("WebIdentityToken"); got != "first-token" {
		t.Errorf("token %q", got)
	}
	if auth := w.requests[1].Header.Get("Authorization"); !strings.Contains(auth, "ASIAWEB") {
		t.Errorf("the next call is signed %s", auth)
	}
}

func TestTheEnvironmentsOwnIdentity(t *testing.T) {
	w := newWire(t, func(wireRequest) (int, string) { return wireIdentity() })
	fromEnvironment := func(_ *contract.Env, target *contract.Target) {
		target.Secrets = nil
		target.Fields["root_credential"] = sourceEnvironment
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "environment-secret")
	if _, err := onWire(t, w, fromEnvironment).Place(t.Context()); err != nil {
		t.Fatal(err)
	}
	if auth := w.requests[0].Header.Get("Authorization"); !strings.Contains(auth, "AKIAENVIRONMENT") {
		t.Errorf("signed %s", auth)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	if _, err := onWire(t, w, fromEnvironment).Place(t.Context()); err == nil {
		t.Error("an environment without credentials gave some")
	}
}

// The identity of the machine or container is asked for where its platform
// offers it.
func TestTheIdentityOfTheMachine(t *testing.T) {
	const keys = `{"Code":"Success","AccessKeyId":"ASIAMACHINE","SecretAccessKey":"machine-secret","Token":"t","Expiration":"2036-01-01T00:00:00Z"}`
	for source, environment := range map[string]string{
		sourceInstance: "AWS_EC2_METADATA_SERVICE_ENDPOINT", sourceContainer: "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	} {
		t.Run(source, func(t *testing.T) {
			w := newWire(t, func(r wireRequest) (int, string) {
				switch {
				case strings.HasSuffix(r.URL, "/latest/api/token"):
					return http.StatusOK, "session-of-the-metadata-service"
				case strings.HasSuffix(r.URL, "/security-credentials/"):
					return http.StatusOK, "role-of-the-machine"
				case strings.HasSuffix(r.URL, "/role-of-the-machine"), r.Header.Get("Authorization") == "token-of-the-container":
					return http.StatusOK, keys
				}
				return wireIdentity()
			})
			t.Setenv(environment, w.URL)
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token-of-the-container")
			p := onWire(t, w, func(_ *contract.Env, target *contract.Target) {
				target.Secrets = nil
				target.Fields["root_credential"] = source
			})
			if _, err := p.Place(t.Context()); err != nil {
				t.Fatal(err)
			}
			if auth := w.requests[len(w.requests)-1].Header.Get("Authorization"); !strings.Contains(auth, "ASIAMACHINE") {
				t.Errorf("signed %s", auth)
			}
		})
	}
}

func TestABaseRoleIsAssumedFirst(t *testing.T) {
	t.Parallel()
	w := newWire(t, answerAssume)
	p := onWire(t, w, func(_ *contract.Env, target *contract.Target) {
		target.Fields["base_role_arn"], target.Fields["external_id"] = roleARN(homeAccount, "pim-base"), "ex-2"
	})
	if _, err := p.Place(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, second := w.requests[0], w.requests[1]
	if first.Action != "AssumeRole" || first.Form.Get("RoleSessionName") != "pim-base" || first.Form.Get("ExternalId") != "ex-2" || first.Form.Get("SourceIdentity") != "" {
		t.Errorf("first %v", first.Form)
	}
	if !strings.Contains(second.Header.Get("Authorization"), "ASIA1111111111111111") {
		t.Error("the second call is not the base role's")
	}
}
