package host_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
)

func (b *bench) certify() (contract.Issued, domain.Handle, error) {
	b.Helper()
	return b.askWith(pkiRole(), map[string]string{"name": "www.prod.example"})
}

// living counts the certificates that are neither on the CRL nor expired.
func (b *bench) living() int {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	n := 0
	for serial := range b.f.pki.certs {
		if b.f.pki.works(b.f, serial) {
			n++
		}
	}
	return n
}

func TestAnX509CertificateThatIsNotWhatWasApproved(t *testing.T) {
	otherName := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: otherNameSAN(t)}
	for name, twist := range map[string]func(*x509.Certificate){
		"is one of a CA":             func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
		"may sign certificates":      func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"has another common name":    func(c *x509.Certificate) { c.Subject.CommonName = "admin" },
		"has another organization":   func(c *x509.Certificate) { c.Subject.Organization = []string{"system:masters"} },
		"has one organization more":  func(c *x509.Certificate) { c.Subject.Organization = []string{"Example", "Admins"} },
		"has no organization":        func(c *x509.Certificate) { c.Subject.Organization = nil },
		"has a unit":                 func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"admins"} },
		"has a DNS name more":        func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "admin.example") },
		"lacks a DNS name":           func(c *x509.Certificate) { c.DNSNames = nil },
		"has a mail address more":    func(c *x509.Certificate) { c.EmailAddresses = append(c.EmailAddresses, "root@example.com") },
		"has an IP address more":     func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, net.IPv4(10, 0, 0, 8)) },
		"has another URI":            func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "prod", Path: "/root"}} },
		"has a name of its own kind": func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{otherName} },
		"lives an hour longer":       func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, appRoleTarget)
			b.f.pki.twist = twist
			if _, _, err := b.certify(); codeOf(err) != "certificate_differs" {
				t.Fatal(err)
			}
			if len(b.f.pki.certs) != 1 || b.living() != 0 || b.left() != 0 {
				t.Errorf("%d certificates, %d of them living, %d tokens", len(b.f.pki.certs), b.living(), b.left())
			}
		})
	}
}

// otherNameSAN is a subject alternative name of a kind that Go does not show.
func otherNameSAN(t *testing.T) []byte {
	t.Helper()
	raw, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{0x2a, 3}}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAnswersOfAPKIEngineThatAreNotTrusted(t *testing.T) {
	for name, row := range map[string]struct {
		change func(map[string]any)
		code   string
	}{
		"another serial":            {func(a map[string]any) { a["serial_number"] = "01:02" }, "certificate_differs"},
		"no serial":                 {func(a map[string]any) { delete(a, "serial_number") }, "certificate_differs"},
		"another issuer":            {func(a map[string]any) { a["issuing_ca"] = a["certificate"] }, "certificate_differs"},
		"no issuer":                 {func(a map[string]any) { delete(a, "issuing_ca") }, "certificate_differs"},
		"no certificate":            {func(a map[string]any) { delete(a, "certificate") }, "no_certificate"},
		"something in its place":    {func(a map[string]any) { a["certificate"] = "PEM" }, "no_certificate"},
		"the CA's own in its place": {func(a map[string]any) { a["certificate"] = a["issuing_ca"] }, "certificate_differs"},
	} {
		b := newBench(t, appRoleTarget)
		b.f.pki.answer = row.change
		_, h, err := b.certify()
		if codeOf(err) != row.code {
			t.Errorf("%s: %v", name, err)
		}
		if name == "the CA's own in its place" {
			if _, err := b.p.Revoke(t.Context(), h); err == nil {
				t.Errorf("%s: what cannot be revoked counts as gone", name)
			}
		}
	}
}

