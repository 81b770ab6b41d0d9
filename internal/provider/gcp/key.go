package gcp

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	keyBits    = 2048
	maxKeys    = 10 // of one account, by Google
	keyProvide = "USER_PROVIDED"
	// backdated keeps a certificate valid for clocks that are behind ours.
	backdated = 10 * time.Minute
	serialLen = 120 // bits
)

var keyIDForm = regexp.MustCompile(`^[0-9a-f]{8,64}$`)

// keyName is the name in the certificate of a credential's key, which is how
// the key is found again.
func keyName(id domain.CredentialID) string { return "pim-" + string(id) }

// giveKey makes a key that Google itself refuses after the end of the
// credential, waits until Google takes it, and gives it out.
func (p *Provider) giveKey(ctx context.Context, j *job) (contract.Issued, error) {
	k, ok := p.fresh.Get(j.in.Credential)
	if !ok || k.file.PrivateKeyID != j.names.Key {
		var err error
		k, err = p.makeKey(ctx, j)
		if j.role.own() && isAbsent(err) {
			return p.notYet(j, "upload key", err)
		}
		if err != nil {
			return contract.Issued{}, err
		}
	}
	t, err := p.api.assertKey(ctx, k)
	if isUnready(err) || statusOf(err) == http.StatusUnauthorized {
		return p.notYet(j, "try key", err)
	}
	if err != nil {
		return contract.Issued{}, failure("try key", err)
	}
	if ready, err := p.works(ctx, j, t.token); err != nil || !ready {
		return p.notEffective(j, err)
	}
	if err := j.note(func(n *names) { n.Given = true }); err != nil {
		return contract.Issued{}, err
	}
	raw, err := json.Marshal(k.file) //nolint:gosec // this is the credential, for its owner
	if err != nil {
		return contract.Issued{}, fmt.Errorf("encode key: %w", err)
	}
	p.fresh.Drop(j.in.Credential)
	return contract.Issued{
		Handle: j.handle, NotAfter: j.names.end(),
		Data: secret.NewMap(map[string]any{
			"private_key_data": base64.StdEncoding.EncodeToString(raw), "key_algorithm": "KEY_ALG_RSA_2048",
			"key_type": "TYPE_GOOGLE_CREDENTIALS_FILE", "private_key_id": k.file.PrivateKeyID,
			"service_account_email": j.names.Account, "project_id": projectOf(j.names.Account, p.config.project),
		}),
		Composite: map[string]secret.String{"google_credentials": secret.New(string(raw))},
	}, nil
}

// makeKey uploads the public part of a new key. The private part never leaves
// this process but in the answer.
func (p *Provider) makeKey(ctx context.Context, j *job) (rootKey, error) {
	list, err := p.api.keys(ctx, j.names.Account)
	if err != nil && (!j.role.own() || !isAbsent(err)) {
		return rootKey{}, failure("list keys", err)
	}
	mine, err := p.keysNamed(ctx, j.names.Account, list, keyName(j.in.Credential))
	if err != nil {
		return rootKey{}, failure("read key", err)
	}
	if n := len(list) - len(mine); n >= maxKeys {
		return rootKey{}, contract.Refused("upload key", "limit_keys", "Google allows %d keys of one service account, and there are %d", maxKeys, n)
	}
	for _, id := range mine { // of an earlier try, whose private part is lost
		if err := p.api.deleteKey(ctx, j.names.Account, id); err != nil && !isAbsent(err) {
			return rootKey{}, failure("delete key", err)
		}
	}
	begin := domain.TimeOf(string(j.in.Credential)).Add(-backdated)
	k, err := p.upload(ctx, j.names.Account, keyName(j.in.Credential), begin, j.names.end())
	if err != nil {
		return rootKey{}, err
	}
	k.file.ClientID = j.names.Known
	p.fresh.Put(j.in.Credential, k)
	return k, j.note(func(n *names) { n.Key = k.file.PrivateKeyID })
}

// upload makes a key pair and gives its public part to an account, in a
// certificate whose end is the key's end.
func (p *Provider) upload(ctx context.Context, email, name string, begin, end time.Time) (rootKey, error) {
	const op = "upload key"
	private, err := p.generate()
	if err != nil {
		return rootKey{}, fmt.Errorf("%s: %w", op, err)
	}
	certificate, err := certify(private, name, begin, end)
	if err != nil {
		return rootKey{}, fmt.Errorf("%s: %w", op, err)
	}
	made, err := p.api.uploadKey(ctx, email, certificate)
	if err != nil {
		return rootKey{}, failure(op, err)
	}
	if !keyIDForm.MatchString(made.id()) || (!made.NotAfter.IsZero() && made.NotAfter.After(end.Add(tolerance))) {
		return rootKey{}, contract.Refused(op, "differs", "the key at Google is not what was asked for; it is being removed")
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return rootKey{}, fmt.Errorf("%s: %w", op, err)
	}
	return rootKey{private: private, file: keyFile{
		Type: kindAccount, ProjectID: projectOf(email, p.config.project), PrivateKeyID: made.id(), ClientEmail: email,
		PrivateKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		AuthURI:    "https://accounts.google.com/o/oauth2/auth", TokenURI: strings.TrimRight(p.config.endpoints[svcOAuth].String(), "/") + "/token",
		AuthCertURL: "https://www.googleapis.com/oauth2/v1/certs",
		CertURL:     "https://www.googleapis.com/robot/v1/metadata/x509/" + url.PathEscape(email),
	}}, nil
}

// projectOf is the project that an account's address names.
func projectOf(email, otherwise string) string {
	if list := homes([]string{email}); len(list) == 1 && !numberForm.MatchString(list[0]) {
		return list[0]
	}
	return otherwise
}

// certify wraps a public key the way Google takes it.
func certify(private *rsa.PrivateKey, name string, begin, end time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialLen))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: begin.UTC(), NotAfter: end.UTC(),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &private.PublicKey, private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// keysNamed finds the keys whose certificate has a name.
func (p *Provider) keysNamed(ctx context.Context, email string, list []accountKey, name string) ([]string, error) {
	var out []string
	for _, k := range list {
		if k.Origin != keyProvide || !keyIDForm.MatchString(k.id()) {
			continue
		}
		full, err := p.api.key(ctx, email, k.id())
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if certificateName(full.PublicKey) == name {
			out = append(out, k.id())
		}
	}
	return out, nil
}

func certificateName(encoded string) string {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	block, _ := pem.Decode(raw)
	if err != nil || block == nil {
		return ""
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	return c.Subject.CommonName
}
