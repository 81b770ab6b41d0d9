package kubernetes

import (
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const podRules = `[{apiGroups: [""], resources: [pods], verbs: [get, list]}]`

// into has descriptors speak to clusters in memory, by the host's name.
func into(clusters map[string]*cluster) surroundings {
	return surroundings{
		getenv: func(string) string { return "" },
		dial: func(_ contract.Env, c targetConfig) (api, error) {
			found := clusters[c.host.Hostname()]
			if found == nil {
				return nil, errors.New("no such cluster")
			}
			return found, nil
		},
	}
}

func conformanceCases() []providertest.Case {
	return []providertest.Case{
		{Name: "a token of an existing service account", Fields: contract.Values{
			"service_account_name": "deployer", "service_account_namespace": "team-a",
		}},
		{
			Name: "a token where the request says", Params: map[string]string{"namespace": "team-a"},
			Fields: contract.Values{"service_account_name": "deployer", "allowed_namespaces": []string{"team-a", "team-b"}},
		},
		{Name: "a generated role in two namespaces", Fields: contract.Values{
			"generated_role_rules": podRules, "namespaces": []string{"team-a", "team-b"},
		}},
		{Name: "a generated cluster role and an existing one", Fields: contract.Values{
			"generated_role_rules": podRules, "kubernetes_roles": []string{"ClusterRole/view"},
			"cluster_wide": true, "service_account_namespace": "team-a",
		}},
		{
			Name: "existing roles where a selector allows it", Params: map[string]string{"namespace": "team-b, team-a"},
			Fields: contract.Values{
				"credential_type": kindGenerated, "kubernetes_roles": []string{"Role/deployer", "ClusterRole/view"},
				"allowed_namespace_selector": "team in (team-a,team-b)",
			},
		},
		{Name: "one's own user in two namespaces", Principal: "oidc:alice", Fields: contract.Values{
			"principal_source": "metadata:k8s", "kubernetes_roles": []string{"ClusterRole/edit", "Role/deployer"},
			"namespaces": []string{"team-a", "team-b"},
		}},
		{Name: "one's own user in the whole cluster", Principal: "alice", Fields: contract.Values{
			"principal_source": "alias:auth_oidc_1", "kubernetes_roles": []string{"ClusterRole/view"}, "cluster_wide": true,
		}},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{Open: openWorld, Cases: conformanceCases()})
}

func openWorld(*testing.T) *providertest.World {
	clk := clock.NewManual(start)
	here := newCluster(clk, "11111111-0000-0000-0000-000000000000", "team-a", "team-b")
	there := newCluster(clk, "22222222-0000-0000-0000-000000000000", "team-a", "team-b")
	for _, c := range []*cluster{here, there} {
		for _, ns := range []string{"team-a", "team-b"} {
			c.put(key{serviceAccount, ns, "deployer"}, &corev1.ServiceAccount{})
		}
	}
	root := here.rootToken("bootstrap")
	target := func(name, host string) contract.Target {
		return contract.Target{
			Name: name, Fields: contract.Values{"host": "https://" + host, "token_namespaces": []string{"team-a", "team-b"}},
			Secrets: map[string]secret.String{"token": root},
		}
	}
	return &providertest.World{
		Descriptor: describe(into(map[string]*cluster{"here": here, "there": there})),
		Env:        contract.Env{Clock: clk},
		Target:     target("prod", "here"),
		Elsewhere:  target("elsewhere", "there"),
		Exists:     here.exists,
		Works:      here.works,
		Advance:    clk.Advance,
		Watch:      here.watch,
		Break:      here.outage,
		Markers:    []string{root.Reveal(), upstreamWords},
		Public: []string{
			"service_account_name", "service_account_namespace", "namespaces", "principal", "principal_kind", "kubernetes_roles",
		},
	}
}

// exists lists what is there for a credential. What gives access is one
// object: the account that is bound, or the Secret that a token needs.
func (c *cluster) exists(t testing.TB, h domain.Handle) []providertest.Object {
	t.Helper()
	var out []providertest.Object
	keys := c.of(string(h.Credential))
	access := -1
	for i, k := range keys {
		out = append(out, providertest.Object{What: k.String()})
		if k.kind == secretObject || k.kind == roleBinding || k.kind == clusterRoleBinding {
			access = i
		}
	}
	if access >= 0 {
		out[access].Usable = true
	}
	return out
}

// works tries what was issued: the token is accepted and its account is bound,
// or the principal is.
func (c *cluster) works(t testing.TB, issued contract.Issued) bool {
	t.Helper()
	data := issued.Data.Reveal()
	var subject rbacv1.Subject
	if token, _ := data["service_account_token"].(string); token != "" {
		user, ok := c.valid(token)
		if !ok {
			return false
		}
		parts := claims{Subject: user}
		ns, name := parts.identity()
		if name == "deployer" {
			return true
		}
		subject = rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: name}
	} else {
		name, _ := data["principal"].(string)
		subject = rbacv1.Subject{Kind: rbacv1.UserKind, Name: name}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for ns := range c.namespaces {
		for _, b := range append(c.bindings(ns), c.bindings("")...) {
			if hasSubject(b.subjects, subject) {
				return true
			}
		}
	}
	return false
}

func (c *cluster) watch(see func(after bool)) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers = append(c.watchers, see)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.watchers = slices.Delete(c.watchers, 0, len(c.watchers))
	}
}

func (c *cluster) outage() (restore func()) {
	set := func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refuse = err
	}
	set(errors.New(upstreamWords))
	return func() { set(nil) }
}
