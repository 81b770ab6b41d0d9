package kubernetes

import "github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"

// namespaceParam is the request parameter that chooses among allowed
// namespaces: one name, or several with commas.
const namespaceParam = "namespace"

func targetFields() []contract.Field {
	return []contract.Field{
		{
			Name: "host", Type: contract.TypeString, Where: true,
			Description: "Address of the API server, https://name:port. Without it the cluster that the plugin runs in, " +
				"if PIM_ALLOW_AMBIENT has kubernetes.",
		},
		{
			Name: "ca_cert", Type: contract.TypeString, Where: true,
			Description: "PEM certificates that the API server's certificate is checked with. Without them the system's.",
		},
		{
			Name: "tls_server_name", Type: contract.TypeString, Where: true,
			Description: "Name that the API server's certificate must carry, if it is not the one in host.",
		},
		{
			Name: "token", Type: contract.TypeString, Secret: true,
			Description: "Token of the service account that the engine acts as. rotate-root needs one that is bound to a Secret.",
		},
		{
			Name: "token_file", Type: contract.TypeString,
			Description: "File below PIM_FILE_ROOT to read the token from at every call, instead of token.",
		},
		{
			Name: "root_token_ttl", Type: contract.TypeSeconds, Default: rootTTL,
			Description: "Life of the token that rotate-root asks for. The cluster may shorten it.",
		},
		{
			Name: "managed_namespaces", Type: contract.TypeStrings,
			Description: "Namespaces that roles of this target may reach into. Empty: all, and cluster-wide roles too.",
		},
		{
			Name: "token_namespaces", Type: contract.TypeStrings,
			Description: "Namespaces of existing service accounts that roles may issue tokens of. Each such token has a Secret there, " +
				"which sweeps look for. * is every namespace.",
		},
	}
}

func roleFields() []contract.Field {
	return []contract.Field{
		{
			Name: "credential_type", Type: contract.TypeString, Allowed: []string{kindToken, kindGenerated, kindBinding},
			Description: "service_account_token: a token of an existing service account. generated_role: a service account of its own, " +
				"with generated or existing roles. role_binding: existing roles for the requester's own user. " +
				"Implied by the other fields.",
		},
		{
			Name: "service_account_name", Type: contract.TypeString,
			Description: "Existing service account to issue tokens of.",
		},
		{
			Name: "service_account_namespace", Type: contract.TypeString,
			Description: "Namespace of the existing service account, or where generated ones are made " +
				"(default: the first namespace of the credential).",
		},
		{
			Name: "namespaces", Type: contract.TypeStrings,
			Description: "Namespaces that every credential of this role reaches.",
		},
		{
			Name: "allowed_namespaces", Type: contract.TypeStrings,
			Description: "Namespaces that the request parameter \"namespace\" may choose from.",
		},
		{
			Name: "allowed_namespace_selector", Type: contract.TypeString,
			Description: "Label selector of further namespaces to choose from, as kubectl -l takes it. Looked at again at every issue; " +
				"never matches kube-*.",
		},
		{
			Name: "cluster_wide", Type: contract.TypeBool,
			Description: "Cluster role bindings instead of bindings in namespaces.",
		},
		{
			Name: "generated_role_rules", Type: contract.TypeString,
			Description: "Rules of the generated Role, or ClusterRole if cluster_wide: the list under rules: of a manifest, as YAML or JSON.",
		},
		{
			Name: "kubernetes_roles", Type: contract.TypeStrings,
			Description: "Existing roles to bind: ClusterRole/view, Role/deployer.",
		},
		{
			Name: "audiences", Type: contract.TypeStrings,
			Description: "Audiences of the token. Empty: the API server's own. Others make the role expiry_only.",
		},
		{
			Name: "principal_source", Type: contract.TypeString,
			Description: "Where the requester's own user or group name is: alias:<mount accessor> or metadata:<key>.",
		},
		{
			Name: "principal_kind", Type: contract.TypeString, Default: "User", Allowed: []string{"User", "Group"},
			Description: "What the principal is at the cluster. A Group raises everybody in it.",
		},
		{
			Name: "principal_prefix", Type: contract.TypeString,
			Description: "Text that the cluster puts before names from outside, such as oidc:.",
		},
	}
}
