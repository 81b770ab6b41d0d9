package host

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	issueVerb       = "issue"
	defaultCSRParam = "csr"
)

// pkiKind has the host's PKI engine issue a certificate with fixed names, or
// sign the requester's own request. Its end is a serial on the engine's CRL.
func pkiKind() kind {
	return kind{
		name:     kindPKI,
		fields:   []string{"path", "common_name", "alt_names", "ip_sans", "uri_sans", "subject", "csr_param"},
		validate: validatePKI,
		revocation: func(contract.Values) domain.Revocation {
			// Whoever checks certificates reads the CRL when they like, if at all.
			return domain.Revocation{
				Class: domain.Propagating, Survives: []domain.Survivor{domain.OpenSessions, domain.OfflineVerifiers},
			}
		},
		policies:    func(contract.Values) []string { return nil },
		deliver:     deliverPKI,
		grants:      pkiGrants,
		childGrants: writeGrants,
		begin:       beginPKI,
		end:         endPKI,
		probe:       probePKI,
		params:      pkiParams,
	}
}

// signsRequest tells whether a role has the requester's own request signed.
func signsRequest(role contract.Values) bool {
	_, verb, _, ok := enginePath(role.String("path"), issueVerb, signVerb)
	return ok && verb == signVerb
}

func pkiGrants(role contract.Values) []grant {
	mount, _, name, ok := enginePath(role.String("path"), issueVerb, signVerb)
	if !ok {
		return nil
	}
	read := []string{"read"}
	out := []grant{
		{path: mount + "/roles/" + name, need: read},
		{path: mount + "/config/crl", need: read},
		{path: mount + "/revoke", need: []string{"update"}},
		{path: mount + "/crl/rotate", need: read, optional: true},
	}
	if signsRequest(role) {
		out = append(out, grant{path: mount + "/certs", need: []string{"list"}})
	}
	return out
}

// pkiData is what a handle holds of a certificate.
type pkiData struct {
	Mount  string `json:"mount"`
	Issuer string `json:"issuer,omitempty"` // id of the issuer, whose CRL tells the end
	Asked  bool   `json:"asked,omitempty"`  // a certificate may exist
	Serial string `json:"serial,omitempty"` // as the engine writes it
	Key    string `json:"key,omitempty"`    // SHA-256 of the request's public key
	Until  int64  `json:"until,omitempty"`  // end of the certificate, Unix seconds

	AskedAt  int64 `json:"asked_at,omitempty"` // Unix seconds
	Backdate int64 `json:"backdate,omitempty"` // seconds by which the engine dates certificates back
}

// beginPKI checks names and request, and writes down by what a certificate is
// found again whose answer was lost.
func beginPKI(in contract.Input, role contract.Values, asking bool, d *handleData) error {
	want, err := wantedX509(in, role)
	if err != nil {
		return err
	}
	next := pkiData{}
	if d.PKI != nil {
		next = *d.PKI
	}
	next.Mount, next.Key, next.Serial = want.mount, want.keyHash(), ""
	if asking {
		next.Asked, next.Until = true, in.NotAfter.Unix()
	}
	d.PKI = &next
	return nil
}

