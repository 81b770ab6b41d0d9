package host

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// Bounds of RSA keys in bits.
const (
	minRSA = 3072
	maxRSA = 8192 // longer ones cost a server more than they are worth
)

const acceptedKeys = "only ed25519, ecdsa and RSA keys of at least 3072 bits, security keys among them, are signed"

// userKey reads the requester's public key, or says what is wrong with it.
func userKey(line string) (ssh.PublicKey, string) {
	key, problem := plainKey(line)
	if problem != "" {
		return nil, problem
	}
	switch key.Type() {
	case ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return key, ""
	}
	public, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil, "is of a type that is refused: " + acceptedKeys
	}
	switch k := public.CryptoPublicKey().(type) {
	case ed25519.PublicKey, *ecdsa.PublicKey:
		return key, ""
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= minRSA && bits <= maxRSA {
			return key, ""
		}
		return nil, fmt.Sprintf("is an RSA key of fewer than %d bits, or of more than %d: %s", minRSA, maxRSA, acceptedKeys)
	}
	return nil, "is of a type that is refused: " + acceptedKeys
}

// caKey reads the public key of a CA.
func caKey(line string) (ssh.PublicKey, string) { return plainKey(line) }

// plainKey reads one public key as a .pub file holds it.
func plainKey(line string) (ssh.PublicKey, string) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, "is no SSH public key: the content of a .pub file"
	}
	if _, isCert := key.(*ssh.Certificate); isCert || len(options) > 0 || len(rest) > 0 {
		return nil, "must be one plain public key, without options, and no certificate"
	}
	return key, ""
}

// parseCertificate reads what the engine answers.
func parseCertificate(line string) (*ssh.Certificate, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("not a certificate")
	}
	return cert, nil
}

// approvedCert is what was approved of a certificate.
type approvedCert struct {
	key        ssh.PublicKey
	ca         []byte
	keyID      string
	principals []string
	extensions map[string]string
	critical   map[string]string
	notAfter   time.Time
}

func wantedCertificate(d *delivery) (approvedCert, error) {
	const op = "sign key"
	key, problem := userKey(d.in.Params[d.role.String("public_key_param")])
	if problem != "" {
		return approvedCert{}, refuse(op, "bad_public_key", "the request's public key "+problem)
	}
	ext, problem := extensions(d.role)
	if problem != "" || len(d.role.Strings("valid_principals")) == 0 {
		return approvedCert{}, refuse(op, "bad_role", "the role's extensions or valid_principals cannot be used")
	}
	return approvedCert{
		key: key, ca: d.data.SSH.CA, keyID: d.data.SSH.KeyID, principals: sorted(d.role.Strings("valid_principals")),
		extensions: ext, critical: d.role.Map("critical_options"), notAfter: d.in.NotAfter,
	}, nil
}

// body is what the engine is asked for.
func (w approvedCert) body(seconds int64) map[string]any {
	out := map[string]any{
		"public_key": string(ssh.MarshalAuthorizedKey(w.key)), "cert_type": "user", "key_id": w.keyID,
		"valid_principals": joined(w.principals), "ttl": strconv.FormatInt(seconds, 10) + "s", "extensions": w.extensions,
	}
	if len(w.critical) > 0 {
		out["critical_options"] = w.critical
	}
	return out
}

// differs says in what a certificate is not what was approved; "" = in nothing.
func (w approvedCert) differs(c *ssh.Certificate, now time.Time) string {
	latest := w.notAfter.Add(clockTolerance).Unix()
	for _, f := range []struct {
		is   bool
		what string
	}{
		{c.CertType != ssh.UserCert, "is no user certificate"},
		{c.Serial == 0, "has no serial"},
		{string(c.Key.Marshal()) != string(w.key.Marshal()), "is for another key"},
		{string(c.SignatureKey.Marshal()) != string(w.ca), "is signed by another CA than the role's ca_public_key"},
		{c.KeyId != w.keyID, "has another key id (the engine's role must have allow_user_key_ids=true)"},
		{!slices.Equal(sorted(c.ValidPrincipals), w.principals), "has other principals than the role's valid_principals"},
		{!maps.Equal(c.Extensions, w.extensions), "has other extensions than the role's (the engine's default_extensions apply where the role names none)"},
		{!maps.Equal(c.CriticalOptions, w.critical), "has other critical options than the role's"},
		{c.ValidBefore > math.MaxInt64 || int64(c.ValidBefore) > latest, "lives longer than the window"},
	} {
		if f.is {
			return f.what
		}
	}
	checker := ssh.CertChecker{
		Clock: func() time.Time { return now }, SupportedCriticalOptions: slices.Collect(maps.Keys(w.critical)),
	}
	if err := checker.CheckCert(w.principals[0], c); err != nil {
		return "is not valid now, or not validly signed"
	}
	return ""
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// serialText is a serial as the engine answers it.
func serialText(serial uint64) string { return strconv.FormatUint(serial, 16) }
