package kubernetes

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const place = "11111111-0000-0000-0000-000000000000"

// bench is one provider at one cluster in memory.
type bench struct {
	testing.TB
	clk    *clock.Manual
	c      *cluster
	target contract.Target
	p      *Provider
}

// newBench opens a provider whose target has, besides what it must have, the
// given fields.
func newBench(t testing.TB, fields contract.Values) *bench {
	t.Helper()
	clk := clock.NewManual(start)
	b := &bench{TB: t, clk: clk, c: newCluster(clk, place, "team-a", "team-b", "kube-public")}
	b.c.put(key{serviceAccount, "team-a", "deployer"}, &corev1.ServiceAccount{})
	b.target = contract.Target{
		Name: "prod", Place: place, Fields: contract.Values{"host": "https://here", "token_namespaces": []string{"*"}},
		Secrets: map[string]secret.String{"token": b.c.rootToken("bootstrap")},
	}
	maps.Copy(b.target.Fields, fields)
	b.open()
	return b
}

func (b *bench) open() {
	b.Helper()
	p, err := open(into(map[string]*cluster{"here": b.c}), contract.Env{Clock: b.clk}, b.target)
	if err != nil {
		b.Fatal(err)
	}
	b.p = p
}

func (b *bench) input(fields contract.Values, params map[string]string) contract.Input {
	b.Helper()
	return contract.Input{
		Credential: domain.CredentialID(b.newID()), Request: domain.RequestID(b.newID()), Role: "deployers", EntityID: "entity-of-alice",
		Person: "alice", Ticket: "OPS-1", Principal: "alice", Fields: fields, Params: params, NotAfter: b.clk.Now().Add(time.Hour),
	}
}

func (b *bench) issue(in contract.Input) (contract.Issued, domain.Handle, error) {
	b.Helper()
	h, err := b.p.Plan(b.Context(), in)
	if err != nil {
		return contract.Issued{}, h, err
	}
	out, err := b.p.Issue(b.Context(), in, h, nil)
	return out, h, err
}

func (b *bench) mustIssue(in contract.Input) (contract.Issued, domain.Handle) {
	b.Helper()
	out, h, err := b.issue(in)
	if err != nil {
		b.Fatal(err)
	}
	return out, h
}

// wantCode fails unless err is ours and has a code.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	_ = failureWith(t, err, code)
}

// failureWith is wantCode for those who want to see more of it.
func failureWith(t testing.TB, err error, code string) *contract.Error {
	t.Helper()
	var e *contract.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("wanted an error with code %s, got %v", code, err)
	}
	if strings.Contains(err.Error(), upstreamWords) {
		t.Errorf("the error repeats what the cluster said: %v", err)
	}
	return e
}

// roles of which one credential each is tried.
func tokenRole() contract.Values {
	return contract.Values{"service_account_name": "deployer", "service_account_namespace": "team-a"}
}

func generatedRole() contract.Values {
	return contract.Values{"generated_role_rules": podRules, "namespaces": []string{"team-a", "team-b"}}
}

func bindingRole() contract.Values {
	return contract.Values{
		"principal_source": "metadata:k8s", "kubernetes_roles": []string{"ClusterRole/edit"}, "namespaces": []string{"team-a"},
	}
}

// with is a copy of a role with one field changed; nil removes it.
func with(v contract.Values, name string, value any) contract.Values {
	out := v.WithDefaults(nil)
	if value == nil {
		delete(out, name)
		return out
	}
	out[name] = value
	return out
}