// deliverPKI issues the certificate, records its serial, compares it with what
// was approved, and only then answers.
func deliverPKI(ctx context.Context, p *Provider, d *delivery) (secret.Map, time.Time, error) {
	none := secret.Map{}
	want, err := wantedX509(d.in, d.role)
	if err != nil {
		return none, time.Time{}, err
	}
	if err := p.checkEngine(ctx, d, "pki"); err != nil {
		return none, time.Time{}, err
	}
	issuer, err := p.checkAuthority(ctx, want)
	if err != nil {
		return none, time.Time{}, err
	}
	d.data.PKI.Issuer, d.data.PKI.Backdate, d.data.PKI.AskedAt = issuer.id, issuer.backdate, p.env.Clock.Now().Unix()
	if err := d.record(); err != nil {
		return none, time.Time{}, err
	}
	a, err := p.client.do(ctx, call{
		op: want.op(), method: http.MethodPut, path: d.role.String("path"), token: d.token.value, fresh: true, body: want.body(p.lifeLeft(d)),
	})
	if hadNoEffect(err) {
		d.data.PKI.Asked = false // else it would be looked for
		return none, time.Time{}, errors.Join(err, d.record())
	}
	if err != nil {
		return none, time.Time{}, err
	}
	text, _ := a.Data["certificate"].(string)
	cert := parseX509(text)
	if cert == nil || a.wrapped() {
		return none, time.Time{}, refuse(want.op(), "no_certificate", "the path did not answer with a certificate")
	}
	d.data.PKI.Serial, d.data.PKI.Until = colonHex(cert.SerialNumber.Bytes()), cert.NotAfter.Unix()
	if err := d.record(); err != nil {
		return none, time.Time{}, err
	}
	if err := p.acceptX509(ctx, want, cert, issuer, a); err != nil {
		return none, time.Time{}, err
	}
	if a.LeaseID == "" {
		p.spend(ctx, d) // a lease of the engine would end with its token
	}
	return secret.NewMap(x509Answer(a.Data)), earlier(cert.NotAfter, d.in.NotAfter), nil
}

