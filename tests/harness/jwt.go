package harness

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Issuer signs tokens as a CI system does and serves the keys to check them with
// on loopback.
type Issuer struct {
	URL string // the "iss" of its tokens; URL + /jwks has the keys
	key *rsa.PrivateKey
}

const issuerKeyID = "test-1"

// NewIssuer starts an issuer that ends with the test.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &Issuer{key: key}
	server := httptest.NewServer(http.HandlerFunc(i.serveKeys))
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

func (i *Issuer) serveKeys(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/jwks" {
		http.NotFound(w, r)
		return
	}
	encode := base64.RawURLEncoding.EncodeToString
	w.Header().Set("Content-Type", "application/json")
	err := json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": issuerKeyID,
		"n": encode(i.key.N.Bytes()), "e": encode(big.NewInt(int64(i.key.E)).Bytes()),
	}}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// Sign returns a token with these claims. As real issuers do, it adds iss, iat and
// exp (ten minutes) where they are not given.
func (i *Issuer) Sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	now := time.Now()
	body := map[string]any{"iss": i.URL, "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
	maps.Copy(body, claims)
	signed := encodeJSON(t, map[string]string{"alg": "RS256", "typ": "JWT", "kid": issuerKeyID}) + "." + encodeJSON(t, body)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func encodeJSON(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// JWTAuth is a jwt auth method that trusts one issuer.
type JWTAuth struct {
	Path     string // without auth/
	Accessor string
	host     *Host
}

// JWTAuth enables a jwt auth method of its own for this test.
func (h *Host) JWTAuth(t testing.TB, i *Issuer) *JWTAuth {
	t.Helper()
	auth := &JWTAuth{Path: "jwt-" + short(), host: h}
	auth.Accessor = h.authMount(t, auth.Path, "jwt")
	h.Root().Write(t, "auth/"+auth.Path+"/config", map[string]any{
		"jwks_url": i.URL + "/jwks", "bound_issuer": i.URL,
	}).OK(t)
	return auth
}

// Role writes a role of the auth method; fields are the method's own, role_type
// is jwt.
func (a *JWTAuth) Role(t testing.TB, name string, fields map[string]any) {
	t.Helper()
	body := map[string]any{"role_type": "jwt"}
	maps.Copy(body, fields)
	a.host.Root().Write(t, "auth/"+a.Path+"/role/"+name, body).OK(t)
}

// LogIn exchanges a token of the issuer for one of the host.
func (a *JWTAuth) LogIn(t testing.TB, role, jwt string) Actor {
	t.Helper()
	token := a.host.login(t, a.Path+"/login", map[string]any{"role": role, "jwt": jwt})
	return Actor{Name: "job of " + role, Token: token, host: a.host}
}

// TryLogIn is LogIn where a refusal is expected: it returns the answer.
func (a *JWTAuth) TryLogIn(t testing.TB, role, jwt string) Answer {
	t.Helper()
	return a.host.Anonymous().Write(t, "auth/"+a.Path+"/login", map[string]any{"role": role, "jwt": jwt})
}
