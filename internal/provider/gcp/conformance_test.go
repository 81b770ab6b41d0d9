package gcp

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

// usualLag is long enough that every issue has to come again.
func usualLag() fakegcp.Lag {
	return fakegcp.Lag{Members: 7 * time.Second, Tokens: 11 * time.Second, Keys: 4 * time.Second}
}

func conformanceCases() []providertest.Case {
	const (
		noKeys   = "keys of existing accounts are found through the account alone, and end with their certificates"
		noTokens = "Google keeps no list of tokens"
	)
	return []providertest.Case{
		{Name: "a token of an account of its own", Fields: contract.Values{
			"iam_roles": []string{"roles/compute.viewer", "roles/storage.objectViewer"},
		}},
		{Name: "a token of an account of its own, on several resources", Fields: contract.Values{
			"iam_roles": []string{"roles/compute.viewer"}, "resources": []string{"projects/prod-access", bucket, vaultSecret},
			"condition": `resource.name.startsWith("projects/_/buckets/prod") || true`, "wait_for_permissions": []string{"compute.instances.list"},
		}},
		{Name: "a key of an account of its own", Fields: contract.Values{
			"credential_type": kindKey, "iam_roles": []string{"roles/compute.viewer"},
		}},
		{Name: "a key of an existing account", Unlisted: noKeys, Fields: contract.Values{
			"credential_type": kindKey, "service_account_email": robot,
		}},
		{Name: "a token of an existing account", Unlisted: noTokens, Fields: contract.Values{"service_account_email": robot}},
		{
			Name: "one's own user on project and bucket", Principal: "user:alice@example.com",
			Fields: contract.Values{
				"principal_source": "metadata:email", "iam_roles": []string{"roles/compute.viewer", "roles/storage.admin"},
				"resources": []string{"projects/prod-access", bucket},
			},
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{Open: openWorld, Cases: conformanceCases()})
}

func openWorld(t *testing.T) *providertest.World {
	k := newKit(t)
	k.cloud.SetLag(usualLag())
	elsewhere := k.target(contract.Values{"project": "stage-access", "managed_resources": []string{
		"projects/prod-access", bucket, vaultSecret,
	}})
	elsewhere.Name, elsewhere.Place = "elsewhere", ""
	target := k.target(nil)
	target.Place = ""
	return &providertest.World{
		Descriptor: describe(k.surroundings()),
		Env:        contract.Env{Clock: k.clk},
		Target:     target,
		Elsewhere:  elsewhere,
		Exists:     k.exists,
		Works:      k.works,
		Advance:    k.clk.Advance,
		Watch:      k.cloud.Watch,
		Break:      k.cloud.Break,
		Markers:    []string{k.root.Reveal(), fakegcp.UpstreamWords, "ya29."},
		Public: []string{
			"service_account_email", "project_id", "principal", "iam_roles", "resources", "private_key_id", "key_algorithm", "key_type",
		},
	}
}
