package hostprovider

import (
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

func TestConformance(t *testing.T) {
	s := newSite(t, harness.StartPostgres(t), harness.DropAndDisconnect)
	providertest.Run(t, providertest.Suite{
		Open: s.world,
		Cases: []providertest.Case{
			{Name: "a database user", Fields: s.leaseRole()},
			{Name: "a token that reads a KV secret", Fields: s.kvRole()},
		},
		InertRemainder: "the answer that held a new token was lost: it is unused, unknown to everybody, and ends by its ttl",
	})
	for name, role := range map[string]contract.Values{
		"a KV secret has no lease":       {"path": "secret/data/prod/" + s.tokenRole},
		"an engine that is not there":    {"path": "nosuch/creds/x"},
		"a database role that is absent": {"path": s.database + "/creds/nosuch", "engine": "database"},
		"the type is another":            {"path": s.database + "/creds/reader", "engine": "ldap"},
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			b := newBench(t, s)
			if _, h, err := b.issue(role, lifetime); err == nil || len(s.exists(t, b.through, h)) != 0 {
				t.Errorf("got %v", err)
			}
		})
	}
}
