package host

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"regexp"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// maxCRL bounds the CRL that is read to confirm a revocation: about 400,000
// entries.
const maxCRL = 32 << 20

var serialForm = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){0,31}$`)

// endPKI revokes a certificate and sees it on its issuer's CRL. One that has
// expired needs no end.
//
// A certificate whose answer was lost has no serial here. Where the engine made
// the key, nobody has it: it was in the lost answer alone, so the certificate
// is of use to nobody until it expires with the window. Where the requester has
// the key, the certificate is looked for among all that the engine has stored.
func endPKI(ctx context.Context, p *Provider, d handleData) error {
	c := d.PKI
	if c == nil || !c.Asked {
		return nil
	}
	if expired, err := p.awaitEnd(ctx, c.Until); err != nil || expired {
		return err
	}
	serials := []string{c.Serial}
	if c.Serial == "" {
		var err error
		if serials, err = p.findX509(ctx, c); err != nil {
			return err
		}
	}
	for _, serial := range serials {
		if !serialForm.MatchString(serial) || mountProblem(c.Mount) {
			return refuse("revoke certificate", "bad_handle", "the handle names no serial that can be sent")
		}
		if err := p.revokeX509(ctx, c.Mount, map[string]any{"serial_number": serial}); err != nil {
			return err
		}
		if err := p.confirmOnCRL(ctx, c, serial); err != nil {
			return err
		}
	}
	return nil
}

// mountProblem tells whether a mount path of a handle could lead elsewhere.
func mountProblem(mount string) bool { return pathProblem(mount+"/revoke") != "" }

func (p *Provider) revokeX509(ctx context.Context, mount string, body map[string]any) error {
	_, err := p.asLogin(ctx, call{op: "revoke certificate", method: http.MethodPost, path: mount + "/revoke", body: body})
	return err
}

// confirmOnCRL reads the issuer's CRL, and has it rebuilt once where the
// engine does not do so by itself.
func (p *Provider) confirmOnCRL(ctx context.Context, c *pkiData, serial string) error {
	const op = "read CRL"
	listed, err := p.onCRL(ctx, c, serial)
	if err != nil || listed {
		return err
	}
	if _, err := p.asLogin(ctx, call{op: "rotate CRL", method: http.MethodGet, path: c.Mount + "/crl/rotate"}); err != nil {
		return err
	}
	if listed, err = p.onCRL(ctx, c, serial); err != nil || listed {
		return err
	}
	return &contract.Error{Op: op, Code: "not_on_crl", Public: "the certificate is revoked, but not on the engine's CRL"}
}

func (p *Provider) onCRL(ctx context.Context, c *pkiData, serial string) (bool, error) {
	const op = "read CRL"
	issuer := c.Issuer
	if issuer == "" {
		issuer = "default"
	}
	if !roleSegment.MatchString(issuer) {
		return false, refuse(op, "bad_handle", "the handle names no issuer that can be sent")
	}
	a, err := p.client.do(ctx, call{op: op, method: http.MethodGet, path: c.Mount + "/issuer/" + issuer + "/crl", limit: maxCRL})
	if err != nil {
		return false, err
	}
	text, _ := a.Data["crl"].(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return false, nil // an engine that has not built one yet
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return false, &contract.Error{Op: op, Code: "bad_answer", Public: "the engine's CRL is not readable"}
	}
	for _, e := range list.RevokedCertificateEntries {
		if colonHex(e.SerialNumber.Bytes()) == serial {
			return true, nil
		}
	}
	return false, nil
}

// findX509 looks for a certificate of the request's key, made at the time it
// was asked for, among all that the engine has stored. It needs a call for each
// that is stored; a search that is cut short is an error, and so is one that
// finds several that live: both are tried again until the certificate would
// have expired.
func (p *Provider) findX509(ctx context.Context, c *pkiData) ([]string, error) {
	const op = "find certificate"
	if c.Key == "" {
		return nil, nil
	}
	if mountProblem(c.Mount) {
		return nil, refuse(op, "bad_handle", "the handle names no mount that can be sent")
	}
	a, err := p.asLogin(ctx, call{op: op, method: "LIST", path: c.Mount + "/certs", limit: maxCRL})
	if hasStatus(err, http.StatusNotFound) {
		return nil, nil // none was ever stored
	}
	if err != nil {
		return nil, err
	}
	var living, revoked []string
	for _, serial := range texts(a.Data["keys"]) {
		got, err := p.lookAt(ctx, c, serial)
		switch {
		case err != nil:
			return nil, err
		case got == nil:
		case number(got["revocation_time"]) > 0:
			revoked = append(revoked, serial)
		default:
			living = append(living, serial)
		}
	}
	switch len(living) {
	case 0:
		return revoked, nil // an earlier try may have got no further
	case 1:
		return living, nil
	}
	return nil, &contract.Error{Op: op, Code: "ambiguous", Public: "several certificates of the request's key were made at the same time"}
}

// lookAt reads a stored certificate; nil = it is none that c may have lost.
func (p *Provider) lookAt(ctx context.Context, c *pkiData, serial string) (map[string]any, error) {
	if !serialForm.MatchString(serial) {
		return nil, nil
	}
	got, err := p.client.do(ctx, call{op: "find certificate", method: http.MethodGet, path: c.Mount + "/cert/" + serial})
	if hasStatus(err, http.StatusNotFound) {
		return nil, nil // tidied since it was listed
	}
	if err != nil {
		return nil, err
	}
	text, _ := got.Data["certificate"].(string)
	cert := parseX509(text)
	if cert == nil || hashOf(cert.RawSubjectPublicKeyInfo) != c.Key {
		return nil, nil
	}
	made := cert.NotBefore.Add(time.Duration(c.Backdate) * time.Second)
	first := time.Unix(c.AskedAt, 0).Add(-clockTolerance)
	if made.Before(first) || made.After(first.Add(issueBudget+2*clockTolerance)) {
		return nil, nil
	}
	return got.Data, nil
}

// awaitEnd tells whether a certificate has expired. In its last moment it
// waits for that: leases end a little before what they lease, and engines
// refuse to revoke what is about to expire.
func (p *Provider) awaitEnd(ctx context.Context, until int64) (expired bool, err error) {
	left := time.Unix(until, 0).Sub(p.env.Clock.Now())
	if left <= 0 {
		return true, nil
	}
	if left > lastMoment {
		return false, nil
	}
	select {
	case <-p.env.Clock.After(left):
		return true, nil
	case <-ctx.Done():
		return false, transportError("wait for the certificate's end", ctx.Err())
	}
}
