package host

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

const minCSRBits = 2048 // of an RSA key in a certificate request

var (
	dnsName     = regexp.MustCompile(`^(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)
	mailName    = regexp.MustCompile(`^[A-Za-z0-9._%+-]{1,64}@[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	plainName   = regexp.MustCompile(`^[A-Za-z0-9 _.@:/*-]{1,64}$`)
	subjectPart = regexp.MustCompile(`^[A-Z]{1,12}=[^\x00-\x1f\x7f]{1,128}$`)
)

// approvedX509 is what was approved of a certificate.
type approvedX509 struct {
	mount, verb, role string
	commonName        string
	dns, mail         []string
	ips, uris         []string
	subject           []string // besides the common name, sorted
	csr               *x509.CertificateRequest
	notAfter          time.Time
}

func (w approvedX509) signs() bool { return w.verb == signVerb }

func (w approvedX509) op() string {
	if w.signs() {
		return "sign certificate"
	}
	return "issue certificate"
}

// wantedX509 puts a role and a request's parameters together.
func wantedX509(in contract.Input, role contract.Values) (approvedX509, error) {
	w := approvedX509{notAfter: in.NotAfter}
	var ok bool
	if w.mount, w.verb, w.role, ok = enginePath(role.String("path"), issueVerb, signVerb); !ok {
		return w, refuse("issue certificate", "bad_role", "the role's path is not one of a PKI engine")
	}
	var r contract.Report
	w.fillNames(&r, role, in.Params)
	var problem string
	if w.subject, problem = subjectOf(role); problem != "" {
		r.Addf("subject", "%s", problem)
	}
	if w.signs() {
		if w.csr, problem = parseCSR(in.Params[role.String("csr_param")]); problem != "" {
			r.Addf("csr", "%s", problem)
		}
	}
	if !r.OK() {
		return w, refuse(w.op(), "bad_names", "the role's "+r.Problems[0].Field+" "+r.Problems[0].Text)
	}
	return w, nil
}

// fillNames fills parameters into names and checks every name. The engine
// takes lists as texts with commas, so none may get in by a parameter.
func (w *approvedX509) fillNames(r *contract.Report, role contract.Values, params map[string]string) {
	note := func(field, value string) string {
		m := wholeParam.FindStringSubmatch(value)
		if m == nil {
			return value
		}
		if params[m[1]] == "" {
			r.Addf(m[1], "is required: it fills %s", field)
		} else if problem := nameProblem(field, params[m[1]]); problem != "" {
			r.Addf(m[1], "%s", problem)
		}
		return params[m[1]]
	}
	w.commonName = note("common_name", role.String("common_name"))
	for _, name := range role.Strings("alt_names") {
		if name = note("alt_names", name); strings.Contains(name, "@") {
			w.mail = append(w.mail, name)
		} else {
			w.dns = append(w.dns, strings.ToLower(name))
		}
	}
	for _, name := range role.Strings("ip_sans") {
		name = note("ip_sans", name)
		if ip, err := netip.ParseAddr(name); err == nil {
			name = ip.Unmap().String()
		}
		w.ips = append(w.ips, name)
	}
	for _, name := range role.Strings("uri_sans") {
		w.uris = append(w.uris, note("uri_sans", name))
	}
	for _, list := range []*[]string{&w.dns, &w.mail, &w.ips, &w.uris} {
		*list = sorted(*list)
	}
}

func validateNames(r *contract.Report, role contract.Values, params []string) {
	named := false
	check := func(field, value string) {
		named = true
		m := wholeParam.FindStringSubmatch(value)
		switch {
		case m != nil && !slices.Contains(params, m[1]):
			r.Addf(field, "names a parameter that the role does not declare")
		case m == nil && strings.Contains(value, "{{"):
			r.Addf(field, "a parameter fills a whole value, written {{params.name}}")
		case m == nil && nameProblem(field, value) != "":
			r.Addf(field, "%s", nameProblem(field, value))
		}
	}
	if name := role.String("common_name"); name != "" {
		check("common_name", name)
	}
	for _, field := range []string{"alt_names", "ip_sans", "uri_sans"} {
		for _, name := range role.Strings(field) {
			check(field, name)
		}
	}
	if !named {
		r.Addf("common_name", "is required for credential_type=pki, or one of alt_names, ip_sans and uri_sans")
	}
}

// nameProblem says what is wrong with one name of a field, or "".
func nameProblem(field, name string) string {
	switch field {
	case "common_name":
		if !plainName.MatchString(name) {
			return "is no common name: at most 64 letters, digits, spaces and _.@:/*-"
		}
	case "alt_names":
		if !dnsName.MatchString(strings.ToLower(name)) && !mailName.MatchString(name) || len(name) > 253 {
			return "holds something that is neither a DNS name nor an e-mail address"
		}
	case "ip_sans":
		if ip, err := netip.ParseAddr(name); err != nil || ip.Zone() != "" {
			return "holds something that is no IP address"
		}
	case "uri_sans":
		if u, err := url.Parse(name); err != nil || u.Scheme == "" || strings.ContainsAny(name, ", \t\r\n*") || len(name) > 512 {
			return "holds something that is no URI, or one with a comma"
		}
	}
	return ""
}

// subjectOf are the parts of the subject besides the common name, sorted.
func subjectOf(role contract.Values) ([]string, string) {
	out := sorted(role.Strings("subject"))
	for _, part := range out {
		if !subjectPart.MatchString(part) || strings.HasPrefix(part, "CN=") {
			return nil, "holds something that is no part of a subject such as O=Example; the common name has a field of its own"
		}
	}
	return out, ""
}

// parseCSR reads a certificate request in one line of base64.
func parseCSR(line string) (*x509.CertificateRequest, string) {
	const form = "is no certificate request: its DER in one line of base64 (openssl req -new … -outform DER | base64 -w0)"
	if line == "" {
		return nil, "is required: a certificate request"
	}
	der, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return nil, form
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		return nil, form
	}
	if k, ok := csr.PublicKey.(*rsa.PublicKey); ok && (k.N.BitLen() < minCSRBits || k.N.BitLen() > maxRSA) {
		return nil, fmt.Sprintf("is for an RSA key of fewer than %d bits, or of more than %d", minCSRBits, maxRSA)
	}
	return csr, ""
}

// keyHash names the request's public key in a handle; "" = the engine makes
// the key.
func (w approvedX509) keyHash() string {
	if w.csr == nil {
		return ""
	}
	return hashOf(w.csr.RawSubjectPublicKeyInfo)
}

func hashOf(raw []byte) string {
	s := sha256.Sum256(raw)
	return hex.EncodeToString(s[:])
}

// body is what the engine is asked for.
func (w approvedX509) body(seconds int64) map[string]any {
	out := map[string]any{
		"common_name": w.commonName, "alt_names": joined(append(slices.Clone(w.dns), w.mail...)),
		"ip_sans": joined(w.ips), "uri_sans": joined(w.uris), "ttl": ttlText(seconds), "format": "pem",
	}
	if w.csr != nil {
		out["csr"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: w.csr.Raw}))
	}
	return out
}

