package kubernetes

import (
	"context"
	"reflect"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// Issue implements contract.Provider. Every name is planned, so there is
// nothing to checkpoint: what a cut leaves behind is found by its name.
func (p *Provider) Issue(
	ctx context.Context, in contract.Input, h domain.Handle, _ func(domain.Handle) error,
) (contract.Issued, error) {
	m, err := p.maker(in, h)
	if err != nil {
		return contract.Issued{}, err
	}
	ctx = remote.Marked(ctx, in.Credential, in.Request)
	if err := p.prove(ctx, "issue", h.Place); err != nil {
		return contract.Issued{}, err
	}
	if err := p.admit(ctx, m); err != nil {
		return contract.Issued{}, err
	}
	account, err := p.makeAccount(ctx, m)
	if err != nil {
		return contract.Issued{}, err
	}
	if err := p.makeBindings(ctx, m, account); err != nil {
		return contract.Issued{}, err
	}
	if m.role.kind == kindBinding {
		return contract.Issued{Handle: h, Data: m.bound()}, nil
	}
	t, err := p.makeToken(ctx, m, account)
	if err != nil {
		return contract.Issued{}, err
	}
	composite, err := p.kubeconfig(m, t)
	if err != nil {
		return contract.Issued{}, err
	}
	return contract.Issued{
		Handle: h, Data: m.issued(t), NotAfter: t.notAfter,
		Composite: map[string]secret.String{"kubeconfig": composite},
	}, nil
}

// maker reads input and handle, which must say the same.
func (p *Provider) maker(in contract.Input, h domain.Handle) (maker, error) {
	planned, err := p.read("issue", h)
	if err != nil {
		return maker{}, err
	}
	if in.Credential != h.Credential {
		return maker{}, contract.BadHandle("issue", "is of another credential")
	}
	r, err := readInput(in)
	if err != nil {
		return maker{}, err
	}
	n, err := r.names(in)
	if err != nil {
		return maker{}, err
	}
	if !reflect.DeepEqual(n, planned) {
		return maker{}, contract.BadHandle("issue", "was planned for other fields")
	}
	return maker{in: in, role: r, names: n, target: p.target.Tag()}, nil
}

// admit refuses what the role may not have at this target, now.
func (p *Provider) admit(ctx context.Context, m maker) error {
	if err := p.reachable(m.role, m.names); err != nil {
		return err
	}
	if err := p.checkChosen(ctx, m.role, m.names.Namespaces); err != nil {
		return err
	}
	switch m.role.kind {
	case kindToken:
		if err := p.checkChosen(ctx, m.role, []string{m.names.Secret}); err != nil {
			return err
		}
		return p.refuseSelf(ctx, username(m.names.Secret, m.role.account))
	case kindBinding:
		if err := p.refuseSelf(ctx, m.in.Principal); err != nil {
			return err
		}
		return p.refuseForeign(ctx, m)
	}
	return nil
}

// reachable holds a credential to the namespaces that the target declares.
func (p *Provider) reachable(r role, n names) error {
	if n.Secret != "" && !p.config.issuesIn(n.Secret) {
		return contract.Refused("issue", "namespace", "the target's token_namespaces does not have the service account's namespace")
	}
	places := n.Namespaces
	for _, ns := range []string{n.Secret, n.Account} {
		if ns != "" {
			places = append(slices.Clip(places), ns)
		}
	}
	for _, ns := range places {
		if !p.config.manages(ns) {
			return contract.Refused("issue", "namespace", "the target's managed_namespaces does not have a namespace of the role")
		}
	}
	if r.clusterWide && len(p.config.managed) > 0 {
		return contract.Refused("issue", "namespace", "the target's managed_namespaces leaves no room for a cluster-wide role")
	}
	return nil
}

func username(namespace, account string) string {
	return systemPrefix + "serviceaccount:" + namespace + ":" + account
}

// refuseSelf refuses to hand out the engine's own identity.
func (p *Provider) refuseSelf(ctx context.Context, user string) error {
	self, err := p.self(ctx)
	if err != nil {
		return err
	}
	if self == user {
		return contract.Refused("issue", remote.CodeOwnIdentity, "the role targets the engine's own identity")
	}
	return nil
}

// self is our user name at the cluster: as the token says it, or else as the
// API server does.
func (p *Provider) self(ctx context.Context) (string, error) {
	if token, err := p.config.token.read(); err == nil {
		if c, err := readClaims(token); err == nil && c.Subject != "" {
			return c.Subject, nil
		}
	}
	info, err := p.api.Self(ctx)
	if err != nil {
		return "", failure("read our own identity", err)
	}
	return info.Username, nil
}

// refuseForeign refuses a principal who has the access already by a binding
// that we did not make: ending ours would end nothing.
func (p *Provider) refuseForeign(ctx context.Context, m maker) error {
	places := m.names.Namespaces
	if m.names.Cluster {
		places = []string{""}
	}
	for _, ns := range places {
		err := p.api.Bindings(ctx, ns, func(b binding) error {
			if b.labels[labelManager] == manager && b.labels[labelCredential] != "" {
				return nil
			}
			for _, ref := range m.role.bound {
				if b.role == ref && hasSubject(b.subjects, m.subject()) {
					return contract.Refused("issue", "outside_pim", "your own user already has this access outside pim: "+
						"a binding that pim did not make gives it, and ending the grant would not end that")
				}
			}
			return nil
		})
		if err != nil {
			return failure("look for bindings outside pim", err)
		}
	}
	return nil
}

func hasSubject(list []rbacv1.Subject, want rbacv1.Subject) bool {
	for _, s := range list {
		if s.Kind == want.Kind && s.Name == want.Name && s.Namespace == want.Namespace {
			return true
		}
	}
	return false
}

// makeAccount makes the Secret or the service account, if the credential has
// one.
func (p *Provider) makeAccount(ctx context.Context, m maker) (object, error) {
	name := objectName(m.in.Credential)
	switch {
	case m.names.Secret != "":
		k := key{secretObject, m.names.Secret, name}
		return p.ensureSecret(ctx, k, m.secret(k))
	case m.names.Account != "":
		k := key{serviceAccount, m.names.Account, name}
		return p.ensure(ctx, k, m.account(k))
	}
	return nil, nil
}

// makeBindings makes the roles and their bindings, several places at a time.
func (p *Provider) makeBindings(ctx context.Context, m maker, account object) error {
	return each(ctx, m.names.places(clusterRoleBinding, roleBinding), func(ctx context.Context, at key) error {
		var owner *metav1.OwnerReference
		if account != nil && account.GetNamespace() == at.namespace {
			owner = owned(serviceAccount, account)
		}
		id := m.in.Credential
		if m.names.Generated {
			k := key{kind: clusterRole, name: objectName(id)}
			if at.kind == roleBinding {
				k = key{roleObject, at.namespace, objectName(id)}
			}
			made, err := p.ensure(ctx, k, m.generated(k, owner))
			if err != nil {
				return err
			}
			to := key{at.kind, at.namespace, objectName(id)}
			if _, err := p.ensure(ctx, to, m.binding(to, generatedRef(to, id), owned(k.kind, made))); err != nil {
				return err
			}
		}
		for i, ref := range m.role.bound {
			k := key{at.kind, at.namespace, boundName(id, i)}
			if _, err := p.ensure(ctx, k, m.binding(k, ref, owner)); err != nil {
				return err
			}
		}
		return nil
	})
}

// ensure makes an object unless it is there already, and compares what is
// there with what was asked for.
func (p *Provider) ensure(ctx context.Context, k key, want object) (object, error) {
	op := "create " + string(k.kind)
	got, err := p.api.Create(ctx, k, want, false)
	if isExisting(err) {
		got, err = p.api.Get(ctx, k)
	}
	if err != nil {
		return nil, failure(op, err)
	}
	if !sameAccess(want, got) {
		return nil, contract.Refused(op, "differs", "what is at the cluster is not what was asked for; it is being removed")
	}
	return got, nil
}

// ensureSecret makes the Secret that a token is bound to. It is never read: to
// read one Secret of a namespace is to be able to read them all. Its name is
// proof enough, and the token's claims are compared with it.
func (p *Provider) ensureSecret(ctx context.Context, k key, want object) (object, error) {
	got, err := p.api.Create(ctx, k, want, false)
	if isExisting(err) {
		return want, nil
	}
	if err != nil {
		return nil, failure("create Secret", err)
	}
	return got, nil
}

// bound is the answer for a credential without a secret: the lease is the
// access.
func (m maker) bound() secret.Map {
	return secret.NewMap(map[string]any{
		"principal": m.in.Principal, "principal_kind": m.role.principal.kind,
		"namespaces": strings.Join(m.names.Namespaces, ","), "kubernetes_roles": m.roleNames(),
	})
}

func (m maker) roleNames() string {
	list := make([]string, len(m.role.bound))
	for i, ref := range m.role.bound {
		list[i] = ref.Kind + "/" + ref.Name
	}
	return strings.Join(list, ",")
}

// uidOf is empty for a Secret that was there already, which is never read.
func uidOf(o object) types.UID {
	if o == nil {
		return ""
	}
	return o.GetUID()
}
