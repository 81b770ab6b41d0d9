package ssh

import (
	"net/http"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

func TestKeysThatAreNotSigned(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	made := func(args ...string) string {
		k := &key{file: t.TempDir() + "/id"}
		run(t, "ssh-keygen", append([]string{"-q", "-N", "", "-C", "", "-f", k.file}, args...)...)
		return read(t, k.file+".pub")
	}
	good := made("-t", "ed25519")
	// The public half of a 1024 bit key: ssh-keygen of today makes none.
	const dsa = "ssh-dss AAAAB3NzaC1kc3MAAACBALVO1Z7vKS9u9E1sJtA1bVh0wYkM9J0M1O6c5cF6dJb2w8VQ9mQ2pY0h3tW1pYf2W9n8Yc0a9m3J7p0KQvXw1X7s9YH7n6oYb3r8m0m9rYl3Q0d1n2f5m0k6h2m5v9y1z1b6m1q3e8n2t7c9q4y0s2f8h5j1k3l7p9o0i6u4y2t1r"
	for name, row := range map[string]struct {
		key  string
		fine bool
	}{
		"ed25519":                      {good, true},
		"ecdsa":                        {made("-t", "ecdsa", "-b", "384"), true},
		"RSA of 3072 bits":             {made("-t", "rsa", "-b", "3072"), true},
		"RSA of 2048 bits":             {made("-t", "rsa", "-b", "2048"), false},
		"DSA":                          {dsa, false},
		"none":                         {"", false},
		"text":                         {"please sign me", false},
		"with options before it":       {`command="/bin/sh" ` + good, false},
		"a certificate":                {read(t, s.sign(t, nil).file+"-cert.pub"), false},
		"a key whose end is cut off":   {good[:len(good)-12], false},
		"another parameter beside it":  {good + "\n" + good, false},
		"the private half by accident": {"-----BEGIN OPENSSH PRIVATE KEY-----", false},
	} {
		t.Run(name, func(t *testing.T) {
			ask := map[string]any{"params": map[string]string{"public_key": row.key}, "justification": "x"}
			got := s.alice.Write(t, s.path("request/"+s.asked), ask)
			if row.fine {
				id := got.OK(t).String(t, "request_id")
				s.alice.Delete(t, s.path("requests/"+id)).OK(t)
				return
			}
			got.Refused(t, http.StatusBadRequest, "")
			if !strings.Contains(string(got.Body), "params.public_key") {
				t.Errorf("the answer does not name the parameter: %s", got.Body)
			}
			if row.key != "" && strings.Contains(string(got.Body), row.key) {
				t.Errorf("the answer repeats what was sent: %s", got.Body)
			}
		})
	}
}

func TestRolesThatCannotWorkAreRefusedAtOnce(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	for name, row := range map[string]struct {
		change map[string]any
		field  string
	}{
		"no CA key":                    {map[string]any{"ca_public_key": ""}, "ca_public_key"},
		"a CA key that is none":        {map[string]any{"ca_public_key": "ssh-ed25519 AAAA"}, "ca_public_key"},
		"no principals":                {map[string]any{"valid_principals": ""}, "valid_principals"},
		"a principal with a space":     {map[string]any{"valid_principals": "deploy me"}, "valid_principals"},
		"an extension that is none":    {map[string]any{"extensions": "Permit PTY"}, "extensions"},
		"an option sshd does not know": {map[string]any{"critical_options": map[string]string{"only-from": "x"}}, "critical_options"},
		"a path that signs nothing":    {map[string]any{"path": s.engine + "/creds/prod"}, "path"},
		"a path into the host itself":  {map[string]any{"path": "sys/sign/prod"}, "path"},
		"a field of another kind":      {map[string]any{"common_name": "x"}, "common_name"},
		"no parameter for the key":     {map[string]any{"public_key_param": "key"}, "public_key_param"},
		"a bound that it cannot keep":  {map[string]any{"min_revocation": "immediate"}, "min_revocation"},
	} {
		t.Run(name, func(t *testing.T) {
			got := host.Root().Write(t, s.path("roles/"+s.asked), row.change).Refused(t, http.StatusBadRequest, "")
			if !strings.Contains(string(got.Body), row.field) {
				t.Errorf("the answer does not name %s: %s", row.field, got.Body)
			}
		})
	}
}

func TestCheckNamesWhatWouldMakeEveryIssueFail(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	check := func() harness.Answer { return host.Root().Read(t, s.targetPath+"/check").OK(t) }
	host.Root().Write(t, s.path("roles/another-ca"), s.roleWith(map[string]any{"ca_public_key": newKey(t).public})).OK(t)
	host.Root().Write(t, s.path("roles/too-much"), s.roleWith(map[string]any{"valid_principals": "deploy,admin"})).OK(t)
	s.writeEngineRole(t, map[string]any{"allow_user_key_ids": false})
	got := strings.Join(check().Warnings, "\n")
	for _, want := range []string{
		"role another-ca: ca_public_key is not the key of the engine at path",
		"role too-much: valid_principals holds a name that the engine's role does not allow",
		"role shell: path the engine's role must have allow_user_key_ids=true",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("check does not say %q:\n%s", want, got)
		}
	}
	if policy := check().String(t, "required_policy"); !strings.Contains(policy, s.engine+"/sign/prod") || !strings.Contains(policy, s.engine+"/config/ca") {
		t.Errorf("the policy is not whole:\n%s", policy)
	}
}

