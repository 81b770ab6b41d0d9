package aws

import (
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Where a target's root credential comes from.
const (
	sourceStatic      = "static"
	sourceEnvironment = "environment"
	sourceInstance    = "instance"
	sourceContainer   = "container"
	sourceWebIdentity = "web_identity"
)

const defaultRegion = "us-east-1"

// targetFields are what an AWS target has.
func targetFields() []contract.Field {
	return []contract.Field{
		{
			Name: "root_credential", Type: contract.TypeString, Where: true, Default: sourceStatic,
			Allowed: []string{sourceStatic, sourceEnvironment, sourceInstance, sourceContainer, sourceWebIdentity},
			Description: "Where the root credential comes from: static is access_key and secret_key; web_identity is " +
				"web_identity_token_file; the others are the plugin process's own identity and must be allowed by PIM_ALLOW_AMBIENT=aws.",
		},
		{Name: "access_key", Type: contract.TypeString, Secret: true, Description: "Access key id of the root credential. For static."},
		{Name: "secret_key", Type: contract.TypeString, Secret: true, Description: "Secret access key of the root credential. For static."},
		{
			Name: "base_role_arn", Type: contract.TypeString, Where: true,
			Description: "Role that the root credential assumes first; credentials are made with it, in its account. Sessions made through it last 1 h at most.",
		},
		{
			Name: "external_id", Type: contract.TypeString, Where: true,
			Description: "External id for base_role_arn and revoker_role_arn.",
		},
		{
			Name: "revoker_role_arn", Type: contract.TypeString, Where: true,
			Description: "Role in the same account that writes the revocation policies. Default: the identity that makes credentials.",
		},
		{
			Name: "web_identity_role_arn", Type: contract.TypeString, Where: true,
			Description: "Role to assume with the web identity token. For web_identity.",
		},
		{
			Name: "web_identity_token_file", Type: contract.TypeString, Where: true,
			Description: "File with the web identity token, relative to PIM_FILE_ROOT. For web_identity.",
		},
		{Name: "region", Type: contract.TypeString, Where: true, Default: defaultRegion, Description: "Region that requests are signed for."},
		{Name: "sts_region", Type: contract.TypeString, Where: true, Description: "Region of STS. Default: region."},
		{Name: "sts_endpoint", Type: contract.TypeString, Where: true, Description: "URL of STS. Default: AWS's for the region."},
		{
			Name: "sts_fallback_endpoints", Type: contract.TypeStrings, Where: true,
			Description: "URLs of STS to try in order when the first cannot be reached or fails. One for each of sts_fallback_regions.",
		},
		{
			Name: "sts_fallback_regions", Type: contract.TypeStrings, Where: true,
			Description: "Regions of STS to try in order when the first cannot be reached or fails.",
		},
		{Name: "iam_endpoint", Type: contract.TypeString, Where: true, Description: "URL of IAM. Default: AWS's for the partition."},
		{
			Name: "identity_center_arn", Type: contract.TypeString, Where: true,
			Description: "ARN of the IAM Identity Center instance. Needed for identity_center.",
		},
		{Name: "identity_center_region", Type: contract.TypeString, Where: true, Description: "Region of IAM Identity Center. Default: region."},
		{
			Name: "identity_center_endpoint", Type: contract.TypeString, Where: true,
			Description: "URL of IAM Identity Center (sso-admin). Default: AWS's for the region.",
		},
		{
			Name: "identity_store_endpoint", Type: contract.TypeString, Where: true,
			Description: "URL of the Identity Store. Default: AWS's for the region.",
		},
		{
			Name: "organizations_endpoint", Type: contract.TypeString, Where: true,
			Description: "URL of Organizations, for scp_deny. Default: AWS's for the partition.",
		},
		{
			Name: "signin_endpoint", Type: contract.TypeString, Where: true,
			Description: "URL of the federation endpoint that makes console sign-in tokens. Default: AWS's for the partition.",
		},
		{
			Name: "max_retries", Type: contract.TypeInt, Free: true, Default: defaultRetries,
			Description: "How often a call that AWS throttled or failed is repeated, 0 to 10.",
		},
	}
}

const (
	defaultRetries = 2
	mostRetries    = 10
)

// roleFields are what a role at an AWS target has.
func roleFields() []contract.Field {
	return append(sessionFields(), ownFields()...)
}

// sessionFields belong to roles that issue a credential.
func sessionFields() []contract.Field {
	return []contract.Field{
		{
			Name: "credential_type", Type: contract.TypeString,
			Allowed: []string{kindRole, kindUser, kindFederation, kindCenter},
			Description: "assumed_role is a session of an IAM role, iam_user a new IAM user with an access key, federation_token a " +
				"federated session of the root user, identity_center an assignment for the requester's own user. Implied: " +
				"assumed_role by role_arns, identity_center by permission_set_arn, iam_user by user_path, iam_groups or permissions_boundary_arn.",
		},
		{
			Name: "role_arns", Type: contract.TypeStrings,
			Description: "Roles to assume; of several the request names one in its parameter role_arn. For assumed_role.",
		},
		{
			Name: "policy_document", Type: contract.TypeString,
			Description: "IAM policy in JSON: session policy of a session, inline policy of a user. pim adds its denies to it.",
		},
		{Name: "policy_arns", Type: contract.TypeStrings, Description: "Managed policies: session policies of a session (10 at most), attached to a user."},
		{
			Name: "session_tags", Type: contract.TypeMap,
			Description: "Session tags, key to template. Templates know {{person}}, {{ticket}}, {{role}}, {{entity_id}}, {{request_id}}, " +
				"{{credential_id}}, {{metadata.KEY}} and {{params.NAME}}.",
		},
		{Name: "transitive_tags", Type: contract.TypeStrings, Description: "Keys of session_tags that stay when the session goes on to another role. For assumed_role."},
		{
			Name: "allow_chaining", Type: contract.TypeStrings,
			Description: "Roles of the same account that the session may go on to; a revocation denies the session there too. Default: none. For assumed_role.",
		},
		{
			Name: "can_persist", Type: contract.TypeBool,
			Description: "Do not deny the making of users, keys and roles, which outlive the credential.",
		},
		{
			Name: "revocation", Type: contract.TypeString, Allowed: []string{string(domain.Propagating), string(domain.ExpiryOnly)},
			Description: "Whether an early end is enforced at AWS (propagating) or the credential lives until its own end (expiry_only). " +
				"Default: propagating; for federation_token expiry_only, where propagating needs the right to edit the policies of the root user.",
		},
		{
			Name: "console", Type: contract.TypeBool,
			Description: "Answer a console_url too, which opens the AWS console. For assumed_role and federation_token.",
		},
	}
}

// ownFields belong to users of pim's own making and to people's own users.
func ownFields() []contract.Field {
	return []contract.Field{
		{Name: "external_id", Type: contract.TypeString, Description: "External id for role_arns. For assumed_role."},
		{Name: "user_path", Type: contract.TypeString, Description: "Path of the user, below /pim/. Default: /pim/. For iam_user."},
		{Name: "permissions_boundary_arn", Type: contract.TypeString, Description: "Permissions boundary of the user. For iam_user."},
		{Name: "iam_groups", Type: contract.TypeStrings, Description: "Groups that the user joins. For iam_user."},
		{Name: "iam_tags", Type: contract.TypeMap, Description: "Tags of the user, key to template as in session_tags. For iam_user."},
		{
			Name: "key_probes", Type: contract.TypeInt,
			Description: "How often in a row a new key must have worked, a second apart, before it is handed out: 0 to 10. With 0 it is handed " +
				"out at once, and some of IAM's servers may refuse it for seconds. Default: 3. For iam_user.",
		},
		{Name: "permission_set_arn", Type: contract.TypeString, Description: "Permission set to assign. For identity_center."},
		{Name: "account_id", Type: contract.TypeString, Description: "Account in which it is assigned. For identity_center."},
		{
			Name: "principal_source", Type: contract.TypeString,
			Description: "Where the requester's own principal is named: alias:<mount accessor> or metadata:<key>. Whoever administers identity at " +
				"the host can then choose whom to elevate. For identity_center.",
		},
		{
			Name: "principal_attribute", Type: contract.TypeString, Allowed: []string{attributeUserName, attributeEmail},
			Description: "Attribute of the Identity Center user that must equal that name. Default: userName. For identity_center.",
		},
		{
			Name: "scp_deny", Type: contract.TypeString,
			Description: "Id of a service control policy, kept for this, in which pim denies role sessions that are already open. For identity_center.",
		},
	}
}

// Attributes of a directory user that AWS keeps unique.
const (
	attributeUserName = "userName"
	attributeEmail    = "emails.value"
)
