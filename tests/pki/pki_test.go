package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

func parse(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificatesVerifyUntilTheyAreRevoked(t *testing.T) {
	for _, row := range []struct {
		name       string
		engineRole map[string]any
		crl        map[string]any
		csr        bool
	}{
		{name: "the engine makes the key"},
		{name: "the engine leases its certificates", engineRole: map[string]any{"generate_lease": true}},
		{name: "the engine rebuilds its CRL from time to time", crl: map[string]any{"auto_rebuild": true}},
		{name: "the requester has the key", csr: true},
		{name: "the requester has the key, and the engine leases", csr: true, engineRole: map[string]any{"generate_lease": true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t)
			s.writeEngineRole(t, row.engineRole)
			if row.crl != nil {
				host.Root().Write(t, s.engine+"/config/crl", row.crl).OK(t)
				host.Root().Read(t, s.engine+"/crl/rotate").OK(t)
			}
			ask := map[string]any{}
			if row.csr {
				s.forCSR(t)
				ask["params"] = map[string]string{"name": "www.prod.example", "csr": s.csr(t)}
			}
			one, other := s.issue(t, ask), s.issue(t, ask)
			s.valid(t, one.file)
			s.valid(t, other.file)
			got := parse(t, one.file)
			names := slices.Clone(got.DNSNames)
			slices.Sort(names)
			if got.Subject.CommonName != "www.prod.example" || !slices.Equal(names, []string{"app.prod.example", "www.prod.example"}) {
				t.Errorf("other names than were approved: %v %v", got.Subject, got.DNSNames)
			}
			if class := one.answer.String(t, "pim_revocation"); class != "propagating" {
				t.Errorf("the class is %s", class)
			}
			if survives := one.answer.String(t, "pim_revocation_survives"); !strings.Contains(survives, "offline_verifiers") {
				t.Errorf("it survives %s", survives)
			}
			if key, ok := one.answer.Data["private_key"].(string); ok == row.csr {
				t.Errorf("a private key in the answer: %v", ok)
			} else if ok {
				if _, err := tls.X509KeyPair([]byte(one.answer.String(t, "certificate")), []byte(key)); err != nil {
					t.Error(err)
				}
				host.NoTrace(t, strings.Split(key, "\n")[1])
			}
			s.revokeLease(t, one)
			s.revoked(t, one.file)
			s.valid(t, other.file)
			s.revokeLease(t, one)
			host.Root().Write(t, s.path("revoke"), map[string]any{"role": roleName, "reason": "drill"}).OK(t)
			poll.Until(t, 30*time.Second, func() error {
				if s.verify(t, other.file) == nil {
					return errors.New("the other one is not revoked yet")
				}
				return nil
			})
			s.revoked(t, other.file)
		})
	}
}

func TestTheWindowEndsWithoutUs(t *testing.T) {
	s := newSite(t)
	c := s.issue(t, map[string]any{"ttl": "6s"})
	s.valid(t, c.file)
	poll.Until(t, 30*time.Second, func() error {
		if err := s.verify(t, c.file); err == nil || !strings.Contains(err.Error(), "expired") {
			return errors.New("it has not expired yet")
		}
		return nil
	})
	poll.Until(t, 30*time.Second, func() error {
		if a := host.Root().Read(t, s.path("audit/requests/"+c.grant)).OK(t); !strings.Contains(string(a.Body), " gone, planned") {
			return errors.New("it does not count as gone yet")
		}
		return nil
	})
	if state := host.Root().Read(t, s.engine+"/cert/"+c.serial).OK(t); state.Data["revocation_time"] != 0.0 {
		t.Error("a certificate that ended by itself was revoked")
	}
}

func TestAnswersThatAreLost(t *testing.T) {
	// lost has a certificate issued whose answer nobody gets.
	lost := func(t *testing.T, s *site, ask map[string]any) string {
		t.Helper()
		s.tap.LoseAnswers(true)
		defer s.tap.LoseAnswers(false)
		if got := s.ask(t, ask); got.Status != http.StatusBadGateway {
			t.Fatalf("%d %s", got.Status, got.Body)
		}
		return s.last(t)
	}
	t.Run("a certificate for the requester's key is found and revoked", func(t *testing.T) {
		s := newSite(t)
		s.forCSR(t)
		ask := map[string]any{"params": map[string]string{"name": "www.prod.example", "csr": s.csr(t)}}
		s.revoked(t, lost(t, s, ask))
	})
	t.Run("one of a leasing engine ends with the token that asked for it", func(t *testing.T) {
		s := newSite(t)
		s.writeEngineRole(t, map[string]any{"generate_lease": true})
		file := lost(t, s, nil)
		poll.Until(t, 30*time.Second, func() error {
			if s.verify(t, file) == nil {
				return errors.New("it is not revoked yet")
			}
			return nil
		})
		s.revoked(t, file)
	})
	t.Run("else it stays until its end, and nobody has its key", func(t *testing.T) {
		s := newSite(t)
		file := lost(t, s, nil)
		s.valid(t, file)
		if end := parse(t, file).NotAfter; end.After(time.Now().Add(10*time.Minute + 5*time.Second)) {
			t.Errorf("it lives until %s, longer than the window", end)
		}
	})
}

