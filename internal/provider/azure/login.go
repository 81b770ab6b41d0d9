package azure

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// audience is what a token for Azure Resource Manager is made for.
func (c targetConfig) audience() string {
	switch c.cloud[svcARM] {
	case homes(cloudGovernment)[svcARM]:
		return "https://management.core.usgovcloudapi.net"
	case homes(cloudChina)[svcARM]:
		return "https://management.core.chinacloudapi.cn"
	}
	return "https://management.core.windows.net"
}

func (c targetConfig) armScope() string   { return c.audience() + "/.default" }
func (c targetConfig) graphScope() string { return c.cloud[svcGraph] + "/.default" }

// configuration tells the SDK which cloud it speaks to.
func (c targetConfig) configuration() cloud.Configuration {
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: c.endpoints[svcLogin] + "/",
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Audience: c.audience(), Endpoint: c.endpoints[svcARM]},
		},
	}
}

// newCredential makes the engine's own login. It does no I/O. Instance
// discovery would ask the public cloud about every other one.
func newCredential(w surroundings, env contract.Env, c targetConfig) (azcore.TokenCredential, error) {
	options := clientOptions(remote.NewClient(w.transport(env, false)), w.pace, env.Clock)
	options.Cloud = c.configuration()
	switch {
	case !c.secret.Empty():
		return azidentity.NewClientSecretCredential(c.tenant, c.client, c.secret.Reveal(),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	case c.key != nil:
		return azidentity.NewClientCertificateCredential(c.tenant, c.client, c.certs, c.key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	case c.token.Path != "":
		read := func(context.Context) (string, error) { return c.readToken() }
		return azidentity.NewClientAssertionCredential(c.tenant, c.client, read,
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	}
	options.Transport = remote.NewClient(w.transport(env, true))
	managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
	if c.client != "" {
		managed.ID = azidentity.ClientID(c.client)
	}
	return azidentity.NewManagedIdentityCredential(managed)
}

// claims are what the tenant says about the engine's own identity.
type claims struct {
	Tenant string   `json:"tid"`
	Object string   `json:"oid"` // object id of its service principal
	Client string   `json:"appid"`
	Roles  []string `json:"roles"` // application permissions, in tokens for Graph
}

// self is who the engine is, as its token for a service says it. The token
// came from the tenant itself over TLS, and every call is made with it: where
// it is from is where the calls take effect.
func (p *Provider) self(ctx context.Context, scope string) (claims, error) {
	var out claims
	token, err := p.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		return out, failure("log in", err)
	}
	parts := strings.Split(token.Token, ".")
	if len(parts) != 3 {
		return out, failure("log in", remote.ErrAnswer)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(raw, &out) != nil || !guidForm.MatchString(out.Tenant) || !guidForm.MatchString(out.Object) {
		return claims{}, failure("log in", remote.ErrAnswer)
	}
	return out, nil
}

// accepts tells whether the tenant gives a token for a client id and secret.
// What it does not know yet is no error.
func (p *Provider) accepts(ctx context.Context, client, secret string) (bool, error) {
	const op = "try the new secret"
	status, raw, err := p.graph.post(ctx, p.config, client, secret)
	if err != nil {
		return false, failure(op, err)
	}
	if status == http.StatusOK {
		return true, nil
	}
	code := aadstsForm.FindString(string(raw))
	switch code {
	case "AADSTS7000215", "AADSTS700016", "AADSTS7000229", "AADSTS7000216", "AADSTS7000112", "AADSTS7000222":
		return false, nil // the secret, the application or its principal is not known everywhere yet
	}
	if status == http.StatusTooManyRequests || status >= http.StatusInternalServerError {
		return false, nil
	}
	if code == "" {
		code = fmt.Sprintf("HTTP_%d", status)
	}
	return false, &contract.Error{
		Op: op, Code: code, Public: "the tenant does not accept the new secret", Refused: true, Cause: &apiError{status: status, code: code},
	}
}
