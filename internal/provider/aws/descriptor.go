package aws

import (
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Descriptor is the aws provider.
func Descriptor() contract.Descriptor { return descriptor(dialAWS, usualPace()) }

// dialer opens AWS for a target; tests open something else.
type dialer func(contract.Env, settings) (*cloud, error)

func descriptor(dial dialer, pace pace) contract.Descriptor {
	return contract.Descriptor{
		Type: Type, Summary: "One AWS account: role sessions, IAM users, federation tokens, Identity Center assignments.",
		TargetFields: targetFields(), RoleFields: roleFields(),
		Normalize: normalize, CheckTarget: checkTarget, Limits: limits, Revocation: revocation,
		New: func(env contract.Env, target contract.Target) (contract.Provider, error) {
			return open(env, target, dial, pace)
		},
	}
}
