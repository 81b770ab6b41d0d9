package aws

import (
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/aws"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

const (
	noSessions = "STS keeps no list of sessions"
	noTags     = "Identity Center has no tags on assignments"
)

// TestConformance runs the suite once per credential type, each in accounts of
// its own.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string]func(c *cloud) contract.Values{
		"a role session": func(c *cloud) contract.Values {
			return contract.Values{"role_arns": []string{c.role(prodRole)}}
		},
		"a role session that may go on": func(c *cloud) contract.Values {
			return contract.Values{
				"role_arns": []string{c.role(prodRole)}, "allow_chaining": []string{c.role(readerRole)},
				"policy_document": allowAll, "session_tags": map[string]string{"who": "{{person}}"},
			}
		},
		"a federation token": func(*cloud) contract.Values {
			return contract.Values{"credential_type": "federation_token", "policy_document": allowAll}
		},
		"a federation token that can be denied": func(*cloud) contract.Values {
			return contract.Values{"credential_type": "federation_token", "policy_document": allowAll, "revocation": string(domain.Propagating)}
		},
		"a user": func(*cloud) contract.Values {
			return contract.Values{"user_path": "/pim/prod/", "policy_document": allowAll, "iam_groups": []string{"admins"}}
		},
		"a user whose key nobody tries": func(*cloud) contract.Values {
			return contract.Values{"user_path": "/pim/prod/", "policy_document": allowAll, "key_probes": 0}
		},
		"an assignment": func(c *cloud) contract.Values {
			return contract.Values{"permission_set_arn": c.set, "account_id": c.account, "principal_source": "metadata:aws_user"}
		},
		"an assignment whose open sessions are denied": func(c *cloud) contract.Values {
			return contract.Values{
				"permission_set_arn": c.set, "account_id": c.account, "principal_source": "metadata:aws_user", "scp_deny": c.rail,
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clk := &hurryClock{}
			// Every row has an account of its own, and fields name the account:
			// so the suite runs on one account, with the rows one after another.
			c, elsewhere := newCloud(t, clk.Now).withCenter(t), newCloud(t, clk.Now)
			one := providertest.Case{Name: "at moto", Fields: fields(c)}
			switch {
			case one.Fields["permission_set_arn"] != nil:
				one.Unlisted, one.Principal, one.OtherPrincipal = noTags, c.alice, c.bob
			case one.Fields["user_path"] == nil:
				one.Unlisted = noSessions
			}
			providertest.Run(t, providertest.Suite{
				Cases: []providertest.Case{one},
				Open: func(t *testing.T) *providertest.World {
					t.Helper()
					return c.world(clk, elsewhere)
				},
			})
		})
	}
}

func (c *cloud) world(clk *hurryClock, elsewhere *cloud) *providertest.World {
	other := elsewhere.target()
	if c.instance != "" {
		other.Fields["identity_center_arn"] = c.instance
	}
	return &providertest.World{
		Descriptor: aws.Descriptor(), Env: contract.Env{Clock: clk, AllowLocal: true},
		Target: c.target(), Elsewhere: other,
		Exists:  func(t testing.TB, h domain.Handle) []providertest.Object { return c.exists(t, h, clk.Now()) },
		Works:   func(t testing.TB, issued contract.Issued) bool { return c.works(t, issued, clk.Now()) },
		Advance: clk.advance, Watch: c.gate.watch, Break: c.gate.breakDown,
		Markers: []string{c.sec, upstreamWords},
		Public: []string{
			"access_key", "arn", "expiration", "username", "principal", "account_id", "permission_set", "permission_set_arn",
		},
	}
}