// differs says in what a certificate is not what was approved; "" = in nothing.
func (w approvedX509) differs(c, issuer *x509.Certificate) string {
	uris := make([]string, 0, len(c.URIs))
	for _, u := range c.URIs {
		uris = append(uris, u.String())
	}
	ips := make([]string, 0, len(c.IPAddresses))
	for _, raw := range c.IPAddresses {
		ip, _ := netip.AddrFromSlice(raw)
		ips = append(ips, ip.Unmap().String())
	}
	for _, f := range []struct {
		is   bool
		what string
	}{
		{c.IsCA || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0, "is one of a CA"},
		{c.CheckSignatureFrom(issuer) != nil, "is not signed by the engine's issuer"},
		{c.Subject.CommonName != w.commonName, "has another common name"},
		{!slices.Equal(subjectParts(c.Subject), w.subject), "has other parts in its subject than the role's subject"},
		{!w.sameNames(w.dns, lower(c.DNSNames)) || !w.sameNames(w.mail, c.EmailAddresses), "has other names than the role's"},
		{!slices.Equal(sorted(ips), w.ips), "has other addresses than the role's ip_sans"},
		{!slices.Equal(sorted(uris), w.uris), "has other URIs than the role's uri_sans"},
		{otherNames(c), "has a name of a kind that was not approved"},
		{w.csr != nil && !bytes.Equal(c.RawSubjectPublicKeyInfo, w.csr.RawSubjectPublicKeyInfo), "is for another key than the request"},
		{c.NotAfter.After(w.notAfter.Add(clockTolerance)), "lives longer than the window"},
	} {
		if f.is {
			return f.what
		}
	}
	return ""
}

// sameNames compares names; the engine repeats the common name among them
// where it looks like one.
func (w approvedX509) sameNames(want, got []string) bool {
	got = sorted(got)
	if slices.Equal(got, want) {
		return true
	}
	repeated := strings.ToLower(w.commonName)
	if strings.Contains(w.commonName, "@") {
		repeated = w.commonName
	}
	return slices.Equal(got, sorted(append(slices.Clone(want), repeated)))
}

func lower(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, strings.ToLower(s))
	}
	return out
}

// subjectParts writes the subject besides its common name as the role does.
func subjectParts(name pkix.Name) []string {
	short := map[string]string{
		"2.5.4.6": "C", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET",
		"2.5.4.17": "POSTALCODE", "2.5.4.5": "SERIALNUMBER", "0.9.2342.19200300.100.1.1": "UID",
	}
	out := []string{}
	for _, part := range name.Names {
		id := part.Type.String()
		if id == "2.5.4.3" {
			continue
		}
		if short[id] != "" {
			id = short[id]
		}
		out = append(out, fmt.Sprintf("%s=%v", id, part.Value))
	}
	return sorted(out)
}

// otherNames tells whether a certificate has alternative names that are none
// of DNS name, e-mail address, URI and IP address.
func otherNames(c *x509.Certificate) bool {
	for _, ext := range c.Extensions {
		if ext.Id.String() != "2.5.29.17" {
			continue
		}
		names := cryptobyte.String(ext.Value)
		if !names.ReadASN1(&names, casn1.SEQUENCE) {
			return true
		}
		for !names.Empty() {
			var value cryptobyte.String
			var tag casn1.Tag
			if !names.ReadAnyASN1(&value, &tag) {
				return true
			}
			if !slices.Contains([]casn1.Tag{casn1.Tag(1).ContextSpecific(), casn1.Tag(2).ContextSpecific(), casn1.Tag(6).ContextSpecific(), casn1.Tag(7).ContextSpecific()}, tag) {
				return true
			}
		}
	}
	return false
}

// parseX509 reads one certificate in PEM form; nil = it is none.
func parseX509(text string) *x509.Certificate {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return cert
}

// colonHex writes a serial as the engine does.
func colonHex(serial []byte) string {
	parts := make([]string, len(serial))
	for i, b := range serial {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}