func TestEnginesThatCouldNotRevoke(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*fakePKI)
		csr    bool
		code   string
		made   int
	}{
		"all is well":                              {change: func(*fakePKI) {}},
		"all is well with a request":               {change: func(*fakePKI) {}, csr: true},
		"it does not store":                        {change: func(p *fakePKI) { p.role["no_store"] = true }, code: "engine_role"},
		"it does not say whether it stores":        {change: func(p *fakePKI) { delete(p.role, "no_store") }, code: "engine_role"},
		"it stops to store at that moment":         {change: func(p *fakePKI) { p.role["really_stores"] = false }, code: "not_stored", made: 1},
		"it keeps no CRL":                          {change: func(p *fakePKI) { p.crl["disable"] = true }, code: "no_crl"},
		"it takes the common name of the request":  {change: func(p *fakePKI) { p.role["use_csr_common_name"] = true }, csr: true, code: "engine_role"},
		"it takes other names of the request":      {change: func(p *fakePKI) { p.role["use_csr_sans"] = true }, csr: true, code: "engine_role"},
		"it would, but there is no request":        {change: func(p *fakePKI) { p.role["use_csr_sans"] = true }},
		"its issuer has a name that goes anywhere": {change: func(p *fakePKI) { p.role["issuer_ref"] = "../../sys/seal" }, code: "engine_role"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, appRoleTarget)
			row.change(b.f.pki)
			role, params := pkiRole(), map[string]string{"name": "www.prod.example"}
			if row.csr {
				role, params = csrRole(), map[string]string{"csr": csrLine(newKey())}
			}
			_, _, err := b.askWith(role, params)
			if codeOf(err) != row.code || (row.code == "" && err != nil) {
				t.Fatal(err)
			}
			if row.code != "" && (len(b.f.pki.certs) != row.made || b.living() != 0) {
				t.Errorf("%d certificates, %d of them living", len(b.f.pki.certs), b.living())
			}
			report := b.p.Validate(t.Context(), contract.Spec{Fields: role, Params: []string{"name", "csr"}}, true)
			if probed := row.code != "" && row.made == 0 && !strings.Contains(name, "anywhere"); probed == report.OK() {
				t.Errorf("the probe says %v", report.Problems)
			}
		})
	}
}

func TestTheEndIsConfirmedOnTheCRL(t *testing.T) {
	t.Run("one that is rebuilt from time to time is rotated", func(t *testing.T) {
		b := newBench(t, appRoleTarget)
		_, h, err := b.certify()
		if err != nil {
			t.Fatal(err)
		}
		b.f.pki.stale = true
		if _, err := b.p.Revoke(t.Context(), h); err != nil || b.living() != 0 || b.f.count("GET pki/crl/rotate") != 1 {
			t.Errorf("%d living, %v", b.living(), err)
		}
	})
	t.Run("one that does not list it is an error until it does", func(t *testing.T) {
		b := newBench(t, appRoleTarget)
		_, h, err := b.certify()
		if err != nil {
			t.Fatal(err)
		}
		b.f.pki.stale = true
		b.f.on("GET pki/crl/rotate", func(w http.ResponseWriter, _ *http.Request) { replyData(w, map[string]any{"success": true}) })
		if ended, err := b.p.Revoke(t.Context(), h); codeOf(err) != "not_on_crl" || ended.AccessGone {
			t.Errorf("%+v, %v", ended, err)
		}
		b.f.pki.stale = false
		if ended, err := b.p.Revoke(t.Context(), h); err != nil || !ended.Done() {
			t.Errorf("%+v, %v", ended, err)
		}
	})
	t.Run("one that cannot be read is an error", func(t *testing.T) {
		b := newBench(t, appRoleTarget)
		_, h, err := b.certify()
		if err != nil {
			t.Fatal(err)
		}
		b.f.on("GET pki/issuer/one/crl", func(w http.ResponseWriter, _ *http.Request) {
			replyData(w, map[string]any{"crl": pemOf("X509 CRL", []byte("nonsense"))})
		})
		if ended, err := b.p.Revoke(t.Context(), h); codeOf(err) != "bad_answer" || ended.AccessGone {
			t.Errorf("%+v, %v", ended, err)
		}
	})
	t.Run("a certificate that has expired is not revoked", func(t *testing.T) {
		b := newBench(t, appRoleTarget)
		issued, h, err := b.certify()
		if err != nil {
			t.Fatal(err)
		}
		b.f.clk.Advance(issued.NotAfter.Sub(b.f.clk.Now()))
		if ended, err := b.p.Revoke(t.Context(), h); err != nil || !ended.Done() || b.f.count("POST pki/revoke") != 0 {
			t.Errorf("%+v, %v", ended, err)
		}
	})
}

