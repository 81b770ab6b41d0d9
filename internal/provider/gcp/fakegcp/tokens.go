package fakegcp

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// token is an access token.
type token struct {
	email   string // service account, or principal://… of a federated identity
	account *Account
	expires time.Time
	engine  bool
	agent   string // user agent of whoever asked for it
}

// engineMark begins the addresses of the accounts that have every permission
// that was not denied.
const engineMark = "pim-engine"

func (c *Cloud) isEngine(email string) bool {
	return c.engines[email] || strings.HasPrefix(email, engineMark) || strings.HasPrefix(email, "principal://")
}

func parseForm(raw []byte) map[string]string {
	out := map[string]string{}
	values, err := url.ParseQuery(string(raw))
	if err != nil {
		return out
	}
	for k := range values {
		out[k] = values.Get(k)
	}
	return out
}

func (c *Cloud) newToken(email string, life time.Duration) (string, *token) {
	c.serial++
	value := "ya29.secret-token-" + strconv.Itoa(c.serial)
	t := &token{email: email, account: c.accounts[email], expires: c.clk.Now().Add(life), engine: c.isEngine(email)}
	c.tokens[value] = t
	return value, t
}

// caller is who a token is of: not one that ended, nor one whose account is
// disabled or was deleted.
func (c *Cloud) caller(value string) (*token, *refusal) {
	t := c.tokens[value]
	if t == nil || !c.clk.Now().Before(t.expires) || (t.account != nil && (t.account.Disabled || c.accounts[t.email] != t.account)) {
		return nil, refuse(http.StatusUnauthorized, "UNAUTHENTICATED", "invalid authentication credentials")
	}
	return t, nil
}

// Valid tells whether a token is accepted now, and whose it is.
func (c *Cloud) Valid(value string) (email string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, wrong := c.caller(value)
	if wrong != nil {
		return "", false
	}
	return t.email, true
}

// Live counts the tokens that are accepted now and whose asker said in its
// user agent what mark is.
func (c *Cloud) Live(mark string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for value, t := range c.tokens {
		if _, wrong := c.caller(value); wrong == nil && strings.Contains(t.agent, mark) {
			n++
		}
	}
	return n
}

// oauth takes proofs signed with keys (RFC 7523).
func (c *Cloud) oauth(v *visit) (any, *refusal) {
	bad := &refusal{status: http.StatusBadRequest, code: "invalid_grant", text: "Invalid JWT Signature.", oauth: true}
	if v.method != http.MethodPost || v.path != "token" || v.form("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return nil, &refusal{status: http.StatusBadRequest, code: "unsupported_grant_type", text: "no", oauth: true}
	}
	email, scope, ok := c.verify(v.form("assertion"))
	if !ok || scope == "" {
		return nil, bad
	}
	value, t := c.newToken(email, time.Hour)
	return map[string]any{"access_token": value, "expires_in": int(t.expires.Sub(c.clk.Now()) / time.Second), "token_type": "Bearer"}, nil
}

// Accepts tells whether a proof signed with a key would get a token now.
func (c *Cloud) Accepts(assertion string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _, ok := c.verify(assertion)
	return ok
}

func (c *Cloud) verify(assertion string) (email, scope string, ok bool) {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return "", "", false
	}
	var head struct {
		Kid string `json:"kid"`
		Alg string `json:"alg"`
	}
	var body struct {
		Issuer   string `json:"iss"`
		Scope    string `json:"scope"`
		Audience string `json:"aud"`
		Expires  int64  `json:"exp"`
		Issued   int64  `json:"iat"`
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !part(parts[0], &head) || !part(parts[1], &body) || head.Alg != "RS256" || !strings.HasSuffix(body.Audience, "/token") {
		return "", "", false
	}
	a := c.accounts[body.Issuer]
	if a == nil || a.Disabled || a.Keys[head.Kid] == nil {
		return "", "", false
	}
	now := c.clk.Now()
	if now.Unix() >= body.Expires || body.Expires-body.Issued > 3600 || body.Issued > now.Unix() {
		return "", "", false
	}
	return body.Issuer, body.Scope, c.signed(a.Keys[head.Kid], parts[0]+"."+parts[1], signature)
}

