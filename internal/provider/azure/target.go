package azure

import (
	"crypto"
	"crypto/x509"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// The clouds.
const (
	cloudPublic     = "public"
	cloudGovernment = "usgovernment"
	cloudChina      = "china"
)

// The services that can have another address.
const (
	svcLogin = "login"
	svcGraph = "graph"
	svcARM   = "arm"
)

const maxScopes = 50

var guidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// homes are the addresses of a cloud's services.
func homes(cloud string) map[string]string {
	switch cloud {
	case cloudGovernment:
		return map[string]string{
			svcLogin: "https://login.microsoftonline.us", svcGraph: "https://graph.microsoft.us",
			svcARM: "https://management.usgovcloudapi.net",
		}
	case cloudChina:
		return map[string]string{
			svcLogin: "https://login.chinacloudapi.cn", svcGraph: "https://microsoftgraph.chinacloudapi.cn",
			svcARM: "https://management.chinacloudapi.cn",
		}
	}
	return map[string]string{
		svcLogin: "https://login.microsoftonline.com", svcGraph: "https://graph.microsoft.com", svcARM: "https://management.azure.com",
	}
}

// targetConfig is what a target's fields say, in types.
type targetConfig struct {
	tenant, client, subscription string
	secret                       secret.String
	certs                        []*x509.Certificate
	key                          crypto.PrivateKey
	token                        remote.File // federated
	cloud                        map[string]string
	endpoints                    map[string]string
	managed                      []string
}

// readTarget reads a target's fields and reports everything that is wrong with
// them. It does no I/O.
func readTarget(env contract.Env, t contract.Target) (targetConfig, contract.Report) {
	var report contract.Report
	v := t.Fields
	c := targetConfig{
		tenant: v.String("tenant_id"), client: v.String("client_id"), subscription: v.String("subscription_id"),
		secret: t.Secrets["client_secret"], cloud: homes(v.String("cloud")),
	}
	if !guidForm.MatchString(c.tenant) {
		report.Addf("tenant_id", "is required: the tenant's id in lower case, not its domain")
	}
	if c.client != "" && !guidForm.MatchString(c.client) {
		report.Addf("client_id", "must be an application (client) id in lower case")
	}
	if c.subscription != "" && !guidForm.MatchString(c.subscription) {
		report.Addf("subscription_id", "must be a subscription's id in lower case")
	}
	c.readCredential(env, t, &report)
	c.readEndpoints(env, v.Map("endpoints"), &report)
	c.managed = v.Strings("managed_scopes")
	if len(c.managed) == 0 && c.subscription != "" {
		c.managed = []string{"/subscriptions/" + c.subscription}
	}
	if len(c.managed) > maxScopes || slices.ContainsFunc(c.managed, func(s string) bool { return !scopeForm.MatchString(s) }) {
		report.Addf("managed_scopes", "must be at most %d scopes: /subscriptions/ID… or /providers/Microsoft.Management/managementGroups/NAME", maxScopes)
	}
	return c, report
}

func (c *targetConfig) readCredential(env contract.Env, t contract.Target, report *contract.Report) {
	certificate, file := t.Secrets["client_certificate"], t.Fields.String("federated_token_file")
	given := 0
	for _, set := range []bool{!c.secret.Empty(), !certificate.Empty(), file != ""} {
		if set {
			given++
		}
	}
	if given > 1 {
		report.Addf("client_secret", "only one of client_secret, client_certificate and federated_token_file can be set")
	}
	if given > 0 && c.client == "" {
		report.Addf("client_id", "is required with client_secret, client_certificate and federated_token_file")
	}
	ambient := slices.Contains(env.AllowAmbient, Type)
	switch {
	case !c.secret.Empty():
	case !certificate.Empty():
		certs, key, err := azidentity.ParseCertificates([]byte(certificate.Reveal()), nil)
		if err != nil {
			report.Addf("client_certificate", "must be a certificate and its private key without a password, in PEM")
		}
		c.certs, c.key = certs, key
	case file != "":
		var ok bool
		if c.token, ok = remote.FileBelow(env.FileRoot, file); !ok {
			report.Addf("federated_token_file", "must be a file below PIM_FILE_ROOT, which the plugin's registration sets")
		}
		if !ambient {
			report.Addf("federated_token_file", "is taken only if PIM_ALLOW_AMBIENT has azure")
		}
	case !ambient:
		report.Addf("client_secret", "is required, or client_certificate; the machine's own identity is taken only if PIM_ALLOW_AMBIENT has azure")
	}
}

func (c *targetConfig) readEndpoints(env contract.Env, given map[string]string, report *contract.Report) {
	c.endpoints = maps.Clone(c.cloud)
	for _, name := range contract.SortedKeys(given) {
		if c.cloud[name] == "" {
			report.Addf("endpoints", "names a service that this provider does not call")
			continue
		}
		u, err := url.Parse(given[name])
		if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" {
			report.Addf("endpoints", "%s must be an address: https://name:port", name)
			continue
		}
		if remote.IsLocalName(u.Hostname()) && !env.AllowLocal {
			report.Addf("endpoints", "%s is this machine or its link, which only PIM_ALLOW_LOCAL=true permits", name)
		}
		c.endpoints[name] = strings.TrimRight(given[name], "/")
	}
}

// readToken reads the workload's identity token, which may not be outside of
// the root.
func (c targetConfig) readToken() (string, error) {
	raw, err := c.token.Read()
	return strings.TrimSpace(string(raw)), err
}

// manages tells whether roles of this target may grant access on a scope.
func (c targetConfig) manages(scope string) bool {
	return slices.ContainsFunc(c.managed, func(m string) bool {
		return strings.EqualFold(scope, m) || (len(scope) > len(m) && strings.EqualFold(scope[:len(m)], m) && scope[len(m)] == '/')
	})
}
