package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// refusals are issues that a role as written would allow, and the cluster as
// it is does not.
func TestIssueRefusesWhatWasNotApproved(t *testing.T) {
	t.Parallel()
	selected := with(with(generatedRole(), "namespaces", nil), "allowed_namespace_selector", "team")
	choose := func(ns string) map[string]string { return map[string]string{"namespace": ns} }
	for _, row := range []struct {
		name   string
		target contract.Values
		fields contract.Values
		params map[string]string
		change func(b *bench)
		code   string
	}{
		{
			name: "the engine's own account, reached by a parameter", code: "own_identity", params: choose("pim-system"),
			fields: contract.Values{"service_account_name": "pim", "allowed_namespaces": []string{"pim-system", "team-a"}},
		},
		{
			name: "a namespace that is not in the list", code: "namespace", params: choose("team-b"),
			fields: with(with(generatedRole(), "namespaces", nil), "allowed_namespaces", []string{"team-a"}),
		},
		{name: "no namespace at all", code: "namespace", params: choose(""), fields: selected},
		{name: "a namespace twice", code: "namespace", params: choose("team-a,team-a"), fields: selected},
		{name: "a namespace that is a path", code: "namespace", params: choose("team-a/../kube-system"), fields: selected},
		{name: "a namespace that does not exist", code: "namespace", params: choose("nonesuch"), fields: selected},
		{name: "a namespace of the cluster's own, labelled", code: "namespace", params: choose("kube-public"), fields: selected},
		{
			name: "a namespace that lost its label since", code: "namespace", params: choose("team-a"), fields: selected,
			change: func(b *bench) { b.c.namespaces["team-a"].Labels = nil },
		},
		{
			name: "a namespace that is being deleted", code: "namespace", params: choose("team-a"), fields: selected,
			change: func(b *bench) { b.c.namespaces["team-a"].Status.Phase = corev1.NamespaceTerminating },
		},
		{
			name: "two namespaces for one account", code: "namespace", params: choose("team-a,team-b"),
			fields: contract.Values{"service_account_name": "deployer", "allowed_namespaces": []string{"team-a", "team-b"}},
		},
		{
			name: "an account where the target issues no tokens", code: "namespace", fields: tokenRole(),
			target: contract.Values{"token_namespaces": []string{"team-b"}},
		},
		{
			name: "a namespace that the target does not manage", code: "namespace", fields: generatedRole(),
			target: contract.Values{"managed_namespaces": []string{"team-a"}},
		},
		{
			name: "the cluster where the target manages namespaces", code: "namespace",
			fields: with(with(with(generatedRole(), "namespaces", nil), "cluster_wide", true), "service_account_namespace", "team-a"),
			target: contract.Values{"managed_namespaces": []string{"team-a"}},
		},
		{
			name: "a principal who has the access outside pim", code: "outside_pim", fields: bindingRole(),
			change: func(b *bench) { b.c.put(key{roleBinding, "team-a", "standing"}, standing()) },
		},
		{
			name: "a binding somebody else made under our name", code: "differs", fields: bindingRole(),
			change: func(b *bench) {
				b.c.alter = func(o object) { o.SetLabels(nil) }
			},
		},
		{
			name: "rules that the cluster changed", code: "differs", fields: generatedRole(),
			change: func(b *bench) {
				b.c.alter = func(o object) {
					if r, ok := o.(*rbacv1.Role); ok {
						r.Rules[0].Verbs = []string{"*"}
					}
				}
			},
		},
		{
			name: "a subject that the cluster added", code: "differs", fields: generatedRole(),
			change: func(b *bench) {
				b.c.alter = func(o object) {
					if r, ok := o.(*rbacv1.RoleBinding); ok {
						r.Subjects = append(r.Subjects, rbacv1.Subject{Kind: "User", Name: "bob"})
					}
				}
			},
		},
		{
			name: "rules beyond what we may grant", code: "Forbidden", fields: generatedRole(),
			change: func(b *bench) { b.c.escalates = true },
		},
		{name: "an account that does not exist", code: "NotFound", fields: with(tokenRole(), "service_account_name", "nonesuch")},
		{
			name: "a token that lives too long", code: "differs", fields: tokenRole(),
			change: func(b *bench) { b.c.alterToken = func(c *claims) { c.Expiry += 2 } },
		},
		{
			name: "a token of somebody else", code: "differs", fields: tokenRole(),
			change: func(b *bench) { b.c.alterToken = func(c *claims) { c.Subject = username("team-a", "admin") } },
		},
		{
			name: "a token that no Secret ends", code: "differs", fields: tokenRole(),
			change: func(b *bench) { b.c.alterToken = func(c *claims) { c.Bound.Secret = boundRef{} } },
		},
		{
			name: "a token that another Secret ends", code: "differs", fields: tokenRole(),
			change: func(b *bench) { b.c.alterToken = func(c *claims) { c.Bound.Secret.UID = "x" } },
		},
		{
			name: "a token of an account made anew", code: "differs", fields: generatedRole(),
			change: func(b *bench) { b.c.alterToken = func(c *claims) { c.Bound.Account.UID = "x" } },
		},
		{
			name: "a token for more audiences", code: "differs", fields: with(tokenRole(), "audiences", []string{"registry"}),
			change: func(b *bench) { b.c.alterToken = func(c *claims) { c.Audience = append(c.Audience, "api") } },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, row.target)
			if row.change != nil {
				row.change(b)
			}
			in := b.input(row.fields, row.params)
			_, h, err := b.issue(in)
			wantCode(t, err, row.code)
			if h.Provider == "" {
				return // not even planned
			}
			b.c.alter, b.c.escalates = nil, false
			if _, err := b.p.Revoke(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			if left := b.c.of(string(in.Credential)); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// standing is a binding that an administrator made.
func standing() object {
	return &rbacv1.RoleBinding{
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects: []rbacv1.Subject{{Kind: "Group", Name: "x"}, {Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}},
	}
}

func TestForeignBindingsOfOthersAreNoObstacle(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.c.put(key{roleBinding, "team-b", "standing"}, standing()) // elsewhere
	b.mustIssue(b.input(bindingRole(), nil))
	b.mustIssue(b.input(bindingRole(), nil)) // beside the first
	if n := len(b.c.bindings("team-a")); n != 2 {
		t.Errorf("%d bindings", n)
	}
}

func TestOverlappingBindingsEndOneByOne(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	_, one := b.mustIssue(b.input(bindingRole(), nil))
	_, two := b.mustIssue(b.input(bindingRole(), nil))
	for i, h := range []struct{ left int }{{1}, {0}} {
		ended, err := b.p.Revoke(t.Context(), []domain.Handle{one, two}[i])
		if err != nil || !ended.Done() || len(b.c.bindings("team-a")) != h.left {
			t.Errorf("after %d: %+v, %v, %d bindings", i+1, ended, err, len(b.c.bindings("team-a")))
		}
	}
}

func TestEverythingMadeSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string]contract.Values{"token": tokenRole(), "generated": generatedRole(), "binding": bindingRole()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			in := b.input(fields, nil)
			b.mustIssue(in)
			made := b.c.of(string(in.Credential))
			if len(made) == 0 {
				t.Fatal("nothing was made")
			}
			for _, k := range made {
				o := b.c.objects[k]
				if o.GetLabels()[labelCredential] != string(in.Credential) || o.GetLabels()[labelTarget] != "prod" {
					t.Errorf("%s has labels %v", k, o.GetLabels())
				}
				notes := o.GetAnnotations()
				want := map[string]string{
					noteRequest: string(in.Request), noteRole: "deployers", noteOwner: "alice", noteEntity: "entity-of-alice",
					noteTicket: "OPS-1", noteExpires: "2026-03-01T13:00:00Z",
				}
				for name, value := range want {
					if notes[name] != value {
						t.Errorf("%s: %s is %q", k, name, notes[name])
					}
				}
			}
		})
	}
}

