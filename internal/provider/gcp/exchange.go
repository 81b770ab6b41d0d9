package gcp

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	assertionLife  = time.Hour // the most that Google takes
	maxSubject     = 64 << 10  // bytes of a subject token
	grantAssertion = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantExchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeAccess     = "urn:ietf:params:oauth:token-type:access_token"
)

// login gets a token of the identity that the engine acts as.
func (c *client) login(ctx context.Context) (grantedToken, error) {
	r, err := c.config.root()
	if err != nil {
		return grantedToken{}, err
	}
	base, chain, err := c.baseToken(ctx, r)
	if err != nil || len(chain) == 0 {
		return base, err
	}
	last := len(chain) - 1
	return c.mint(ctx, chain[last], chain[:last], []string{cloudPlatform}, tokenLife, base.token)
}

// baseToken gets the token of the root credential itself, and the accounts to
// go through with it.
func (c *client) baseToken(ctx context.Context, r root) (grantedToken, []string, error) {
	chain := c.config.chain
	switch {
	case r.key != nil:
		t, err := c.assertKey(ctx, *r.key)
		return t, chain, err
	case r.external != nil:
		if via := r.external.account(); via != "" {
			chain = append([]string{via}, chain...)
		}
		t, err := c.federate(ctx, r)
		return t, chain, err
	}
	var out tokenAnswer
	if err := c.do(ctx, metadataCall("token"), &out); err != nil {
		return grantedToken{}, nil, err
	}
	return out.granted(c.env.Clock.Now()), chain, nil
}

// metadataCall reads something of the machine's own service account.
func metadataCall(what string) call {
	return call{
		op: "read metadata", service: svcMetadata, method: http.MethodGet, open: true,
		path:   "computeMetadata/v1/instance/service-accounts/default/" + what,
		header: http.Header{"Metadata-Flavor": {"Google"}},
	}
}

type tokenAnswer struct {
	Token   string `json:"access_token"`
	Expires int    `json:"expires_in"` // seconds
}

func (a tokenAnswer) granted(now time.Time) grantedToken {
	return grantedToken{secret.New(a.Token), now.Add(time.Duration(a.Expires) * time.Second)}
}

// assertKey exchanges a proof, signed with a key, for a token of the key's
// account (RFC 7523).
func (c *client) assertKey(ctx context.Context, k rootKey) (grantedToken, error) {
	assertion, err := c.assertion(k)
	if err != nil {
		return grantedToken{}, err
	}
	var out tokenAnswer
	err = c.do(ctx, call{
		op: "log in", service: svcOAuth, method: http.MethodPost, path: "token", open: true,
		form: url.Values{"grant_type": {grantAssertion}, "assertion": {assertion.Reveal()}},
	}, &out)
	return out.granted(c.env.Clock.Now()), err
}

func (c *client) assertion(k rootKey) (secret.String, error) {
	now := c.env.Clock.Now()
	part := func(v any) (string, error) {
		raw, err := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(raw), err
	}
	head, err := part(map[string]string{"alg": "RS256", "typ": "JWT", "kid": k.file.PrivateKeyID})
	if err != nil {
		return secret.String{}, fmt.Errorf("make assertion: %w", err)
	}
	body, err := part(map[string]any{
		"iss": k.file.ClientEmail, "scope": cloudPlatform, "aud": k.file.TokenURI,
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return secret.String{}, fmt.Errorf("make assertion: %w", err)
	}
	sum := sha256.Sum256([]byte(head + "." + body))
	signature, err := rsa.SignPKCS1v15(rand.Reader, k.private, crypto.SHA256, sum[:])
	if err != nil {
		return secret.String{}, contract.Refused("log in", "bad_credentials", "the key of the credentials cannot sign")
	}
	return secret.New(head + "." + body + "." + base64.RawURLEncoding.EncodeToString(signature)), nil
}

// federate exchanges the subject token of a federation configuration for a
// token of the federated identity (RFC 8693).
func (c *client) federate(ctx context.Context, r root) (grantedToken, error) {
	subject, err := subjectToken(r)
	if err != nil {
		return grantedToken{}, err
	}
	var out tokenAnswer
	err = c.do(ctx, call{
		op: "exchange token", service: svcSTS, method: http.MethodPost, path: "v1/token", open: true,
		body: map[string]any{
			"grantType": grantExchange, "audience": r.external.Audience, "scope": cloudPlatform,
			"requestedTokenType": typeAccess, "subjectTokenType": r.external.TokenType, "subjectToken": subject.Reveal(),
		},
	}, &out)
	return out.granted(c.env.Clock.Now()), err
}

// subjectToken reads the token that another identity provider gave us.
func subjectToken(r root) (secret.String, error) {
	const op, code = "read subject token", "subject_token"
	file, ok := beside(r.file, r.external.Source.File)
	if !ok {
		return secret.String{}, contract.Refused(op, code, "the subject token's file is not below PIM_FILE_ROOT")
	}
	raw, err := file.Read()
	if err != nil || len(raw) > maxSubject {
		return secret.String{}, contract.Refused(op, code, "the subject token could not be read from its file")
	}
	text := string(raw)
	if format := r.external.Source.Format; format.Type == "json" {
		var fields map[string]any
		if err := json.Unmarshal(raw, &fields); err != nil {
			return secret.String{}, contract.Refused(op, code, "the subject token's file is no JSON")
		}
		text, _ = fields[format.Field].(string)
	}
	text = strings.TrimSpace(text)
	if text == "" || slices.ContainsFunc([]byte(text), func(c byte) bool { return c <= ' ' || c >= 0x7f }) {
		return secret.String{}, contract.Refused(op, code, "the subject token's file has no token")
	}
	return secret.New(text), nil
}
