// Package all is the explicit list of providers. Adding one is one folder and
// one line here.
package all

import (
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/aws"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/kubernetes"
)

// Descriptors lists every provider of this build, in the order of their types.
func Descriptors() []contract.Descriptor {
	return []contract.Descriptor{
		aws.Descriptor(),
		azure.Descriptor(),
		gcp.Descriptor(),
		host.Descriptor(),
		kubernetes.Descriptor(),
	}
}

// Lookup finds the provider of a target type among descriptors.
func Lookup(descriptors []contract.Descriptor, targetType string) (d contract.Descriptor, ok bool) {
	for _, d := range descriptors {
		if d.Type == targetType {
			return d, true
		}
	}
	return contract.Descriptor{}, false
}
