package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// slack is how much less than the API server's minimum may be left when a
// token is asked for: the way here takes time. The Secret or the account ends
// the token at its time in any case.
const slack = 30 * time.Second

// token is a service account token that was found to be what was asked for.
type token struct {
	value     secret.String
	namespace string
	account   string
	notAfter  time.Time
}

// claims are the parts of a token that say what it is. The API server signs
// them; we only read what it just gave us over TLS, or what we act with.
type claims struct {
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expiry   int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	Bound    struct {
		Namespace string   `json:"namespace"`
		Account   boundRef `json:"serviceaccount"`
		Secret    boundRef `json:"secret"`
	} `json:"kubernetes.io"`
	// Tokens from before Kubernetes 1.24 live in a Secret themselves.
	OldNamespace string `json:"kubernetes.io/serviceaccount/namespace"`
	OldSecret    string `json:"kubernetes.io/serviceaccount/secret.name"`
}

type boundRef struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// audience is one text or a list, as JWT has it.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

var errClaims = errors.New("the token is not a JWT")

// readClaims reads a token's claims without checking its signature.
func readClaims(t secret.String) (claims, error) {
	var c claims
	parts := strings.Split(t.Reveal(), ".")
	if len(parts) != 3 {
		return c, errClaims
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, errClaims
	}
	if json.Unmarshal(raw, &c) != nil {
		return claims{}, errClaims
	}
	return c, nil
}

// makeToken asks for the token and compares it with what was asked for.
func (p *Provider) makeToken(ctx context.Context, m maker, account object) (token, error) {
	t := token{namespace: m.names.Account, account: objectName(m.in.Credential)}
	left := m.in.NotAfter.Sub(p.env.Clock.Now())
	if left < minTokenTTL-slack {
		return token{}, contract.Refused("create token", "too_short", "less than ten minutes are left, and the cluster makes no shorter token")
	}
	seconds := int64(math.Ceil(max(left, minTokenTTL).Seconds()))
	spec := authv1.TokenRequestSpec{Audiences: m.role.audiences, ExpirationSeconds: &seconds}
	if m.role.kind == kindToken {
		t.namespace, t.account = m.names.Secret, m.role.account
		spec.BoundObjectRef = &authv1.BoundObjectReference{
			APIVersion: corev1.SchemeGroupVersion.String(), Kind: string(secretObject),
			Name: objectName(m.in.Credential), UID: uidOf(account),
		}
	}
	status, err := p.api.Token(ctx, t.namespace, t.account, spec)
	if err != nil {
		return token{}, failure("create token", err)
	}
	t.value = secret.New(status.Token)
	c, err := readClaims(t.value)
	if err != nil || !m.matches(c, t, account, seconds) {
		return token{}, contract.Refused("create token", "differs", "the token is not what was asked for; what was made for it is being removed")
	}
	t.notAfter = time.Unix(c.Expiry, 0).UTC()
	return t, nil
}

// matches compares a token with what was asked for: whose, for whom, for how
// long by the API server's own clock, and tied to what.
func (m maker) matches(c claims, t token, account object, seconds int64) bool {
	uid := string(uidOf(account))
	tied := c.Bound.Account
	if m.role.kind == kindToken {
		tied = c.Bound.Secret
	}
	switch {
	case c.Subject != username(t.namespace, t.account), c.Bound.Namespace != t.namespace:
		return false
	case tied.Name != objectName(m.in.Credential), uid != "" && tied.UID != uid:
		return false
	case c.Expiry <= c.IssuedAt, c.Expiry-c.IssuedAt > seconds:
		return false
	case len(m.role.audiences) > 0:
		return slices.Equal(slices.Sorted(slices.Values(m.role.audiences)), slices.Sorted(slices.Values(c.Audience)))
	}
	return true
}

// issued is the answer, named as the official engine names it.
func (m maker) issued(t token) secret.Map {
	out := map[string]any{
		"service_account_token": t.value.Reveal(), "service_account_name": t.account, "service_account_namespace": t.namespace,
	}
	if len(m.names.Namespaces) > 0 {
		out["namespaces"] = strings.Join(m.names.Namespaces, ",")
	}
	return secret.NewMap(out)
}
