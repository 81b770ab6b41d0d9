package kubernetes

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	provider "github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/kubernetes"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

func TestNobodyIsGivenMoreThanTheEngineHolds(t *testing.T) {
	held := contract.Values{"generated_role_rules": podRules, "namespaces": []string{"team-a"}}
	b := newBench(t, "for-the-guard", contract.Spec{Role: "held", Fields: held})
	for name, fields := range map[string]contract.Values{
		"a verb more":      {"generated_role_rules": `[{apiGroups: [""], resources: [pods], verbs: [get, delete]}]`, "namespaces": []string{"team-a"}},
		"a resource more":  {"generated_role_rules": `[{apiGroups: [""], resources: [pods, secrets], verbs: [get]}]`, "namespaces": []string{"team-a"}},
		"everything":       {"generated_role_rules": `[{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]`, "namespaces": []string{"team-a"}},
		"a foreign role":   {"kubernetes_roles": []string{"ClusterRole/operator"}, "namespaces": []string{"team-a"}},
		"the cluster role": {"kubernetes_roles": []string{"ClusterRole/cluster-admin"}, "namespaces": []string{"team-a"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := contract.Spec{Role: "more", Fields: fields}
			report := b.p.Validate(t.Context(), spec, true)
			if report.OK() || !strings.Contains(report.Problems[0].Text, "exceed") {
				t.Errorf("the role was written: %+v", report)
			}
			missing := b.check([]contract.Spec{spec}).Missing
			if !slices.ContainsFunc(missing, func(s string) bool { return strings.Contains(s, "exceed") && strings.Contains(s, "(Forbidden)") }) {
				t.Errorf("check does not say it: %q", missing)
			}
			in := b.input(fields, nil)
			_, h, err := b.issue(in)
			e := failureWith(t, err, "Forbidden")
			if !e.Refused || !strings.Contains(e.Public, "exceed") {
				t.Errorf("got %+v", e)
			}
			if _, err := b.p.Revoke(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			if left := here.left(t, in.Credential); len(left) > 0 {
				t.Errorf("left at the cluster: %v", left)
			}
		})
	}
	if report := b.p.Validate(t.Context(), contract.Spec{Role: "held", Fields: held}, true); !report.OK() || len(report.Warnings) > 0 {
		t.Errorf("what the engine holds was refused: %+v", report)
	}
}

func TestTheNamespaceIsLookedAtAgainAtIssue(t *testing.T) {
	role := contract.Values{"generated_role_rules": podRules, "allowed_namespace_selector": "stage=dev"}
	b := newBench(t, "for-selectors", contract.Spec{Role: "deployers", Fields: role, Params: []string{"namespace"}})
	label := func(ns, value string) {
		t.Helper()
		patch := fmt.Sprintf(`{"metadata":{"labels":{"stage":%s}}}`, value)
		_, err := here.admin.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, ns := range []string{"team-a", "kube-system"} {
		label(ns, `"dev"`)
		defer label(ns, "null")
	}
	checker, ok := b.p.(*provider.Provider)
	if !ok {
		t.Fatal("the descriptor makes another provider")
	}
	check := func(ns string) error {
		return checker.CheckParams(t.Context(), role, map[string]string{"namespace": ns})
	}
	for _, ns := range []string{"team-b", "nonesuch", "kube-system", "team-a,team-b", "../team-a", ""} {
		wantCode(t, check(ns), "namespace")
	}
	if err := check("team-a"); err != nil {
		t.Fatal(err)
	}
	_, h := b.mustIssue(b.input(role, map[string]string{"namespace": "team-a"}))
	b.end(h)
	label("team-a", "null") // between approval and issue
	_, _, err := b.issue(b.input(role, map[string]string{"namespace": "team-a"}))
	wantCode(t, err, "namespace")
}

// TestTheNamespaceIsLookedAtWhenAskedShownAndApproved goes through the host: a
// label changes after the request was filed, and again after it was approved.
func TestTheNamespaceIsLookedAtWhenAskedShownAndApproved(t *testing.T) {
	fields := map[string]any{"generated_role_rules": podRules, "allowed_namespace_selector": "window=open"}
	spec := contract.Spec{Role: "chosen", Fields: contract.Values(fields), Params: []string{"namespace"}}
	tr := newTribe(t, "for-choices", spec)
	label := func(value string) {
		t.Helper()
		patch := fmt.Sprintf(`{"metadata":{"labels":{"window":%s}}}`, value)
		_, err := here.admin.CoreV1().Namespaces().Patch(t.Context(), "team-b", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	role := map[string]any{
		"target": tr.target, "eligible_groups": tr.Eng, "approver_groups": tr.Leads, "max_active": 3,
		"params": map[string]any{"namespace": map[string]any{"pattern": "[a-z-]+", "required": true}},
	}
	maps.Copy(role, fields)
	tr.Write(t, "roles/chosen", role)
	ask := map[string]any{"justification": "order 4711", "params": map[string]any{"namespace": "team-b"}}
	const refusal = "the target refused: choose namespace"
	tr.Alice.Write(t, tr.Path("request/chosen"), ask).Refused(t, http.StatusBadRequest, refusal)

	label(`"open"`)
	defer label("null")
	asked := tr.Alice.Write(t, tr.Path("request/chosen"), ask).OK(t)
	approval := tr.Path("approvals/" + asked.String(t, "request_id"))
	yes := map[string]any{"decision": "approve", "digest": asked.String(t, "digest")}
	if problem := tr.Bob.Read(t, approval).OK(t).Data["problem"]; problem != "" {
		t.Errorf("the approver is told %q of what could be issued", problem)
	}
	label("null") // between request and approval
	if problem := tr.Bob.Read(t, approval).OK(t).String(t, "problem"); !strings.HasPrefix(problem, refusal) {
		t.Errorf("the approver is told %q", problem)
	}
	tr.Bob.Write(t, approval, yes).Refused(t, http.StatusBadRequest, refusal)

	label(`"open"`)
	tr.Bob.Write(t, approval, yes).OK(t)
	label("null") // between approval and issue
	tr.Alice.Read(t, tr.Path("creds/chosen")).Refused(t, http.StatusBadRequest, refusal)
	label(`"open"`)
	tr.Alice.Read(t, tr.Path("creds/chosen")).OK(t)
}

// TestRefusalsOfTheCluster has what only a cluster can know to be wrong.
func TestRefusalsOfTheCluster(t *testing.T) {
	rows := []struct {
		name   string
		fields contract.Values
		code   string
	}{
		{
			name: "an account that does not exist", code: "NotFound",
			fields: contract.Values{"service_account_name": "nonesuch", "service_account_namespace": "team-a"},
		},
		{
			name: "a namespace that does not exist", code: "NotFound",
			fields: contract.Values{"generated_role_rules": podRules, "namespaces": []string{"nonesuch"}},
		},
		{
			name: "an audience for nobody is no obstacle", code: "",
			fields: contract.Values{"service_account_name": "deployer", "service_account_namespace": "team-a", "audiences": []string{"registry"}},
		},
	}
	b := newBench(t, "for-refusals",
		contract.Spec{Role: "tokens", Fields: rows[2].fields},
		contract.Spec{Role: "more", Fields: rows[0].fields},
		contract.Spec{
			Role: "everywhere", Params: []string{"namespace"},
			Fields: contract.Values{"generated_role_rules": podRules, "allowed_namespace_selector": "stage=dev"},
		},
	)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			in := b.input(row.fields, nil)
			issued, h, err := b.issue(in)
			if row.code != "" {
				wantCode(t, err, row.code)
			} else if err != nil {
				t.Error(err)
			} else if err := whoAmI(t.Context(), clientOf(t, issued)); !apierrors.IsUnauthorized(err) {
				t.Errorf("a token for others is accepted by the API server: %v", err)
			}
			if _, err := b.p.Revoke(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			if left := here.left(t, in.Credential); len(left) > 0 {
				t.Errorf("left at the cluster: %v", left)
			}
		})
	}
}

func TestAnIdentityWithoutRightsIsToldWhatItLacks(t *testing.T) {
	b := newBench(t, "without-rights")
	role := contract.Values{"service_account_name": "deployer", "service_account_namespace": "team-a"}
	report := b.check([]contract.Spec{{Role: "deployers", Fields: role}})
	if want := "system:serviceaccount:" + rootNamespace + ":without-rights"; report.Identity != want {
		t.Errorf("we are %s, not %s", report.Identity, want)
	}
	for _, want := range []string{
		"create secrets in namespace team-a", "delete secrets in namespace team-a",
		"create serviceaccounts/token deployer in namespace team-a",
	} {
		if !slices.Contains(report.Missing, want) {
			t.Errorf("%q is not among %q", want, report.Missing)
		}
	}
	wantCode(t, second3(b.issue(b.input(role, nil))), "Forbidden")
	here.applyYAML(t, strings.ReplaceAll(report.RequiredPolicy, "name: vault-pim\n", "name: rights-for-without-rights\n"))
	if missing := b.check([]contract.Spec{{Role: "deployers", Fields: role}}).Missing; len(missing) > 0 {
		t.Errorf("with the printed policy there is still missing: %q", missing)
	}
}

func second3[A, B, C any](_ A, _ B, c C) C { return c }

func TestRootTokenIsRotated(t *testing.T) {
	role := contract.Values{"service_account_name": "deployer", "service_account_namespace": "team-a"}
	b := newBench(t, "for-rotation", contract.Spec{Role: "deployers", Fields: role})
	old := b.target.Secrets
	rotator := func(p contract.Provider) contract.RootRotator {
		t.Helper()
		r, ok := p.(contract.RootRotator)
		if !ok {
			t.Fatal("the provider rotates nothing")
		}
		return r
	}
	id := b.newID()
	staged, err := rotator(b.p).StageRoot(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.p.Place(t.Context()); err != nil {
		t.Fatalf("the old token died before the new one was proven: %v", err)
	}
	b.target.Secrets = staged
	fresh := b.open()
	for range 2 {
		if err := rotator(fresh).CommitRoot(t.Context(), id, old); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	before, err := here.as(old["token"].Reveal())
	if err != nil {
		t.Fatal(err)
	}
	refusedWithin(t, "the old root token", began, tokenBound, before, whoAmI, apierrors.IsUnauthorized)
	b.p = fresh
	_, h := b.mustIssue(b.input(role, nil))
	b.end(h)

	// Once more, and given up.
	id = b.newID()
	if staged, err = rotator(fresh).StageRoot(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := rotator(fresh).AbandonRoot(t.Context(), id, staged); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fresh.Place(t.Context()); err != nil {
		t.Errorf("the token in use died with the abandoned one: %v", err)
	}
	b.target.Secrets = map[string]secret.String{"token": secret.New("eyJhbGciOiJub25lIn0.e30.x")}
	_, err = b.open().Place(t.Context())
	wantCode(t, err, "Unauthorized")
}