// acceptX509 compares what came back with what was approved, and sees to it
// that the engine can revoke it. What is wrong is revoked by the caller, or
// here where the engine has not kept it.
func (p *Provider) acceptX509(ctx context.Context, want approvedX509, cert *x509.Certificate, issuer authority, a *answer) error {
	if serial, _ := a.Data["serial_number"].(string); serial != colonHex(cert.SerialNumber.Bytes()) {
		return refuse(want.op(), "certificate_differs", "the answer names another serial than the certificate has; it was revoked")
	}
	if issuing, _ := a.Data["issuing_ca"].(string); parseX509(issuing) == nil || !parseX509(issuing).Equal(issuer.cert) {
		return refuse(want.op(), "certificate_differs", "the certificate is of another issuer than the engine's role names; it was revoked")
	}
	if fault := want.differs(cert, issuer.cert); fault != "" {
		return refuse(want.op(), "certificate_differs", "the certificate "+fault+"; it was revoked")
	}
	stored, err := p.client.do(ctx, call{
		op: "read certificate", method: http.MethodGet, path: want.mount + "/cert/" + colonHex(cert.SerialNumber.Bytes()),
	})
	if err == nil {
		text, _ := stored.Data["certificate"].(string)
		if kept := parseX509(text); kept != nil && kept.Equal(cert) {
			return nil
		}
	} else if !hasStatus(err, http.StatusNotFound) {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if err := p.revokeX509(ctx, want.mount, map[string]any{"certificate": string(block)}); err != nil {
		return err
	}
	return refuse(want.op(), "not_stored", "the engine's role does not store its certificates (no_store); it was revoked")
}

// x509Answer are the engine's fields as flat scalars.
func x509Answer(data map[string]any) map[string]any {
	out := map[string]any{}
	for _, name := range []string{"certificate", "issuing_ca", "private_key", "private_key_type", "serial_number"} {
		if text, ok := data[name].(string); ok {
			out[name] = text
		}
	}
	if chain := texts(data["ca_chain"]); len(chain) > 0 {
		out["ca_chain"] = strings.Join(chain, "\n")
	}
	if end := number(data["expiration"]); end > 0 {
		out["expiration"] = end
	}
	return out
}

// authority is who signs.
type authority struct {
	id       string
	cert     *x509.Certificate
	backdate int64 // seconds
}

// checkAuthority refuses engine roles and mounts whose certificates could not
// be revoked, and finds the issuer, whose CRL will tell.
func (p *Provider) checkAuthority(ctx context.Context, want approvedX509) (authority, error) {
	const op = "read engine role"
	a, err := p.asLogin(ctx, call{op: op, method: http.MethodGet, path: want.mount + "/roles/" + want.role})
	if err != nil {
		return authority{}, err
	}
	if fault := pkiRoleFault(a.Data, want.signs()); fault != "" {
		return authority{}, refuse(op, "engine_role", "the engine's role "+fault)
	}
	crl, err := p.asLogin(ctx, call{op: "read CRL settings", method: http.MethodGet, path: want.mount + "/config/crl"})
	if err != nil {
		return authority{}, err
	}
	if crl.Data["disable"] != false {
		return authority{}, refuse("read CRL settings", "no_crl", "the engine keeps no CRL (config/crl disable=true), so nothing would tell the end")
	}
	ref, _ := a.Data["issuer_ref"].(string)
	if ref == "" {
		ref = "default"
	}
	if !roleSegment.MatchString(ref) {
		return authority{}, refuse(op, "engine_role", "the engine's role names an issuer that cannot be sent")
	}
	out, err := p.authority(ctx, want.mount, ref)
	out.backdate = number(a.Data["not_before_duration"])
	return out, err
}

func (p *Provider) authority(ctx context.Context, mount, ref string) (authority, error) {
	const op = "read issuer"
	a, err := p.client.do(ctx, call{op: op, method: http.MethodGet, path: mount + "/issuer/" + ref + "/json"})
	if err != nil {
		return authority{}, err
	}
	text, _ := a.Data["certificate"].(string)
	id, _ := a.Data["issuer_id"].(string)
	out := authority{id: id, cert: parseX509(text)}
	if out.cert == nil || !roleSegment.MatchString(id) {
		return authority{}, refuse(op, "bad_answer", "the engine does not tell its issuer")
	}
	return out, nil
}

// pkiRoleFault says why certificates of an engine's role cannot be handed out;
// "" = they can.
func pkiRoleFault(got map[string]any, signs bool) string {
	switch {
	case got["no_store"] != false:
		return "does not store its certificates, so they cannot be revoked: it must have no_store=false"
	case signs && (got["use_csr_common_name"] != false || got["use_csr_sans"] != false):
		return "takes names from the request: it must have use_csr_common_name=false and use_csr_sans=false"
	}
	return ""
}

// probePKI looks at the engine's role and CRL as far as the login may see them.
func probePKI(ctx context.Context, p *Provider, r *contract.Report, role contract.Values) {
	mount, _, name, _ := enginePath(role.String("path"), issueVerb, signVerb)
	if got, ok := p.probeEngine(ctx, r, role, "pki", mount+"/roles/"+name); ok {
		if fault := pkiRoleFault(got, signsRequest(role)); fault != "" {
			r.Addf("path", "the engine's role %s", fault)
		}
	}
	crl, err := p.asLogin(ctx, call{op: "read CRL settings", method: http.MethodGet, path: mount + "/config/crl"})
	switch {
	case err != nil:
		r.Warnf("the engine's CRL settings could not be read now (%s); they are read at every issue", publicText(err))
	case crl.Data["disable"] != false:
		r.Addf("path", "leads to an engine that keeps no CRL (config/crl disable=true)")
	case crl.Data["auto_rebuild"] == true:
		r.Warnf("the engine rebuilds its CRL from time to time only (auto_rebuild); each revocation has it rotated, which the login must be allowed to: %s/crl/rotate", mount)
	}
}

func pkiParams(r *contract.Report, role contract.Values, params map[string]string) {
	w := approvedX509{}
	w.fillNames(r, role, params)
	if signsRequest(role) {
		name := role.String("csr_param")
		if _, problem := parseCSR(params[name]); problem != "" {
			r.Addf(name, "%s", problem)
		}
	}
}

func validatePKI(r *contract.Report, role contract.Values, params []string) {
	path := role.String("path")
	if problem := pathProblem(path); problem != "" {
		r.Addf("path", "%s", problem)
	} else if _, _, _, ok := enginePath(path, issueVerb, signVerb); !ok {
		r.Addf("path", "must be <mount>/issue/<engine role> or <mount>/sign/<engine role> for credential_type=pki")
	}
	validateNames(r, role, params)
	if _, problem := subjectOf(role); problem != "" {
		r.Addf("subject", "%s", problem)
	}
	switch name := role.String("csr_param"); {
	case signsRequest(role) && !slices.Contains(params, name):
		r.Addf("csr_param", "names no declared parameter; declare one in params for the requester's certificate request")
	case !signsRequest(role) && name != "":
		r.Addf("csr_param", "belongs to a path with sign, and only to it")
	}
}

func ttlText(seconds int64) string { return strconv.FormatInt(seconds, 10) + "s" }
