package azure

import (
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure/fakeazure"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

func conformanceCases(robot string) []providertest.Case {
	return []providertest.Case{
		{Name: "a service principal of its own", Fields: contract.Values{
			"azure_roles": []string{"Reader@" + scopeAll, "Contributor@" + scopeGroup},
		}},
		{Name: "a service principal that is purged", Fields: contract.Values{
			"azure_roles": []string{"Reader@" + scopeAll}, "permanently_delete": true,
		}},
		{Name: "a service principal in a group", Fields: contract.Values{
			"azure_roles": []string{"Reader@" + scopeAll}, "azure_groups": []string{admins},
		}},
		{
			Name: "a password of an existing application", Fields: contract.Values{"application_object_id": robot},
			Unlisted: "the directory cannot be searched for the names of passwords",
		},
		{Name: "a role for one's own account", Principal: alice, OtherPrincipal: bob, Fields: contract.Values{
			"principal_source": "metadata:oid", "azure_roles": []string{"Contributor@" + scopeGroup},
		}},
		{Name: "a role for one's own account that Azure ends", Principal: alice, OtherPrincipal: bob, Fields: contract.Values{
			"principal_source": "metadata:oid", "azure_roles": []string{"Contributor@" + scopeGroup}, "schedule": true,
		}},
		{Name: "a group for one's own account", Principal: alice, OtherPrincipal: bob, Fields: contract.Values{
			"principal_source": "metadata:oid", "azure_groups": []string{admins},
		}, Unlisted: "Entra keeps no note of who made a membership"},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{
		Open: openWorld, Cases: conformanceCases(newKit(t).robot.ID),
		InertRemainder: "a password whose answer was lost has an id that nobody was told, is known to nobody, and cannot be removed " +
			"before Entra shows it in the application",
	})
}

func openWorld(t *testing.T) *providertest.World {
	k := newKit(t)
	k.manager.Floor = 0 // the suite ends what it has just issued; TestAzureTakesNoRemovalTooEarly has the real one
	k.manager.Settle = usualLag
	elsewhere := k.target(contract.Values{"tenant_id": otherTenant})
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
		Markers:    []string{engineSecret, fakeazure.UpstreamWords, fakeazure.PasswordMark, fakeazure.TokenMark},
		Public:     []string{"client_id", "tenant_id", "principal_id"},
	}
}
