package gcp

import "github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"

const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

func targetFields() []contract.Field {
	return []contract.Field{
		{
			Name: "project", Type: contract.TypeString, Where: true,
			Description: "Id of the project that the target is: service accounts are made here. A project of its own for pim is the advice.",
		},
		{
			Name: "credentials", Type: contract.TypeString, Secret: true,
			Description: "Key of the service account that the engine acts as, in JSON. rotate-root needs it here.",
		},
		{
			Name: "credentials_file", Type: contract.TypeString, Where: true,
			Description: "File below PIM_FILE_ROOT, read at every use: a service account key, or a workload identity federation " +
				"configuration whose subject token is in a file below PIM_FILE_ROOT too. Without it and credentials the process's own " +
				"identity, if PIM_ALLOW_AMBIENT has gcp.",
		},
		{
			Name: "impersonate", Type: contract.TypeStrings, Where: true,
			Description: "Service accounts to go through, in order; the engine acts as the last one.",
		},
		{
			Name: "managed_resources", Type: contract.TypeStrings,
			Description: "Resources that roles of this target may grant access on, and that sweeps look at: projects/ID, folders/NUMBER, " +
				"organizations/NUMBER, or full resource names. Default: the project.",
		},
		{
			Name: "endpoints", Type: contract.TypeMap, Where: true,
			Description: "Addresses of Google's services where they are not the public ones, by name: cloudkms, cloudresourcemanager, iam, " +
				"iamcredentials, metadata, oauth2, run, secretmanager, storage, sts.",
		},
	}
}

func roleFields() []contract.Field {
	return []contract.Field{
		{
			Name: "credential_type", Type: contract.TypeString, Allowed: []string{kindToken, kindKey, kindBinding},
			Description: "access_token: a token of a service account. service_account_key: a key of one. iam_binding: iam_roles for the " +
				"requester's own principal. Implied: iam_binding by principal_source, else access_token.",
		},
		{
			Name: "service_account_email", Type: contract.TypeString,
			Description: "Existing service account. Its tokens cannot be ended early (expiry_only). Without it every credential has a service " +
				"account of its own.",
		},
		{
			Name: "iam_roles", Type: contract.TypeStrings,
			Description: "Roles to grant on resources: roles/viewer, projects/ID/roles/NAME, organizations/NUMBER/roles/NAME.",
		},
		{
			Name: "resources", Type: contract.TypeStrings,
			Description: "Where iam_roles are granted: projects/ID, folders/NUMBER, organizations/NUMBER, or full resource names such as " +
				"//storage.googleapis.com/buckets/NAME. Each must be in the target's managed_resources. Default: the target's project.",
		},
		{
			Name: "condition", Type: contract.TypeString,
			Description: "Further IAM condition (CEL) of what is granted, beside the end of the access window.",
		},
		{
			Name: "token_scopes", Type: contract.TypeStrings, Default: []string{cloudPlatform},
			Description: "OAuth scopes of access tokens.",
		},
		{
			Name: "wait_for_permissions", Type: contract.TypeStrings,
			Description: "Permissions that the new service account must have on each of resources before the credential is handed out: " +
				"grants take minutes to work everywhere. Needs no permission of the engine.",
		},
		{
			Name: "principal_source", Type: contract.TypeString,
			Description: "Where the requester's own e-mail address at Google is: alias:<mount accessor> or metadata:<key>. Whoever administers " +
				"identity at the host can then choose whom to elevate.",
		},
		{
			Name: "member_type", Type: contract.TypeString, Default: memberUser, Allowed: []string{memberUser, memberGroup},
			Description: "What the principal is at Google. A group raises everybody in it.",
		},
	}
}
