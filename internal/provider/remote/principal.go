package remote

import (
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// maxSource is the longest accessor or key, in bytes.
const maxSource = 256

// PrincipalSource is where the requester's own principal at a target comes
// from: one alias or one metadata key. The zero value is nowhere.
type PrincipalSource struct {
	accessor string // of the alias's mount; one of accessor and key is set
	key      string
}

// ReadPrincipalSource reads the role field principal_source.
func ReadPrincipalSource(v contract.Values, report *contract.Report) (s PrincipalSource) {
	from, value, _ := strings.Cut(v.String("principal_source"), ":")
	bad := value == "" || len(value) > maxSource || strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c >= 0x7f })
	switch {
	case from == "alias" && !bad:
		s.accessor = value
	case from == "metadata" && !bad:
		s.key = value
	default:
		report.Addf("principal_source", "must be alias:<mount accessor> or metadata:<key>")
	}
	return s
}

// Missing tells whether the source is nowhere.
func (s PrincipalSource) Missing() bool { return s == PrincipalSource{} }

// Principal is the one name that somebody has there. None and several are
// refused; one and many say what such names are: "address at Google".
func (s PrincipalSource) Principal(who domain.Entity, one, many string) (string, error) {
	const op, code = "resolve principal", "no_principal"
	var names []string
	if v := who.Metadata[s.key]; s.key != "" && v != "" {
		names = append(names, v)
	}
	for _, alias := range who.Aliases {
		if s.accessor != "" && alias.MountAccessor == s.accessor {
			names = append(names, alias.Name)
		}
	}
	switch len(names) {
	case 0:
		return "", contract.Refused(op, code, "your identity has no %s: log in the way the role's principal_source names", one)
	case 1:
		return names[0], nil
	}
	return "", contract.Refused(op, code, "your identity has several %s, and nothing says which one is meant", many)
}
