package fakeazure

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// claims are what a token says about its holder.
type claims struct {
	Tenant string   `json:"tid"`
	Object string   `json:"oid"`
	Client string   `json:"appid"`
	Roles  []string `json:"roles"`
}

// TokenMark is the last part of every token, which is nowhere else.
const TokenMark = "signature-of-the-cloud"

// token makes an access token for a principal.
func token(tenant string, sp *Principal) string {
	raw, err := json.Marshal(claims{Tenant: tenant, Object: sp.ID, Client: sp.Client, Roles: sp.Roles})
	if err != nil {
		panic(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"none"}`)) + "." + enc(raw) + "." + enc([]byte(TokenMark))
}

// bearer reads who calls.
func bearer(req *http.Request) (claims, bool) {
	var out claims
	parts := strings.Split(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), ".")
	if len(parts) != 3 {
		return out, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	return out, err == nil && json.Unmarshal(raw, &out) == nil
}

// login is the token service.
func (c *Cloud) login(req *http.Request, body []byte) *http.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	t := c.Tenants[parts[0]]
	base := "https://" + req.URL.Host + "/" + parts[0]
	if strings.HasSuffix(req.URL.Path, "/openid-configuration") {
		return answer(req, http.StatusOK, nil, map[string]string{
			"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
		})
	}
	if t == nil {
		return answer(req, http.StatusBadRequest, nil, loginError("AADSTS90002"))
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return answer(req, http.StatusBadRequest, nil, loginError("AADSTS900144"))
	}
	sp, code := t.authenticate(c, form)
	if code != "" {
		return answer(req, http.StatusUnauthorized, nil, loginError(code))
	}
	return answer(req, http.StatusOK, nil, map[string]any{"token_type": "Bearer", "expires_in": 3599, "access_token": token(t.ID, sp)})
}

func loginError(code string) map[string]any {
	return map[string]any{"error": "invalid_client", "error_description": code + ": " + UpstreamWords}
}

// metadata is the service on the link that gives a machine its own identity.
func (c *Cloud) metadata(req *http.Request) *http.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.Tenants[c.machine.tenant]
	var sp *Principal
	if t != nil {
		sp = t.PrincipalOf(c.machine.client)
	}
	if req.Header.Get("Metadata") != "true" || sp == nil {
		return answer(req, http.StatusBadRequest, nil, map[string]string{"error": "invalid_request", "error_description": UpstreamWords})
	}
	return answer(req, http.StatusOK, nil, map[string]string{
		"token_type": "Bearer", "expires_in": "3599", "resource": req.URL.Query().Get("resource"), "access_token": token(t.ID, sp),
	})
}

// LogsIn tells whether the tenant would give a token for a client id and
// secret now, and to which principal. Call it under Lock.
func (c *Cloud) LogsIn(t *Tenant, client, secret string) (*Principal, bool) {
	sp, code := t.authenticate(c, url.Values{"client_id": {client}, "client_secret": {secret}})
	return sp, code == ""
}

// authenticate checks a client's secret as Entra does, whose servers learn of
// applications, principals and secrets one after the other.
func (t *Tenant) authenticate(c *Cloud, form url.Values) (*Principal, string) {
	client := form.Get("client_id")
	app := t.AppOf(client)
	if app == nil || !c.visible(app.Born) {
		return nil, "AADSTS700016"
	}
	sp := t.PrincipalOf(client)
	if sp == nil || !c.visible(sp.Born) {
		return nil, "AADSTS7000229"
	}
	if !sp.Enabled {
		return nil, "AADSTS7000112"
	}
	if form.Get("client_assertion") != "" {
		if app.Certificate {
			return sp, ""
		}
		return nil, "AADSTS700027"
	}
	for _, pw := range app.Passwords {
		if pw.Text != form.Get("client_secret") || !c.visible(pw.Born) {
			continue
		}
		if !c.clk.Now().Before(pw.End) {
			return nil, "AADSTS7000222"
		}
		return sp, ""
	}
	return nil, "AADSTS7000215"
}
