package kubernetes

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	provider "github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/kubernetes"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

func conformanceCases() []providertest.Case {
	return []providertest.Case{
		{
			Name: "a token of an existing service account, where the request says", Params: map[string]string{"namespace": "team-b"},
			Fields: contract.Values{"service_account_name": "deployer", "allowed_namespaces": namespaces},
		},
		{Name: "generated and existing roles in two namespaces", Fields: contract.Values{
			"generated_role_rules": podRules, "kubernetes_roles": []string{"Role/deployer"}, "namespaces": namespaces,
		}},
		{Name: "a generated cluster role and an existing one", Fields: contract.Values{
			"generated_role_rules": podRules, "kubernetes_roles": []string{"ClusterRole/operator"},
			"cluster_wide": true, "service_account_namespace": "team-a",
		}},
		{
			Name: "one's own user where a selector allows it", Principal: aliceUser, Params: map[string]string{"namespace": "team-a,team-b"},
			Fields: contract.Values{
				"principal_source": "metadata:k8s", "kubernetes_roles": []string{"ClusterRole/operator"},
				"allowed_namespace_selector": "team in (team-a,team-b)",
			},
		},
	}
}

func TestConformance(t *testing.T) {
	specs := make([]contract.Spec, 0, len(conformanceCases()))
	for _, c := range conformanceCases() {
		specs = append(specs, contract.Spec{Role: "conformance", Fields: c.Fields, Params: contract.SortedKeys(c.Params)})
	}
	root := newBench(t, rootAccount, specs...)
	elsewhere := there.boundToken(t, rootNamespace, rootAccount, "root")
	there.applyYAML(t, root.policy(rootAccount, specs))
	providertest.Run(t, providertest.Suite{
		Cases: conformanceCases(),
		Open: func(t *testing.T) *providertest.World {
			t.Helper()
			clk := &aheadClock{}
			p, err := newProxy(here)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.close)
			target := here.target(p, "prod", root.target.Secrets["token"])
			return &providertest.World{
				Descriptor: provider.Descriptor(),
				Env:        contract.Env{Clock: clk, AllowLocal: true},
				Target:     target,
				Elsewhere:  there.target(there.proxy, "prod", elsewhere),
				Exists:     exists,
				Watch:      p.watch,
				Break:      p.outage,
				Advance:    advance(t, p, clk),
				Markers:    []string{target.Secrets["token"].Reveal(), upstreamWords},
				Public: []string{
					"service_account_name", "service_account_namespace", "namespaces", "principal", "principal_kind", "kubernetes_roles",
				},
			}
		},
	})
}

// exists lists what is there for a credential. One object stands for the
// access: the Secret that a token is bound to, or a binding, if its subject is
// there.
func exists(t testing.TB, h domain.Handle) []providertest.Object {
	t.Helper()
	var out []providertest.Object
	access, account, needsAccount := -1, false, strings.Contains(string(h.Data), `"a":`)
	for i, m := range here.left(t, h.Credential) {
		out = append(out, providertest.Object{What: m.GenerateName + " " + m.Namespace + "/" + m.Name})
		switch m.GenerateName {
		case "Secret", "RoleBinding", "ClusterRoleBinding":
			access = i
		case "ServiceAccount":
			account = true
		}
	}
	if access >= 0 && (account || !needsAccount) {
		out[access].Usable = true
	}
	return out
}

// advance moves the clock once everything that was begun has taken effect: by
// then the API server has given up or done what it was still at.
func advance(t testing.TB, p *proxy, clk *aheadClock) func(time.Duration) {
	return func(d time.Duration) {
		t.Helper()
		if err := p.settle(); err != nil {
			t.Fatal(err)
		}
		clk.advance(d)
	}
}