// signed tells whether a key that is accepted now made a signature.
func (c *Cloud) signed(k *Key, text string, signature []byte) bool {
	now := c.clk.Now()
	public, isRSA := k.Certificate.PublicKey.(*rsa.PublicKey)
	sum := sha256.Sum256([]byte(text))
	return isRSA && rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil &&
		(k.Old || !now.Before(k.Made.Add(c.lag.Keys))) &&
		!now.Before(k.Certificate.NotBefore) && now.Before(k.Certificate.NotAfter)
}

func part(text string, out any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && json.Unmarshal(raw, out) == nil
}

// exchange takes subject tokens of other identity providers (RFC 8693).
func (c *Cloud) exchange(v *visit) (any, *refusal) {
	var in struct {
		GrantType string `json:"grantType"`
		Audience  string `json:"audience"`
		Subject   string `json:"subjectToken"`
		Type      string `json:"subjectTokenType"`
		Wanted    string `json:"requestedTokenType"`
	}
	if wrong := v.decode(&in); wrong != nil {
		return nil, wrong
	}
	who := c.subjects[in.Subject]
	if v.path != "v1/token" || in.GrantType != "urn:ietf:params:oauth:grant-type:token-exchange" || in.Audience == "" || in.Type == "" || who == "" {
		return nil, &refusal{status: http.StatusBadRequest, code: "invalid_grant", text: "The given credential is rejected", oauth: true}
	}
	value, _ := c.newToken(who, time.Hour)
	return map[string]any{"access_token": value, "expires_in": 3600, "token_type": "Bearer", "issued_token_type": in.Wanted}, nil
}

// metadata is the server on the link of a machine.
func (c *Cloud) metadata(v *visit) (any, *refusal) {
	what, ok := strings.CutPrefix(v.path, "computeMetadata/v1/instance/service-accounts/default/")
	switch {
	case !ok || c.machine == "":
		return nil, notFound()
	case what == "email":
		return []byte(c.machine), nil
	case what == "token":
		value, _ := c.newToken(c.machine, time.Hour)
		return map[string]any{"access_token": value, "expires_in": 3599, "token_type": "Bearer"}, nil
	}
	return nil, notFound()
}

// credentials is the IAM Service Account Credentials API.
func (c *Cloud) credentials(v *visit) (any, *refusal) {
	name, ok := strings.CutPrefix(v.path, "v1/projects/-/serviceAccounts/")
	email, verb, _ := strings.Cut(name, ":")
	if !ok || verb != "generateAccessToken" || v.method != http.MethodPost {
		return nil, notFound()
	}
	var in struct {
		Scope     []string `json:"scope"`
		Lifetime  string   `json:"lifetime"`
		Delegates []string `json:"delegates"`
	}
	if wrong := v.decode(&in); wrong != nil {
		return nil, wrong
	}
	life, err := time.ParseDuration(in.Lifetime)
	if err != nil || life <= 0 || life > time.Hour || len(in.Scope) == 0 {
		return nil, invalid("bad lifetime or scope")
	}
	a := c.accounts[email]
	if !c.known(a, c.lag.Tokens) {
		return nil, notFound()
	}
	for _, d := range in.Delegates {
		if c.accounts[strings.TrimPrefix(d, "projects/-/serviceAccounts/")] == nil {
			return nil, notFound()
		}
	}
	if wrong := c.need(v, "iam.serviceAccounts.getAccessToken"); wrong != nil {
		return nil, wrong
	}
	if a.Disabled {
		return nil, refuse(http.StatusBadRequest, "FAILED_PRECONDITION", "service account is disabled")
	}
	value, t := c.newToken(email, life)
	t.agent = v.agent
	return map[string]any{"accessToken": value, "expireTime": t.expires.UTC().Format(time.RFC3339)}, nil
}

// Delegated lists every address in sorted order that tokens were made for.
func (c *Cloud) Delegated() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, t := range c.tokens {
		out = append(out, t.email)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Empower gives an account every permission that the engine has.
func (c *Cloud) Empower(email string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.engines[email] = true
}
