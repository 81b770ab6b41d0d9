package aws

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

var _ contract.ParamChecker = (*Provider)(nil)

// CheckParams implements contract.ParamChecker: the role that is chosen must
// be one of the list, and tags must not become longer than AWS takes.
func (p *Provider) CheckParams(_ context.Context, fields contract.Values, params map[string]string) error {
	in := contract.Input{Fields: normalize(fields), Params: params}
	if in.Fields.String("credential_type") == kindRole {
		if _, err := chosenRole(in); err != nil {
			return err
		}
	}
	for _, field := range []string{"session_tags", "iam_tags"} {
		if _, err := renderTags(field, in.Fields.Map(field), in); err != nil {
			return err
		}
	}
	return nil
}
