package host_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

// fakePKI is a PKI engine with one role. It is used under the fake host's lock.
type fakePKI struct {
	key    *ecdsa.PrivateKey
	ca     *x509.Certificate
	role   map[string]any
	crl    map[string]any // settings
	lease  bool
	stale  bool // the CRL is not rebuilt until it is rotated
	listed map[string]bool
	certs  map[string]*fakeCert
	// twist changes a certificate before it is signed.
	twist func(*x509.Certificate)
	// answer changes what is answered.
	answer func(map[string]any)
}

type fakeCert struct {
	der     []byte
	owner   any // credential of the token that asked
	revoked time.Time
	until   time.Time
	gone    bool // not stored
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newFakePKI(t testing.TB) *fakePKI {
	t.Helper()
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fake CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: start.Add(-time.Hour), NotAfter: start.Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &fakePKI{
		key: key, ca: ca, certs: map[string]*fakeCert{}, listed: map[string]bool{},
		role: map[string]any{
			"no_store": false, "use_csr_common_name": false, "use_csr_sans": false, "issuer_ref": "default", "not_before_duration": 30,
		},
		crl: map[string]any{"disable": false, "auto_rebuild": false},
	}
}

// pkiRole is a role that works on the fake host.
func pkiRole() contract.Values {
	return contract.Values{
		"credential_type": "pki", "path": "pki/issue/web", "common_name": "app.prod.example", "subject": []string{"O=Example"},
		"alt_names": []string{"{{params.name}}", "ops@example.com"}, "ip_sans": []string{"10.0.0.7"}, "uri_sans": []string{"spiffe://prod/app"},
	}
}

// csrRole has the requester's own request signed.
func csrRole() contract.Values {
	return contract.Values{
		"credential_type": "pki", "path": "pki/sign/web", "common_name": "app.prod.example", "subject": []string{"O=Example"},
	}
}

// csrLine is a certificate request as it is sent; its names mean nothing.
func csrLine(key crypto.Signer) string {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin.prod.example"}, DNSNames: []string{"evil.example"},
	}, key)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// public are the paths that need no token.
func (s *fakePKI) public(f *fakeHost, w http.ResponseWriter, path string) bool {
	switch {
	case path == "issuer/default/json" || path == "issuer/one/json":
		replyData(w, map[string]any{"issuer_id": "one", "certificate": pemOf("CERTIFICATE", s.ca.Raw)})
	case path == "issuer/one/crl":
		replyData(w, map[string]any{"crl": s.list(f)})
	case strings.HasPrefix(path, "cert/"):
		c := s.certs[strings.TrimPrefix(path, "cert/")]
		if c == nil || c.gone {
			fail(w, http.StatusNotFound)
			return true
		}
		data := map[string]any{"certificate": pemOf("CERTIFICATE", c.der), "revocation_time": 0}
		if !c.revoked.IsZero() {
			data["revocation_time"] = c.revoked.Unix()
		}
		replyData(w, data)
	default:
		return false
	}
	return true
}

func (s *fakePKI) serve(f *fakeHost, w http.ResponseWriter, r *http.Request, token *fakeToken, path string, body map[string]any) {
	switch {
	case path == "roles/web" && token.login:
		replyData(w, s.role)
	case path == "config/crl" && token.login:
		replyData(w, s.crl)
	case path == "certs" && token.login && r.Method == "LIST":
		replyData(w, map[string]any{"keys": slices.Sorted(maps.Keys(s.certs))})
	case path == "crl/rotate" && token.login && r.Method == http.MethodGet:
		s.rebuild()
		replyData(w, map[string]any{"success": true})
	case path == "revoke" && token.login && r.Method == http.MethodPost:
		s.revoke(f, w, body)
	case (path == "issue/web" || path == "sign/web") && !token.login && r.Method == http.MethodPut:
		s.issue(f, w, token, body)
	default:
		fail(w, http.StatusForbidden)
	}
}

func (s *fakePKI) rebuild() {
	for serial, c := range s.certs {
		s.listed[serial] = s.listed[serial] || !c.revoked.IsZero()
	}
}

func (s *fakePKI) list(f *fakeHost) string {
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: f.clk.Now(), NextUpdate: f.clk.Now().Add(time.Hour)}
	for serial := range s.listed {
		if s.listed[serial] {
			n, _ := new(big.Int).SetString(strings.ReplaceAll(serial, ":", ""), 16)
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: f.clk.Now()})
		}
	}
	ca := *s.ca
	ca.SubjectKeyId = []byte("fake")
	der, err := x509.CreateRevocationList(rand.Reader, template, &ca, s.key)
	if err != nil {
		panic(err)
	}
	return pemOf("X509 CRL", der)
}