func TestWhatDiffersIsRevokedAndRefused(t *testing.T) {
	s := newSite(t)
	for _, row := range []struct {
		name   string
		engine map[string]any
		role   map[string]any
		issued bool // the engine had issued it before anybody could see
	}{
		{"a subject that nobody approved", map[string]any{"organization": "system:masters"}, nil, true},
		{"a unit that nobody approved", map[string]any{"ou": "admins"}, nil, true},
		{"an organization that is missing", map[string]any{"organization": ""}, nil, true},
		{"an engine that does not store", map[string]any{"no_store": true}, nil, false},
		{"a life that it does not allow", map[string]any{"max_ttl": "1h", "not_after": "2099-01-01T00:00:00Z"}, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.writeEngineRole(t, row.engine)
			defer s.writeEngineRole(t, map[string]any{"not_after": ""})
			before := len(s.tap.Made())
			s.ask(t, nil).Refused(t, http.StatusBadRequest, "the target refused: ")
			if issued := len(s.tap.Made()) > before; issued != row.issued {
				t.Fatalf("issued: %v", issued)
			}
			if row.issued {
				s.revoked(t, s.last(t))
			}
		})
	}
}

func TestEnginesThatCannotRevokeAreRefused(t *testing.T) {
	s := newSite(t)
	refused := func(t *testing.T, says string, ask map[string]any) {
		t.Helper()
		before := len(s.tap.Made())
		got := s.ask(t, ask).Refused(t, http.StatusBadRequest, "the target refused: ")
		if !strings.Contains(string(got.Body), says) || len(s.tap.Made()) != before {
			t.Errorf("%d issued; %s", len(s.tap.Made())-before, got.Body)
		}
	}
	t.Run("no CRL", func(t *testing.T) {
		host.Root().Write(t, s.engine+"/config/crl", map[string]any{"disable": true}).OK(t)
		refused(t, "no CRL", nil)
		host.Root().Write(t, s.engine+"/config/crl", map[string]any{"disable": false}).OK(t)
	})
	s.forCSR(t)
	for _, field := range []string{"use_csr_common_name", "use_csr_sans"} {
		t.Run(field, func(t *testing.T) {
			s.writeEngineRole(t, map[string]any{field: true})
			defer s.writeEngineRole(t, nil)
			refused(t, "takes names from the request", map[string]any{"params": map[string]string{"name": "a.example", "csr": s.csr(t)}})
		})
	}
}

func TestParametersThatAreRefusedWhenTheyAreSent(t *testing.T) {
	s := newSite(t)
	for name, value := range map[string]string{
		"a second name behind a comma": "www.prod.example,admin.prod.example",
		"a line break":                 "www.prod.example\nadmin",
		"no name":                      "",
		"a long one":                   strings.Repeat("a", 70),
	} {
		if got := s.ask(t, map[string]any{"params": map[string]string{"name": value}}); got.Status != http.StatusBadRequest || !strings.Contains(string(got.Body), "params.name") {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	s.forCSR(t)
	for name, value := range map[string]string{"no request": "", "text": "please", "a request that is cut": s.csr(t)[:200]} {
		got := s.ask(t, map[string]any{"params": map[string]string{"name": "a.example", "csr": value}})
		if got.Status != http.StatusBadRequest || !strings.Contains(string(got.Body), "params.csr") {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	if len(s.tap.Made()) != 0 {
		t.Error("something was issued")
	}
}

func TestRolesThatCannotWorkAreRefusedAtOnce(t *testing.T) {
	s := newSite(t)
	for name, row := range map[string]struct {
		change map[string]any
		field  string
	}{
		"no name at all":              {map[string]any{"common_name": "", "alt_names": "", "ip_sans": "", "uri_sans": ""}, "common_name"},
		"a parameter nobody declared": {map[string]any{"common_name": "{{params.host}}"}, "common_name"},
		"half a parameter":            {map[string]any{"alt_names": "{{params.name}}.example"}, "alt_names"},
		"an address that is none":     {map[string]any{"ip_sans": "10.0.0"}, "ip_sans"},
		"a URI that is none":          {map[string]any{"uri_sans": "prod"}, "uri_sans"},
		"the common name twice":       {map[string]any{"subject": "CN=x"}, "subject"},
		"a path that issues nothing":  {map[string]any{"path": s.engine + "/root/generate/exported"}, "path"},
		"no check of names at all":    {map[string]any{"path": s.engine + "/sign-verbatim/web"}, "path"},
		"a request without a place":   {map[string]any{"path": s.engine + "/sign/web", "csr_param": "request"}, "csr_param"},
		"a field of another kind":     {map[string]any{"valid_principals": "x"}, "valid_principals"},
	} {
		got := host.Root().Write(t, s.path("roles/"+roleName), row.change).Refused(t, http.StatusBadRequest, "")
		if !strings.Contains(string(got.Body), row.field) {
			t.Errorf("%s: the answer does not name %s: %s", name, row.field, got.Body)
		}
	}
}

func TestCheckAsksForWhatIsNeeded(t *testing.T) {
	s := newSite(t)
	s.forCSR(t)
	s.writeEngineRole(t, map[string]any{"use_csr_sans": true})
	got := host.Root().Read(t, s.path("targets/local/check")).OK(t)
	if missing, _ := got.Data["missing"].([]any); len(missing) != 0 {
		t.Errorf("missing %v", missing)
	}
	policy := got.String(t, "required_policy")
	for _, line := range []string{"/roles/web", "/config/crl", "/revoke", "/crl/rotate", "/certs", "/sign/web"} {
		if !strings.Contains(policy, s.engine+line) {
			t.Errorf("the policy lacks %s:\n%s", line, policy)
		}
	}
	if !strings.Contains(strings.Join(got.Warnings, "\n"), "role web: path the engine's role takes names from the request") {
		t.Errorf("warnings %v", got.Warnings)
	}
}
