package host

import (
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Type is the target type.
const Type = "host"

// Descriptor describes the provider for the host's own API.
func Descriptor() contract.Descriptor {
	return contract.Descriptor{
		Type:         Type,
		Summary:      "Any engine of the host itself (a lease of its own), a token of the host, an SSH or an X.509 certificate.",
		TargetFields: targetFields(), RoleFields: roleFields(),
		Normalize: normalize, CheckTarget: checkTarget, Limits: limits, Revocation: revocation,
		CheckParams: checkParams, List: revocationList(),
		New: func(env contract.Env, t contract.Target) (contract.Provider, error) { return open(env, t) },
	}
}

func targetFields() []contract.Field {
	return []contract.Field{
		{
			Name: "address", Type: contract.TypeString, Where: true,
			Description: "URL of the host's API, https or, on loopback, http. Required. Each node's own loopback listener is the advice.",
		},
		{
			Name: "namespace", Type: contract.TypeString, Where: true,
			Description: "Namespace of the host in which everything happens. Paths of roles never hold one.",
		},
		{
			Name: "ca_cert", Type: contract.TypeString, Where: true,
			Description: "Certificates in PEM form that alone may have signed the host's certificate. Default: the system's.",
		},
		{
			Name: "tls_server_name", Type: contract.TypeString, Where: true,
			Description: "Name that the host's certificate must carry, if it is not the address's.",
		},
		{
			Name: "token_role", Type: contract.TypeString,
			Description: "Token role of the host under which each credential gets its own token. " +
				"On a target it is required and serves every role that names none. It must yield orphan, " +
				"non-renewable service tokens without period.",
		},
		{
			Name: "auth_mount", Type: contract.TypeString, Where: true, Default: "approle",
			Description: "Mount path of the AppRole auth method, without auth/ before it.",
		},
		{
			Name: "role_id", Type: contract.TypeString,
			Description: "AppRole role id of the engine's own login. Needs secret_id; token stands instead of both.",
		},
		{
			Name: "role_name", Type: contract.TypeString,
			Description: "Name of that AppRole: needed to rotate its secret_id and to see how long it lives.",
		},
		{Name: "secret_id", Type: contract.TypeString, Secret: true, Description: "AppRole secret id of the engine's own login."},
		{
			Name: "token", Type: contract.TypeString, Secret: true,
			Description: "Token of the host as the engine's own login, instead of role_id and secret_id.",
		},
		{
			Name: "allowed_mount_types", Type: contract.TypeStrings,
			Description: "Engine types that roles may read besides database, ldap, openldap, rabbitmq, consul, nomad, " +
				"terraform, aws, gcp, azure and kubernetes.",
		},
		{
			Name: "public_krl", Type: contract.TypeBool, Free: true,
			Description: "Serve the key revocation list of this target's SSH certificates to callers without a token, at public/ssh/<target>/krl.",
		},
	}
}

func roleFields() []contract.Field {
	return slices.Concat(commonFields(), sshFields(), pkiFields())
}

func commonFields() []contract.Field {
	return []contract.Field{
		{
			Name: "credential_type", Type: contract.TypeString, Allowed: kindNames(),
			Description: "lease (implied by path) reads an engine of the host; token (implied by token_policies) hands out a token of the host; " +
				"ssh signs the requester's public key; pki issues an X.509 certificate.",
		},
		{
			Name: "path", Type: contract.TypeString,
			Description: "Path of the host that yields the credential, e.g. database/creds/admin under a lease; for ssh <mount>/sign/<role>, " +
				"for pki <mount>/issue/<role> or <mount>/sign/<role>. Required for all but token.",
		},
		{
			Name: "method", Type: contract.TypeString, Allowed: []string{"read", "write"},
			Description: "Whether path is read (the default) or written.",
		},
		{
			Name: "data", Type: contract.TypeMap,
			Description: "What is written to path: fixed values, or {{params.name}} as a whole value.",
		},
		{
			Name: "engine", Type: contract.TypeString,
			Description: "Type of the engine at path. Implied when path begins with a known type's name; " +
				"it decides the revocation class and is compared with the real mount at every issue.",
		},
		{
			Name: "ends_sessions", Type: contract.TypeBool,
			Description: "For engine=database: its revocation statements also terminate open sessions, which makes the end immediate.",
		},
		{
			Name: "revocation", Type: contract.TypeString,
			Allowed:     []string{string(domain.Immediate), string(domain.Propagating), string(domain.ExpiryOnly)},
			Description: "Revocation class where the engine's type alone does not tell it. Default: what the type promises at worst, expiry_only for unknown types.",
		},
		{
			Name: "token_policies", Type: contract.TypeStrings,
			Description: "Policies of the token that is handed out, all among those the token role allows; never root or default. Required for token.",
		},
		{
			Name: "token_role", Type: contract.TypeString,
			Description: "Token role of the host to use instead of the target's.",
		},
	}
}

func sshFields() []contract.Field {
	return []contract.Field{
		{
			Name: "public_key_param", Type: contract.TypeString,
			Description: "Request parameter that holds the requester's SSH public key. Default for credential_type=ssh: public_key.",
		},
		{
			Name: "valid_principals", Type: contract.TypeStrings,
			Description: "Login names that the certificate is for. Required for ssh.",
		},
		{
			Name: "extensions", Type: contract.TypeStrings,
			Description: "Extensions of the certificate, exactly: permit-pty, permit-port-forwarding and so on; name=value for one with a value.",
		},
		{
			Name: "critical_options", Type: contract.TypeMap,
			Description: "Critical options of the certificate, exactly: force-command, source-address, verify-required.",
		},
		{
			Name: "ca_public_key", Type: contract.TypeString,
			Description: "Public key of the CA, as in TrustedUserCAKeys. What another key has signed is revoked, and the key revocation list is bound to it. Required for ssh.",
		},
		{
			Name: "krl_fetch_interval", Type: contract.TypeSeconds,
			Description: "How often the hosts fetch the key revocation list at least: the bound in seconds that the role promises.",
		},
	}
}

func pkiFields() []contract.Field {
	const whole = " {{params.name}} as a whole value is filled from the request."
	return []contract.Field{
		{Name: "common_name", Type: contract.TypeString, Description: "Common name of the X.509 certificate." + whole},
		{Name: "alt_names", Type: contract.TypeStrings, Description: "DNS names and e-mail addresses of the X.509 certificate." + whole},
		{Name: "ip_sans", Type: contract.TypeStrings, Description: "IP addresses of the X.509 certificate." + whole},
		{Name: "uri_sans", Type: contract.TypeStrings, Description: "URIs of the X.509 certificate." + whole},
		{
			Name: "subject", Type: contract.TypeStrings,
			Description: "What the engine's role adds to the certificate's subject, exactly: O=Example, OU=eng and so on. A certificate with anything else is revoked.",
		},
		{
			Name: "csr_param", Type: contract.TypeString,
			Description: "Request parameter that holds the certificate request for a path with sign: its DER in one line of base64. Default: csr.",
		},
	}
}

// normalize fills what other fields imply. It never overrides what is given.
func normalize(role contract.Values) contract.Values {
	out := role.WithDefaults(nil)
	if out.String("credential_type") == "" {
		switch {
		case out.String("path") != "":
			out["credential_type"] = kindLease
		case len(out.Strings("token_policies")) > 0:
			out["credential_type"] = kindToken
		}
	}
	switch first := out.String("credential_type"); {
	case first == kindSSH && out.String("public_key_param") == "":
		out["public_key_param"] = defaultKeyParam
	case first == kindPKI && out.String("csr_param") == "" && signsRequest(out):
		out["csr_param"] = defaultCSRParam
	}
	if out.String("credential_type") != kindLease {
		return out
	}
	if out.String("method") == "" {
		out["method"] = "read"
	}
	first, _, _ := strings.Cut(out.String("path"), "/")
	if _, known := engines()[first]; known && out.String("engine") == "" {
		out["engine"] = first
	}
	return out
}

// checkParams reports what is wrong with a request's parameters, before it is
// filed.
func checkParams(role contract.Values, params map[string]string) contract.Report {
	var r contract.Report
	role = normalize(role)
	if k, ok := kindOf(role.String("credential_type")); ok && k.params != nil {
		k.params(&r, role, params)
	}
	return r
}

func limits(contract.Values) contract.Limits {
	return contract.Limits{MinTTL: time.Second, IssueTimeout: issueBudget + undoBudget}
}

func revocation(role contract.Values) domain.Revocation {
	role = normalize(role)
	if k, ok := kindOf(role.String("credential_type")); ok {
		return k.revocation(role)
	}
	return domain.Revocation{Class: domain.ExpiryOnly}
}