func TestALostCertificateIsFoundByItsKey(t *testing.T) {
	key := newKey()
	params := map[string]string{"csr": csrLine(key)}
	lose := func(b *bench) (domain.Handle, error) {
		gone := errors.New("the record could not be written")
		in := b.input(csrRole())
		in.Params = params
		h, err := b.p.Plan(b.Context(), in)
		if err != nil {
			b.Fatal(err)
		}
		restore := func() {}
		saved := 0
		_, err = b.p.Issue(b.Context(), in, h, func(next domain.Handle) error {
			if saved++; saved == 3 { // the one with the serial
				restore = b.f.breakAll()
				return gone
			}
			h = next
			return nil
		})
		restore()
		if !errors.Is(err, gone) {
			b.Fatalf("the issue went well: %v", err)
		}
		return h, err
	}
	t.Run("among others of the same key that are older, it alone is revoked", func(t *testing.T) {
		b := newBench(t, appRoleTarget)
		if _, _, err := b.askWith(csrRole(), params); err != nil {
			t.Fatal(err)
		}
		b.f.clk.Advance(time.Minute)
		h, _ := lose(b)
		if ended, err := b.p.Revoke(t.Context(), h); err != nil || !ended.Done() || b.living() != 1 {
			t.Errorf("%d living, %+v, %v", b.living(), ended, err)
		}
		if ended, err := b.p.Revoke(t.Context(), h); err != nil || !ended.Done() || b.living() != 1 {
			t.Errorf("again: %d living, %+v, %v", b.living(), ended, err)
		}
	})
	t.Run("when two of one key were made at one time, nobody can tell, and it is an error until it expires", func(t *testing.T) {
		b := newBench(t, appRoleTarget)
		issued, _, err := b.askWith(csrRole(), params)
		if err != nil {
			t.Fatal(err)
		}
		h, _ := lose(b)
		if ended, err := b.p.Revoke(t.Context(), h); codeOf(err) != "ambiguous" || ended.AccessGone || b.living() != 2 {
			t.Errorf("%d living, %+v, %v", b.living(), ended, err)
		}
		b.f.clk.Advance(issued.NotAfter.Add(time.Second).Sub(b.f.clk.Now()))
		if ended, err := b.p.Revoke(t.Context(), h); err != nil || !ended.Done() {
			t.Errorf("%+v, %v", ended, err)
		}
	})
	t.Run("without the right to look it is an error", func(t *testing.T) {
		b := newBench(t, appRoleTarget)
		h, _ := lose(b)
		b.f.with(func(f *fakeHost) { f.denied = []string{"pki/certs"} })
		if ended, err := b.p.Revoke(t.Context(), h); err == nil || ended.AccessGone {
			t.Errorf("%+v, %v", ended, err)
		}
	})
}

func TestALeaseOfTheEngineKeepsItsToken(t *testing.T) {
	b := newBench(t, appRoleTarget)
	if _, _, err := b.certify(); err != nil || b.left() != 0 {
		t.Errorf("a token that is spent is left: %d, %v", b.left(), err)
	}
	b.f.pki.lease = true
	_, h, err := b.certify()
	if err != nil || b.left() != 1 {
		t.Errorf("the lease of the engine would end with its token: %d, %v", b.left(), err)
	}
	if _, err := b.p.Revoke(t.Context(), h); err != nil || b.left() != 0 {
		t.Errorf("%d, %v", b.left(), err)
	}
}

func TestHandlesThatNameNoCertificate(t *testing.T) {
	b := newBench(t, appRoleTarget)
	_, good, err := b.certify()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"a mount that goes anywhere":   `{"kind":"pki","pki":{"mount":"../sys","asked":true,"serial":"01:02","issuer":"one","until":4000000000}}`,
		"a mount of the host's own":    `{"kind":"pki","pki":{"mount":"sys","asked":true,"serial":"01:02","issuer":"one","until":4000000000}}`,
		"a serial that goes anywhere":  `{"kind":"pki","pki":{"mount":"pki","asked":true,"serial":"../../sys","issuer":"one","until":4000000000}}`,
		"an issuer that goes anywhere": `{"kind":"pki","pki":{"mount":"pki","asked":true,"serial":"` + colons(big.NewInt(1)) + `","issuer":"../x","until":4000000000}}`,
	} {
		h := good
		h.Data = []byte(data)
		if ended, err := b.p.Revoke(t.Context(), h); err == nil || ended.AccessGone {
			t.Errorf("%s: %+v", name, ended)
		}
	}
	if b.living() != 1 {
		t.Error("the certificate that was issued was touched")
	}
}