func (s *fakePKI) revoke(f *fakeHost, w http.ResponseWriter, body map[string]any) {
	serial, _ := body["serial_number"].(string)
	if text, ok := body["certificate"].(string); ok {
		block, _ := pem.Decode([]byte(text))
		for n, c := range s.certs {
			if string(c.der) == string(block.Bytes) {
				serial, c.gone = n, false
			}
		}
	}
	c := s.certs[serial]
	if c == nil || c.gone {
		fail(w, http.StatusBadRequest)
		return
	}
	if c.revoked.IsZero() {
		c.revoked = f.clk.Now()
	}
	if !s.stale {
		s.rebuild()
	}
	replyData(w, map[string]any{"revocation_time": c.revoked.Unix()})
}

func split(v any) []string {
	text, _ := v.(string)
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func (s *fakePKI) template(f *fakeHost, body map[string]any, serial *big.Int) *x509.Certificate {
	life, err := time.ParseDuration(fmt.Sprint(body["ttl"]))
	if err != nil {
		panic(err)
	}
	cn := fmt.Sprint(body["common_name"])
	out := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn, Organization: []string{"Example"}}, DNSNames: []string{cn},
		NotBefore: f.clk.Now().Add(-30 * time.Second), NotAfter: f.clk.Now().Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, name := range split(body["alt_names"]) {
		if strings.Contains(name, "@") {
			out.EmailAddresses = append(out.EmailAddresses, name)
		} else {
			out.DNSNames = append(out.DNSNames, name)
		}
	}
	for _, ip := range split(body["ip_sans"]) {
		out.IPAddresses = append(out.IPAddresses, net.ParseIP(ip))
	}
	for _, text := range split(body["uri_sans"]) {
		u, err := url.Parse(text)
		if err != nil {
			panic(err)
		}
		out.URIs = append(out.URIs, u)
	}
	return out
}

func (s *fakePKI) issue(f *fakeHost, w http.ResponseWriter, token *fakeToken, body map[string]any) {
	raw := make([]byte, 20)
	if _, err := rand.Read(raw); err != nil {
		panic(err)
	}
	raw[0] = raw[0]&0x3f | 0x01
	template := s.template(f, body, new(big.Int).SetBytes(raw))
	if s.twist != nil {
		s.twist(template)
	}
	key := newKey()
	public := crypto.PublicKey(&key.PublicKey)
	data := map[string]any{"issuing_ca": pemOf("CERTIFICATE", s.ca.Raw), "ca_chain": []string{pemOf("CERTIFICATE", s.ca.Raw)}}
	if text, ok := body["csr"].(string); ok {
		block, _ := pem.Decode([]byte(text))
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			fail(w, http.StatusBadRequest)
			return
		}
		public = csr.PublicKey
	} else {
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			panic(err)
		}
		data["private_key"], data["private_key_type"] = pemOf("EC PRIVATE KEY", der), "ec"
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca, public, s.key)
	if err != nil {
		panic(err)
	}
	serial := colons(template.SerialNumber)
	s.certs[serial] = &fakeCert{der: der, owner: token.meta["pim_credential"], until: template.NotAfter, gone: s.role["really_stores"] == false}
	data["certificate"], data["serial_number"], data["expiration"] = pemOf("CERTIFICATE", der), serial, json.Number(fmt.Sprint(template.NotAfter.Unix()))
	if s.answer != nil {
		s.answer(data)
	}
	out := map[string]any{"data": data}
	if s.lease {
		out["lease_id"] = "pki/issue/web/lease"
	}
	reply(w, out)
}

func colons(serial *big.Int) string {
	text := fmt.Sprintf("%x", serial)
	if len(text)%2 == 1 {
		text = "0" + text
	}
	var parts []string
	for i := 0; i < len(text); i += 2 {
		parts = append(parts, text[i:i+2])
	}
	return strings.Join(parts, ":")
}

func pemOf(kind string, der []byte) string {
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// exists lists the certificates of a credential that are neither on the CRL nor
// expired. One whose serial nobody was told, and whose key the engine made, is
// of use to nobody.
func (s *fakePKI) exists(f *fakeHost, h domain.Handle) []providertest.Object {
	var d struct {
		PKI struct{ Serial, Key string } `json:"pki"`
	}
	if err := json.Unmarshal(h.Data, &d); err != nil {
		return nil
	}
	var out []providertest.Object
	for serial, c := range s.certs {
		if c.owner != string(h.Credential) || s.listed[serial] || !f.clk.Now().Before(c.until) {
			continue
		}
		out = append(out, providertest.Object{
			What: "certificate " + serial, Usable: true, Inert: d.PKI.Key == "" && d.PKI.Serial != serial, Until: c.until,
		})
	}
	return out
}

func (s *fakePKI) works(f *fakeHost, serial string) bool {
	c := s.certs[serial]
	return c != nil && !s.listed[serial] && f.clk.Now().Before(c.until)
}
