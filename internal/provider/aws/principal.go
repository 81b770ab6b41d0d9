package aws

import (
	"regexp"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// userIDForm is the form of an Identity Store user id, from its API reference.
var userIDForm = regexp.MustCompile(`^([0-9a-f]{10}-)?[A-Fa-f0-9]{8}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{12}$`)

var sourceForm = regexp.MustCompile(`^(alias|metadata):[A-Za-z0-9_.-]{1,128}$`)

// ownName is what an entity is called in the directory, from exactly one
// alias of one mount or from one metadata value.
func ownName(who domain.Entity, source string) (string, error) {
	from, key, _ := strings.Cut(source, ":")
	var found []string
	switch from {
	case "alias":
		for _, a := range who.Aliases {
			if a.MountAccessor == key {
				found = append(found, a.Name)
			}
		}
	case "metadata":
		if v := who.Metadata[key]; v != "" {
			found = append(found, v)
		}
	}
	if len(found) != 1 || found[0] == "" {
		return "", contract.Refused("resolve principal", "no_principal", "the requester's identity at the host names no Identity Center user, or more than one")
	}
	return found[0], nil
}