func TestParametersOfCertificates(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := csrLine(newKey())
	for name, row := range map[string]struct {
		role   contract.Values
		params map[string]string
		field  string
	}{
		"a name": {pkiRole(), map[string]string{"name": "www.prod.example"}, ""},
		"a wildcard, which the role's pattern may refuse": {pkiRole(), map[string]string{"name": "*.prod.example"}, ""},
		"no name":                    {pkiRole(), nil, "name"},
		"two names behind a comma":   {pkiRole(), map[string]string{"name": "a.example,b.example"}, "name"},
		"a name with a space":        {pkiRole(), map[string]string{"name": "a example"}, "name"},
		"a name with a slash":        {pkiRole(), map[string]string{"name": "a.example/b"}, "name"},
		"a request":                  {csrRole(), map[string]string{"csr": good}, ""},
		"no request":                 {csrRole(), nil, "csr"},
		"a request that is cut":      {csrRole(), map[string]string{"csr": good[:len(good)/2]}, "csr"},
		"a request that was changed": {csrRole(), map[string]string{"csr": good[:len(good)-6] + "AAAAAA"}, "csr"},
		"a request for a weak key":   {csrRole(), map[string]string{"csr": csrLine(weak)}, "csr"},
	} {
		report := host.Descriptor().CheckParams(row.role, row.params)
		switch {
		case row.field == "" && !report.OK():
			t.Errorf("%s: %v", name, report.Problems)
		case row.field != "" && (report.OK() || report.Problems[0].Field != row.field):
			t.Errorf("%s: %v", name, report.Problems)
		}
		b := newBench(t, appRoleTarget)
		if _, _, err := b.askWith(row.role, row.params); (err == nil) != (row.field == "") {
			t.Errorf("%s: when it is issued: %v", name, err)
		}
	}
}

func TestPKIRolesThatCannotWork(t *testing.T) {
	for name, row := range map[string]struct {
		change contract.Values
		field  string
	}{
		"no names":                     {contract.Values{"common_name": "", "alt_names": []string{}, "ip_sans": []string{}, "uri_sans": []string{}}, "common_name"},
		"a parameter inside a name":    {contract.Values{"common_name": "a.{{params.name}}"}, "common_name"},
		"a parameter nobody declared":  {contract.Values{"alt_names": []string{"{{params.other}}"}}, "alt_names"},
		"two names in one":             {contract.Values{"alt_names": []string{"a.example,b.example"}}, "alt_names"},
		"an address with a zone":       {contract.Values{"ip_sans": []string{"fe80::1%eth0"}}, "ip_sans"},
		"a URI with a comma":           {contract.Values{"uri_sans": []string{"spiffe://a,spiffe://b"}}, "uri_sans"},
		"a subject with a common name": {contract.Values{"subject": []string{"CN=admin"}}, "subject"},
		"a subject that is none":       {contract.Values{"subject": []string{"Example"}}, "subject"},
		"a path that signs anything":   {contract.Values{"path": "pki/sign-verbatim/web"}, "path"},
		"a request that nobody sends":  {contract.Values{"path": "pki/sign/web", "csr_param": "other"}, "csr_param"},
		"a request for nothing":        {contract.Values{"csr_param": "csr"}, "csr_param"},
	} {
		b := newBench(t, appRoleTarget)
		role := pkiRole()
		maps.Copy(role, row.change)
		report := b.p.Validate(t.Context(), contract.Spec{Fields: role, Params: []string{"name", "csr"}}, false)
		if len(report.Problems) != 1 || report.Problems[0].Field != row.field {
			t.Errorf("%s: %v", name, report.Problems)
		}
	}
}
