package kubernetes

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

func (b *bench) newID() string {
	b.Helper()
	return providertest.NewID(b, b.clk.Now())
}

// staged stages a new root and opens an instance that acts with it.
func (b *bench) staged(id string) (old map[string]secret.String, fresh *Provider) {
	b.Helper()
	old = b.target.Secrets
	staged, err := b.p.StageRoot(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	b.target.Secrets = staged
	before := b.p
	b.open()
	fresh, b.p, b.target.Secrets = b.p, before, old
	return old, fresh
}

func TestRootIsRotatedInTwoPhases(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	id := b.newID()
	old, fresh := b.staged(id)
	if _, ok := b.c.valid(old["token"].Reveal()); !ok {
		t.Fatal("the old token died before the new one was proven")
	}
	for range 2 {
		if err := fresh.CommitRoot(t.Context(), id, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := b.c.valid(old["token"].Reveal()); ok {
		t.Error("the old token still works")
	}
	if _, ok := b.c.valid(fresh.root().Reveal()); !ok {
		t.Error("the new token does not work")
	}
	wantCode(t, fresh.AbandonRoot(t.Context(), id, nil), "in_use")
}

func TestAStagedRootCanBeAbandoned(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	id := b.newID()
	_, fresh := b.staged(id)
	for range 2 {
		if err := b.p.AbandonRoot(t.Context(), id, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := b.c.valid(fresh.root().Reveal()); ok {
		t.Error("the abandoned token works")
	}
}

func TestRootsThatCannotBeRotatedAreRefused(t *testing.T) {
	t.Parallel()
	t.Run("a token that no Secret ends", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		b.target.Secrets["token"] = secret.New(signed(claims{Subject: selfUser}, 1))
		b.open()
		wantCode(t, second(b.p.StageRoot(t.Context(), b.newID())), "unbound")
	})
	t.Run("a token from a file", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		b.p.config.token = secretFile{File: remote.File{Path: "token"}}
		wantCode(t, second(b.p.StageRoot(t.Context(), b.newID())), "token_file")
	})
	t.Run("an id that is none", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		wantCode(t, second(b.p.StageRoot(t.Context(), "../x")), "bad_id")
	})
	t.Run("a cluster that gives another identity's token", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		b.c.alterToken = func(c *claims) { c.Subject = username("pim-system", "other") }
		wantCode(t, second(b.p.StageRoot(t.Context(), b.newID())), "differs")
	})
	t.Run("committing what was never staged", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		wantCode(t, b.p.CommitRoot(t.Context(), b.newID(), b.target.Secrets), "differs")
		if _, ok := b.c.valid(b.p.root().Reveal()); !ok {
			t.Error("the token in use was ended")
		}
	})
	t.Run("committing an old token that cannot be ended", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, nil)
		for _, old := range []string{"static", signed(claims{Subject: selfUser}, 1)} {
			wantCode(t, b.p.CommitRoot(t.Context(), b.newID(), map[string]secret.String{"token": secret.New(old)}), "unbound")
		}
	})
}

func TestTokensFromBeforeNameTheirSecretToo(t *testing.T) {
	t.Parallel()
	c := claims{Subject: selfUser, OldNamespace: "pim-system", OldSecret: "pim-token-abcde"}
	if k, err := c.boundSecret(); err != nil || k != (key{secretObject, "pim-system", "pim-token-abcde"}) {
		t.Errorf("got %v, %v", k, err)
	}
}

func specOf(name string, fields contract.Values) contract.Spec {
	return contract.Spec{Role: name, Fields: fields}
}

func TestCheckNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	all := []contract.Spec{specOf("tokens", tokenRole()), specOf("pods", generatedRole()), specOf("own", bindingRole())}
	report, err := b.p.Check(t.Context(), all)
	if err != nil || len(report.Missing) > 0 || report.Identity != selfUser {
		t.Fatalf("got %+v, %v", report, err)
	}
	b.c.denied["delete secrets"], b.c.denied["create serviceaccounts/token"] = true, true
	b.c.escalates = true
	report, err = b.p.Check(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"delete secrets in namespace team-a",
		"create serviceaccounts/token deployer in namespace team-a",
		"create serviceaccounts/token in namespace team-a",
		"role pods: would-be Role team-b/pim-check-",
		"role own: would-be RoleBinding team-a/pim-check-",
	} {
		if !slices.ContainsFunc(report.Missing, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("%q is not among %q", want, report.Missing)
		}
	}
	if strings.Contains(strings.Join(report.Missing, ""), upstreamWords) {
		t.Error("the report repeats what the cluster said")
	}
	if n := len(b.c.objects); n != 3 { // the engine's account and Secret, and the deployer
		t.Errorf("a check left something: %d objects", n)
	}
}

