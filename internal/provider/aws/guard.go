package aws

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Sizes that AWS allows, from the quota pages of IAM and STS.
const (
	maxSessionPolicy = 2048 // characters of session policy and managed policy ARNs together
	maxSessionARNs   = 10   // managed session policies
	maxUserPolicies  = 2048 // characters of all inline policies of a user, without white space
	maxRolePolicies  = 10240
	maxManagedPolicy = 6144
)

// persistActions make an identity, or a way into one, that outlives the
// credential. Wildcards keep them short: they share 2,048 characters with the
// role's own policy.
//
//nolint:gochecknoglobals // constant table
var persistActions = names{
	"iam:CreateUser", "iam:CreateRole", "iam:CreateAccessKey", "iam:UpdateAccessKey",
	"iam:*LoginProfile", "iam:UpdateAssumeRolePolicy", "iam:Create*Provider",
	"iam:*ServiceSpecificCredential", "iam:Upload*",
}

// chainActions lead on to a session that this credential's policies do not
// bind.
//
//nolint:gochecknoglobals // constant table
var chainActions = names{"sts:AssumeRole", "sts:AssumeRoot", "sts:GetFederationToken"}

// guard is what every credential that pim issues is forbidden, whatever else
// its policies allow.
type guard struct {
	End     time.Time // from here on everything is denied
	Own     []string  // ARNs through which the holder could undo a revocation: its role, the revoker's, their policies
	Chain   []string  // roles it may go on to; nil = none
	Persist bool      // it may make identities that outlive it
}

func (g guard) statements() []statement {
	out := []statement{{
		Effect: "Deny", Action: names{"*"}, Resource: names{"*"},
		Condition: condition{"DateGreaterThanEquals": {"aws:CurrentTime": {policyTime(g.End)}}},
	}}
	out = append(out, g.nothingLasting()...)
	if len(g.Own) > 0 {
		out = append(out, statement{Effect: "Deny", NotAction: names{"iam:Get*", "iam:List*"}, Resource: sorted(g.Own)})
	}
	if len(g.Chain) > 0 {
		out = append(out, statement{
			Effect: "Deny", NotAction: names{"iam:Get*", "iam:List*", "sts:*"}, Resource: sorted(g.Chain),
		})
	}
	return out
}

// nothingLasting denies going on to other sessions and, unless it may persist,
// making identities.
func (g guard) nothingLasting() []statement {
	everywhere := statement{Effect: "Deny", Resource: names{"*"}}
	if !g.Persist {
		everywhere.Action = slices.Clone(persistActions)
	}
	if len(g.Chain) == 0 {
		everywhere.Action = append(everywhere.Action, chainActions...)
		return []statement{everywhere}
	}
	everywhere.Action = append(everywhere.Action, chainActions[1:]...)
	return []statement{everywhere, {Effect: "Deny", Action: chainActions[:1], NotResource: sorted(g.Chain)}}
}

func sorted(list []string) names {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// guardedPolicy joins a role's own policy, which may be empty, with the guard.
// allowAll puts an Allow of everything in front where there is no own policy:
// a session policy without any Allow would allow nothing.
func guardedPolicy(own string, allowAll bool, g guard) (string, error) {
	d := policyDoc{Version: policyVersion}
	if own != "" {
		var err error
		if d, err = readDocument(own); err != nil {
			return "", err
		}
	} else if allowAll {
		if err := d.add(statement{Effect: "Allow", Action: names{"*"}, Resource: names{"*"}}); err != nil {
			return "", err
		}
	}
	if err := d.add(g.statements()...); err != nil {
		return "", err
	}
	return d.String(), nil
}

// sessionPolicy is the policy of a role session or federation token, measured
// against what STS takes.
func sessionPolicy(own string, arns []string, g guard) (string, error) {
	text, err := guardedPolicy(own, len(arns) == 0, g)
	if err != nil {
		return "", err
	}
	if len(arns) > maxSessionARNs {
		return "", fmt.Errorf("policy_arns has %d entries, a session takes %d", len(arns), maxSessionARNs)
	}
	for _, r := range text {
		if r < ' ' || r > 'ÿ' {
			return "", fmt.Errorf("policy_document has a character that STS does not take")
		}
	}
	size := utf8.RuneCountInString(text)
	for _, a := range arns {
		size += len(a)
	}
	if size > maxSessionPolicy {
		return "", fmt.Errorf("the session policy would have %d characters with what pim adds, STS takes %d: "+
			"shorten policy_document or use policy_arns", size, maxSessionPolicy)
	}
	return text, nil
}