func TestOwnersAreASecondNet(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	in := b.input(with(generatedRole(), "kubernetes_roles", []string{"ClusterRole/view"}), nil)
	b.mustIssue(in)
	for k, owner := range map[key]string{
		{roleObject, "team-a", objectName(in.Credential)}:    "ServiceAccount",
		{roleBinding, "team-a", objectName(in.Credential)}:   "Role",
		{roleBinding, "team-a", boundName(in.Credential, 0)}: "ServiceAccount",
		{roleObject, "team-b", objectName(in.Credential)}:    "", // owners live in the same namespace
		{roleBinding, "team-b", objectName(in.Credential)}:   "Role",
		{roleBinding, "team-b", boundName(in.Credential, 0)}: "",
	} {
		refs := b.c.objects[k].GetOwnerReferences()
		if (owner == "") != (len(refs) == 0) || (owner != "" && refs[0].Kind != owner) {
			t.Errorf("%s is owned by %v, not %q", k, refs, owner)
		}
	}
}

func TestTokensLastAsLongAsTheyMay(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		left    time.Duration
		seconds int64 // 0 = refused
	}{
		{name: "an hour", left: time.Hour, seconds: 3600},
		{name: "the cluster's shortest", left: minTokenTTL, seconds: 600},
		{name: "a moment less, for the way here", left: minTokenTTL - slack, seconds: 600},
		{name: "less", left: minTokenTTL - slack - time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			in := b.input(tokenRole(), nil)
			in.NotAfter = b.clk.Now().Add(row.left)
			out, _, err := b.issue(in)
			if row.seconds == 0 {
				wantCode(t, err, "too_short")
				return
			}
			spec := b.c.tokenSpecs[len(b.c.tokenSpecs)-1]
			if err != nil || *spec.ExpirationSeconds != row.seconds || !out.NotAfter.Equal(b.clk.Now().Add(time.Duration(row.seconds)*time.Second)) {
				t.Errorf("asked for %d seconds, ends at %s, %v", *spec.ExpirationSeconds, out.NotAfter, err)
			}
		})
	}
}

func TestAShorterTokenIsTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.c.alterToken = func(c *claims) { c.Expiry = c.IssuedAt + 700 }
	out, _ := b.mustIssue(b.input(tokenRole(), nil))
	if want := b.clk.Now().Add(700 * time.Second); !out.NotAfter.Equal(want) {
		t.Errorf("ends at %s, not %s", out.NotAfter, want)
	}
}

func TestKubeconfigIsOneLineAndComplete(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	out, _ := b.mustIssue(b.input(generatedRole(), nil))
	text := out.Composite["kubeconfig"].Reveal()
	var file kubeconfigFile
	if err := json.Unmarshal([]byte(text), &file); err != nil || strings.Contains(text, "\n") {
		t.Fatalf("not one line of JSON: %v", err)
	}
	if file.Clusters[0].Cluster.Server != "https://here" || file.Contexts[0].Context.Namespace != "team-a" ||
		file.Current != file.Contexts[0].Name || file.Users[0].User.Token != out.Data.Reveal()["service_account_token"] {
		t.Error("the kubeconfig does not fit together")
	}
}

func TestParametersAreCheckedWhenTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	fields := with(with(generatedRole(), "namespaces", nil), "allowed_namespace_selector", "team in (team-a)")
	for ns, ok := range map[string]bool{"team-a": true, "team-b": false, "nonesuch": false, "": false} {
		if err := b.p.CheckParams(t.Context(), fields, map[string]string{"namespace": ns}); (err == nil) != ok {
			t.Errorf("%q: %v", ns, err)
		}
	}
	b.c.refuse = errors.New(upstreamWords)
	wantCode(t, b.p.CheckParams(t.Context(), fields, map[string]string{"namespace": "team-a"}), remote.CodeUnreachable)
}

func TestIssueHonoursItsContext(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := b.input(tokenRole(), nil)
	h, err := b.p.Plan(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.p.Issue(ctx, in, h, nil)
	wantCode(t, err, remote.CodeTimeout)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestATokenOfNoServiceAccountIsAskedWhoItIs(t *testing.T) {
	t.Parallel()
	own := contract.Values{"service_account_name": "pim", "service_account_namespace": "pim-system"}
	b := newBench(t, nil)
	b.target.Secrets["token"] = secret.New("static")
	b.open()
	_, _, err := b.issue(b.input(own, nil))
	wantCode(t, err, "own_identity")
	guard := func(fields contract.Values, problem string, warnings int) {
		t.Helper()
		report := b.p.GuardSelf(t.Context(), contract.Spec{Role: "r", Fields: fields})
		if report.Fields() != problem || len(report.Warnings) != warnings {
			t.Errorf("%+v", report)
		}
	}
	guard(own, "service_account_name", 0)
	guard(tokenRole(), "", 0)
	guard(bindingRole(), "", 0)
	guard(contract.Values{}, "", 0) // Validate says what is wrong with it
	b.c.refuse = errors.New(upstreamWords)
	guard(own, "", 1)
	guard(bindingRole(), "", 0)
}