func TestCheckIsRefusedAtAnotherPlace(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.target.Place = "elsewhere"
	b.open()
	if _, err := b.p.Check(t.Context(), nil); !errors.Is(err, contract.ErrPlace) {
		t.Errorf("got %v", err)
	}
}

func TestCheckSpeaksOfTheRootToken(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, token, warning, unknown string
	}{
		{name: "one that ends soon", token: "", warning: "ends at 2026-03-01T13:00:00Z"},
		{name: "one that no Secret ends", token: signed(claims{Subject: selfUser}, 1), warning: "bound to no Secret"},
		{name: "one that is no JWT", token: "static", unknown: "when the engine's own token ends"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			if row.token != "" {
				b.target.Secrets["token"] = secret.New(row.token)
				b.open()
			}
			report, err := b.p.Check(t.Context(), nil)
			if err != nil || !strings.Contains(strings.Join(report.Warnings, "\n"), row.warning) ||
				!strings.Contains(strings.Join(report.Unknown, "\n"), row.unknown) {
				t.Errorf("got %q, %q, %v", report.Warnings, report.Unknown, err)
			}
		})
	}
}

func TestTheRequiredPolicyIsMinimal(t *testing.T) {
	t.Parallel()
	b := newBench(t, contract.Values{"managed_namespaces": []string{"team-a"}, "token_namespaces": []string{"team-a"}})
	report, err := b.p.Check(t.Context(), []contract.Spec{specOf("tokens", tokenRole()), specOf("own", bindingRole())})
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string][]rbacv1.PolicyRule{}
	for part := range strings.SplitSeq(report.RequiredPolicy, "---\n") {
		var o rbacv1.Role // a ClusterRole has the same fields
		if err := yaml.Unmarshal([]byte(part), &o); err != nil {
			t.Fatal(err)
		}
		rules[o.Kind+"/"+o.Namespace] = o.Rules
	}
	if got := rules["ClusterRole/"]; len(got) != 1 || !slices.Equal(got[0].ResourceNames, []string{"kube-system"}) {
		t.Errorf("for the cluster: %+v", got)
	}
	for _, rule := range rules["Role/team-a"] {
		switch {
		case rule.Resources[0] == "secrets" && slices.Contains(rule.Verbs, "get"):
			t.Error("reading Secrets is never needed")
		case rule.Resources[0] == "serviceaccounts/token" && !slices.Equal(rule.ResourceNames, []string{"deployer"}):
			t.Errorf("tokens of others are not needed: %+v", rule)
		case rule.Resources[0] == "clusterroles" && (!slices.Equal(rule.Verbs, []string{"bind"}) || !slices.Equal(rule.ResourceNames, []string{"edit"})):
			t.Errorf("only one role is bound: %+v", rule)
		}
	}
	if len(rules["Role/team-a"]) == 0 {
		t.Error("nothing for the namespace")
	}
}

func TestListKeepsToOurNamesAndTarget(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	in := b.input(generatedRole(), nil)
	b.mustIssue(in)
	other := b.newID()
	for name, labels := range map[string]map[string]string{
		"copied-labels":         {labelManager: manager, labelTarget: "prod", labelCredential: other},
		"pim-" + other:          {labelManager: manager, labelTarget: "another", labelCredential: other},
		"pim-" + other + "-x":   {labelManager: manager, labelTarget: "prod", labelCredential: other},
		"pim-" + other + "-999": {labelManager: manager, labelTarget: "prod", labelCredential: other},
		"pim-not-an-id":         {labelManager: manager, labelTarget: "prod", labelCredential: "not-an-id"},
	} {
		o := &rbacv1.RoleBinding{}
		o.SetLabels(labels)
		b.c.put(key{roleBinding, "team-a", name}, o)
	}
	var found []contract.Found
	if err := b.p.List(t.Context(), func(f contract.Found) error {
		found = append(found, f)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Credential != in.Credential || found[0].Request != in.Request {
		t.Errorf("found %+v", found)
	}
}

func TestListLooksOnlyWhereRolesReach(t *testing.T) {
	t.Parallel()
	b := newBench(t, contract.Values{"managed_namespaces": []string{"team-a"}, "token_namespaces": []string{"team-b"}})
	b.c.put(key{secretObject, "team-a", "x"}, &corev1.Secret{})
	for _, k := range b.p.looks() {
		if k.namespace == "" || (k.kind == secretObject) != (k.namespace == "team-b") {
			t.Errorf("looks at %s", k)
		}
	}
	b.c.denied["list roles"] = true
	wantCode(t, b.p.List(t.Context(), nil), "Forbidden")
}
