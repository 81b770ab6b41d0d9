package kubernetes

import (
	"context"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// sweep is what a list found, by credential.
type sweep map[domain.CredentialID]*remains

type remains struct {
	request domain.RequestID
	names   names
	what    []string
}

// List implements contract.Lister. It reads names and labels only, never the
// contents of Secrets, and looks where the target says that roles may reach.
func (p *Provider) List(ctx context.Context, yield func(contract.Found) error) error {
	found := sweep{}
	for _, look := range p.looks() {
		selector := labelManager + "=" + manager + "," + labelTarget + "=" + p.target.Tag() + "," + labelCredential
		err := p.api.List(ctx, look.kind, look.namespace, selector, func(m metav1.ObjectMeta) error {
			found.add(look.kind, m)
			return nil
		})
		if err != nil {
			return failure("list "+string(look.kind), err)
		}
	}
	for _, id := range contract.SortedKeys(byText(found)) {
		r := found[domain.CredentialID(id)]
		h, err := remote.WithData(p.blank(domain.CredentialID(id)), r.names)
		if err != nil {
			return err
		}
		err = yield(contract.Found{
			Credential: domain.CredentialID(id), Request: r.request, Handle: h, What: strings.Join(r.what, ", "),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// looks lists the kinds and where to look for each; "" is everywhere.
func (p *Provider) looks() []key {
	everywhere := []string{""}
	places, secrets := everywhere, p.config.tokenNamespaces
	if len(p.config.managed) > 0 {
		places = p.config.managed
	}
	if slices.Contains(secrets, everyNamespace) {
		secrets = places
	}
	var out []key
	if len(p.config.managed) == 0 {
		out = append(out, key{kind: clusterRoleBinding}, key{kind: clusterRole})
	}
	for _, k := range []kind{roleBinding, roleObject, serviceAccount} {
		for _, ns := range places {
			out = append(out, key{kind: k, namespace: ns})
		}
	}
	for _, ns := range secrets {
		out = append(out, key{kind: secretObject, namespace: ns})
	}
	return out
}

// add notes one object, unless its name is not one that we give: somebody else
// may have copied our labels.
func (s sweep) add(k kind, m metav1.ObjectMeta) {
	id := domain.CredentialID(m.Labels[labelCredential])
	rest, ours := strings.CutPrefix(m.Name, objectName(id))
	if !domain.ValidID(string(id)) || !ours {
		return
	}
	bound := 0
	if rest != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(rest, "-"))
		if err != nil || n < 0 || n >= maxBound || (k != roleBinding && k != clusterRoleBinding) {
			return
		}
		bound = n + 1
	}
	r := s[id]
	if r == nil {
		r = &remains{}
		s[id] = r
	}
	r.note(k, m, bound)
}

func (r *remains) note(k kind, m metav1.ObjectMeta, bound int) {
	if request, err := domain.ParseRequestID(m.Annotations[noteRequest]); err == nil {
		r.request = request
	}
	r.what = append(r.what, key{k, m.Namespace, m.Name}.String())
	switch k {
	case secretObject:
		r.names.Secret = m.Namespace
		return
	case serviceAccount:
		r.names.Account = m.Namespace
		return
	case clusterRoleBinding, clusterRole:
		r.names.Cluster = true
	default:
		if !slices.Contains(r.names.Namespaces, m.Namespace) {
			r.names.Namespaces = append(r.names.Namespaces, m.Namespace)
		}
	}
	r.names.Bound = max(r.names.Bound, bound)
	r.names.Generated = r.names.Generated || bound == 0
}

func byText(s sweep) map[string]bool {
	out := make(map[string]bool, len(s))
	for id := range s {
		out[string(id)] = true
	}
	return out
}