func TestWhatTheEngineDoesNotSignIsOnNoList(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	for name, change := range map[string]map[string]any{
		"principals that it does not allow": {"allowed_users": "nobody"},
		"key ids that it does not allow":    {"allow_user_key_ids": false},
		"a life that it does not allow":     {"max_ttl": "1m", "ttl": "1m"},
		"extensions that it does not allow": {"allowed_extensions": "permit-X11-forwarding"},
	} {
		t.Run(name, func(t *testing.T) {
			s.writeEngineRole(t, change)
			before := s.info(t)
			s.refused(t, newKey(t), http.StatusBadRequest, "the target refused: ")
			if after := s.info(t); after != before {
				t.Errorf("the list was %+v and is %+v", before, after)
			}
		})
	}
}

// refused has alice ask for a certificate that she must not get.
func (s *site) refused(t *testing.T, k *key, status int, prefix string) {
	t.Helper()
	s.alice.Write(t, s.path("creds/"+s.role), map[string]any{"params": map[string]string{"public_key": k.public}}).Refused(t, status, prefix)
}

func TestACertificateThatNobodyGotIsRevoked(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	d := startSSHD(t, s)
	// ends asks for a certificate that is signed and not handed out. Whoever got
	// hold of it anyway does not get in.
	ends := func(t *testing.T, status int, prefix string) {
		t.Helper()
		before := s.info(t)
		k := newKey(t)
		s.refused(t, k, status, prefix)
		write(t, k.file+"-cert.pub", s.tap.Last(t))
		d.letsIn(t, k)
		if after := s.info(t); after.entries != before.entries+1 {
			t.Errorf("the list had %d entries and has %d", before.entries, after.entries)
		}
		d.fetch(t)
		d.refuses(t, k)
	}
	t.Run("the answer is lost", func(t *testing.T) {
		s.tap.LoseAnswers(true)
		defer s.tap.LoseAnswers(false)
		ends(t, http.StatusBadGateway, "")
	})
	t.Run("the engine gives extensions that nobody approved", func(t *testing.T) {
		host.Root().Write(t, s.path("roles/"+s.role), map[string]any{"extensions": ""}).OK(t)
		s.writeEngineRole(t, map[string]any{"default_extensions": map[string]string{"permit-agent-forwarding": ""}})
		defer func() {
			host.Root().Write(t, s.path("roles/"+s.role), map[string]any{"extensions": "permit-pty"}).OK(t)
		}()
		defer s.writeEngineRole(t, nil)
		ends(t, http.StatusBadRequest, "the target refused: ")
	})
	t.Run("the engine gives options that nobody approved", func(t *testing.T) {
		s.writeEngineRole(t, map[string]any{"default_critical_options": map[string]string{"force-command": "echo inside"}})
		defer s.writeEngineRole(t, nil)
		ends(t, http.StatusBadRequest, "the target refused: ")
	})
	t.Run("another CA has signed it, which the servers trust already", func(t *testing.T) {
		s.newCA(t)
		write(t, d.at("ca.pub"), s.ca+"\n")
		ends(t, http.StatusBadRequest, "the target refused: ")
	})
}
