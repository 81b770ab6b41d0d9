package fakegcp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"time"
)

// RootKey makes a key of an account that has always been there and gives it in
// the JSON form in which Google hands keys out.
func (c *Cloud) RootKey(email string) (string, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	now := c.clk.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "somebody's own"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &private.PublicKey, private)
	if err != nil {
		return "", err
	}
	id := c.GiveKey(email, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "USER_PROVIDED")
	if id == "" {
		return "", errors.New("the account does not take the key")
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(map[string]string{ //nolint:gosec // a key of an account that exists in tests alone
		"type": "service_account", "private_key_id": id, "client_email": email, "token_uri": "https://oauth2.googleapis.com/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
	})
	return string(raw), err
}
