package azure

import "github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"

func targetFields() []contract.Field {
	return []contract.Field{
		{Name: "tenant_id", Type: contract.TypeString, Where: true, Description: "Id of the Entra tenant that the target is."},
		{
			Name: "client_id", Type: contract.TypeString, Where: true,
			Description: "Application (client) id that the engine acts as. Optional for the machine's managed identity.",
		},
		{
			Name: "client_secret", Type: contract.TypeString, Secret: true,
			Description: "Secret of that application. rotate-root needs it here.",
		},
		{
			Name: "client_certificate", Type: contract.TypeString, Secret: true,
			Description: "Certificate and private key of that application in PEM, instead of a secret.",
		},
		{
			Name: "federated_token_file", Type: contract.TypeString, Where: true,
			Description: "File below PIM_FILE_ROOT with the workload's identity token, read at every login. Needs azure in PIM_ALLOW_AMBIENT. " +
				"Without it, a secret and a certificate: the machine's managed identity, if PIM_ALLOW_AMBIENT has azure.",
		},
		{
			Name: "subscription_id", Type: contract.TypeString, Where: true,
			Description: "Subscription that the target is bound to besides the tenant. Optional.",
		},
		{
			Name: "cloud", Type: contract.TypeString, Where: true, Default: cloudPublic, Allowed: []string{cloudPublic, cloudGovernment, cloudChina},
			Description: "Which Azure: public, usgovernment or china.",
		},
		{
			Name: "managed_scopes", Type: contract.TypeStrings,
			Description: "Scopes that roles of this target may grant access on, themselves and what is below, and that sweeps look at: " +
				"/subscriptions/ID[/resourceGroups/NAME[/providers/…]] or /providers/Microsoft.Management/managementGroups/NAME. " +
				"Default: the subscription.",
		},
		{
			Name: "endpoints", Type: contract.TypeMap, Where: true,
			Description: "Addresses of services where they are not the cloud's own, by name: login, graph, arm. https only.",
		},
	}
}

func roleFields() []contract.Field {
	return []contract.Field{
		{
			Name: "credential_type", Type: contract.TypeString, Allowed: []string{kindPrincipal, kindPassword, kindAssignment, kindMember},
			Description: "service_principal: an application, principal and secret of its own. application_password: a password of an existing " +
				"application. role_assignment, group_membership: for the requester's own account. Implied by the other fields.",
		},
		{
			Name: "azure_roles", Type: contract.TypeStrings,
			Description: "Roles to assign, each as ROLE@SCOPE: the id of a role definition, or the name of a common built-in one, and where. " +
				"Exactly one for role_assignment.",
		},
		{
			Name: "azure_groups", Type: contract.TypeStrings,
			Description: "Object ids of groups to join. Exactly one for group_membership.",
		},
		{
			Name: "application_object_id", Type: contract.TypeString,
			Description: "Object id (not client id) of the existing application. For application_password.",
		},
		{
			Name: "permanently_delete", Type: contract.TypeBool,
			Description: "Purge the deleted application and its principal instead of leaving them in the directory's bin for 30 days. For service_principal.",
		},
		{
			Name: "schedule", Type: contract.TypeBool,
			Description: "Have Azure itself end the assignment with the window (role assignment schedule requests of PIM for Azure resources, which " +
				"need a licence). Windows of six minutes at least; Azure takes no removal in the first five. For role_assignment.",
		},
		{
			Name: "principal_source", Type: contract.TypeString,
			Description: "Where the requester's own object id is: alias:<mount accessor> or metadata:<key>. Whoever administers identity at the " +
				"host can then choose whom to elevate.",
		},
		{
			Name: "principal_type", Type: contract.TypeString, Default: principalUser, Allowed: []string{principalUser, principalService},
			Description: "What the requester's account is: User, or ServicePrincipal for a workload.",
		},
	}
}
