package aws

import (
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Longest lives that AWS makes.
const (
	maxRoleSession = 12 * time.Hour
	maxFederation  = 36 * time.Hour
	maxChained     = time.Hour        // of a session that a role session asked for
	minSession     = 15 * time.Minute // STS makes none shorter; the guard ends shorter windows
)

// normalize fills what other fields imply.
func normalize(role contract.Values) contract.Values {
	out := role.WithDefaults(roleFields())
	kind := out.String("credential_type")
	if kind == "" {
		kind = impliedKind(out)
	}
	if kind == "" {
		return out
	}
	out["credential_type"] = kind
	if out.String("revocation") == "" && (kind == kindRole || kind == kindUser || kind == kindFederation) {
		out["revocation"] = string(domain.Propagating)
		if kind == kindFederation {
			out["revocation"] = string(domain.ExpiryOnly)
		}
	}
	if kind == kindUser && out.String("user_path") == "" {
		out["user_path"] = policyPath
	}
	if kind == kindCenter && out.String("principal_attribute") == "" {
		out["principal_attribute"] = attributeUserName
	}
	return out
}

func impliedKind(v contract.Values) string {
	switch {
	case len(v.Strings("role_arns")) > 0:
		return kindRole
	case v.String("permission_set_arn") != "":
		return kindCenter
	case v.String("user_path") != "", len(v.Strings("iam_groups")) > 0, v.String("permissions_boundary_arn") != "":
		return kindUser
	}
	return ""
}

// revocable tells whether a role's sessions can be ended early.
func revocable(v contract.Values) bool {
	return v.String("revocation") != string(domain.ExpiryOnly)
}

// limits bounds a role's credentials.
func limits(role contract.Values) contract.Limits {
	switch normalize(role).String("credential_type") {
	case kindFederation:
		return contract.Limits{MaxTTL: maxFederation, IssueTimeout: 20 * time.Second}
	case kindUser:
		if probesOf(role) > 0 {
			return contract.Limits{IssueTimeout: 90 * time.Second, Slow: true} // nobody waits for the tries in the call itself
		}
		return contract.Limits{IssueTimeout: 25 * time.Second}
	case kindCenter:
		return contract.Limits{IssueTimeout: 90 * time.Second, Slow: true}
	}
	return contract.Limits{MaxTTL: maxRoleSession, IssueTimeout: 20 * time.Second}
}

// revocation is what a role promises about the end of its credentials. AWS
// publishes no bound for how long a policy change takes to be seen everywhere,
// so none is printed. Created objects are identities, and ways into them, that
// outlive the credential: where a policy of ours denies making them, none do.
func revocation(role contract.Values) domain.Revocation {
	v := normalize(role)
	chains := len(v.Strings("allow_chaining")) > 0
	persists := v.Bool("can_persist") || chains // the role it goes on to is bound by no policy of ours
	out := domain.Revocation{Class: domain.Propagating, Survives: []domain.Survivor{domain.OpenSessions}}
	switch v.String("credential_type") {
	case kindCenter:
		// A permission set's session is bound by no session policy of ours.
		chains, persists = true, true
		if v.String("scp_deny") == "" {
			out.Class = domain.ExpiryOnly
		}
	case kindRole, kindFederation:
		if !revocable(v) {
			out.Class = domain.ExpiryOnly
		}
	}
	if chains {
		out.Survives = append(out.Survives, domain.ChainedRoles)
	}
	if v.String("credential_type") != kindUser { // a user's key dies with it, and proves nobody's identity afterwards
		out.Survives = append(out.Survives, domain.IdentityProofs)
	}
	if persists {
		out.Survives = append(out.Survives, domain.CreatedObjects)
	}
	return out
}

// arn is an ARN cut into its parts.
type arn struct{ partition, service, region, account, resource string }

// parseARN cuts an ARN; ok is false when it is none.
func parseARN(s string) (arn, bool) {
	parts := strings.SplitN(s, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || !strings.HasPrefix(parts[1], "aws") || parts[5] == "" {
		return arn{}, false
	}
	return arn{parts[1], parts[2], parts[3], parts[4], parts[5]}, true
}

// roleName returns the name of an IAM role's ARN, without its path.
func (a arn) roleName() (string, bool) {
	if a.service != "iam" || !strings.HasPrefix(a.resource, "role/") || strings.HasSuffix(a.resource, "/") {
		return "", false
	}
	return a.resource[strings.LastIndex(a.resource, "/")+1:], true
}

// userName returns the name of an IAM user's ARN, without its path.
func (a arn) userName() (string, bool) {
	if a.service != "iam" || !strings.HasPrefix(a.resource, "user/") || strings.HasSuffix(a.resource, "/") {
		return "", false
	}
	return a.resource[strings.LastIndex(a.resource, "/")+1:], true
}

// sessionRole returns the role's name of a role session's ARN. STS leaves the
// role's path out of it.
func (a arn) sessionRole() (string, bool) {
	parts := strings.Split(a.resource, "/")
	if a.service != "sts" || len(parts) != 3 || parts[0] != "assumed-role" {
		return "", false
	}
	return parts[1], true
}
