package fake_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const rootPassword = "root-password-marker"

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

func target(address string) contract.Target {
	return contract.Target{
		Name: "test", Fields: contract.Values{"address": address},
		Secrets: map[string]secret.String{"password": secret.New(rootPassword)},
	}
}

func openWorld(t *testing.T) *providertest.World {
	t.Helper()
	clk := clock.NewManual(start)
	w := fake.NewWorld(clk)
	w.SetReadyAfter(30 * time.Second)
	w.SetPassword("here", rootPassword)
	return &providertest.World{
		Descriptor: broken(os.Getenv(brokenEnv), w.Descriptor()), Env: contract.Env{Clock: clk},
		Target: target("here"), Elsewhere: target("elsewhere"),
		Exists: func(_ testing.TB, h domain.Handle) []providertest.Object {
			var out []providertest.Object
			usable := map[string]bool{}
			for _, o := range w.Usable() {
				usable[o.ID] = true
			}
			for _, o := range w.Objects() {
				if o.Place == "place-of-here" && (o.Credential == h.Credential || (h.Shared != "" && o.Name == h.Shared)) {
					out = append(out, providertest.Object{What: o.Kind + " " + o.ID, Usable: usable[o.ID], Until: o.NotAfter})
				}
			}
			return out
		},
		Works: func(_ testing.TB, issued contract.Issued) bool {
			if password, ok := issued.Data.Reveal()["password"].(string); ok {
				return w.Works(password)
			}
			principal := issued.Data.Reveal()["principal"]
			return slices.ContainsFunc(w.Usable(), func(o fake.Object) bool { return o.Principal == principal })
		},
		Advance: clk.Advance,
		Watch:   w.Watch,
		Break:   func() func() { return w.Inject(fake.Fault{Mode: fake.FailBefore}) },
		Markers: []string{rootPassword},
		Public:  []string{"username", "principal", "level"},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{
		Open: openWorld,
		Cases: []providertest.Case{
			{Name: "an account named before it exists", Fields: contract.Values{"level": "read"}},
			{Name: "an object named while it is made", Fields: contract.Values{"level": "read", "credential_type": "late"}},
			{Name: "an account with a remainder", Fields: contract.Values{"level": "read", "remainder": 3600}},
			{Name: "a slow account", Fields: contract.Values{"level": "read", "slow": true}},
			{
				Name:      "a binding of an own principal",
				Fields:    contract.Values{"level": "admin", "principal_source": "login"},
				Principal: "alice", OtherPrincipal: "bob",
			},
		},
	})
}
