package kubernetes

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// clusterOwn begins the names of the cluster's own namespaces. A selector
// never reaches them: who may label a namespace must not open those.
const clusterOwn = "kube-"

// chosen lists the namespaces of one credential, in order: the role's own, or
// what the request chose. Offline, so a name that only a selector can allow
// passes here; admit asks the cluster.
func (r role) chosen(params map[string]string) ([]string, error) {
	if !r.choose {
		return r.namespaces, nil
	}
	list := strings.Split(params[namespaceParam], ",")
	for i, ns := range list {
		list[i] = strings.TrimSpace(ns)
	}
	slices.Sort(list)
	if len(slices.Compact(slices.Clone(list))) != len(list) || len(list) > maxNamespaces {
		return nil, contract.Refused("choose namespace", "namespace", "the parameter namespace must be a few different names, with commas")
	}
	for _, ns := range list {
		if len(validation.IsDNS1123Label(ns)) > 0 || (r.selector == nil && !slices.Contains(r.allowed, ns)) {
			return nil, notAllowed()
		}
	}
	return list, nil
}

// notAllowed is one text for a namespace that does not exist and for one that
// the role does not reach.
func notAllowed() error {
	return contract.Refused("choose namespace", "namespace", "the parameter namespace does not name one of the role's allowed namespaces")
}

var _ contract.ParamChecker = (*Provider)(nil)

// CheckParams refuses request parameters that an issue would refuse now. It
// asks the cluster when only a selector can allow a namespace.
func (p *Provider) CheckParams(ctx context.Context, fields contract.Values, params map[string]string) error {
	r, report := readRole(fields, contract.SortedKeys(params))
	if !report.OK() {
		return contract.BadRole("check parameters", report)
	}
	list, err := r.chosen(params)
	if err != nil {
		return err
	}
	if r.kind == kindToken && r.choose && len(list) != 1 {
		return contract.Refused("check parameters", "namespace", "exactly one namespace must be chosen")
	}
	return p.checkChosen(ctx, r, list)
}

// checkChosen asks the cluster about every namespace that the role does not
// name. Labels may have changed since the request was approved.
func (p *Provider) checkChosen(ctx context.Context, r role, list []string) error {
	if !r.choose {
		return nil
	}
	for _, ns := range list {
		if !p.config.manages(ns) {
			return notAllowed()
		}
		if slices.Contains(r.allowed, ns) {
			continue
		}
		if strings.HasPrefix(ns, clusterOwn) {
			return notAllowed()
		}
		found, err := p.api.Namespace(ctx, ns)
		if isNotFound(err) {
			return notAllowed()
		}
		if err != nil {
			return failure("read namespace", err)
		}
		if found.Status.Phase == corev1.NamespaceTerminating || !r.selector.Matches(labels.Set(found.Labels)) {
			return notAllowed()
		}
	}
	return nil
}
