package pim

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// providerFields merges the target or role fields of all descriptors into the
// fields of one path. Two providers may share a name only with one type, and
// only if both or neither call it a secret. What a target of one type does not
// know is refused later, when the type is known.
func providerFields(ds []contract.Descriptor, pick func(contract.Descriptor) []contract.Field) ([]field, error) {
	var out []field
	index := map[string]int{}
	about := map[string][]string{} // descriptions, each with the types that it is for
	for _, d := range ds {
		for _, f := range pick(d) {
			i, known := index[f.Name]
			if !known {
				index[f.Name] = len(out)
				out = append(out, field{
					name: f.Name, typ: f.Type, desc: f.Description, def: f.Default,
					allowed: slices.Clone(f.Allowed), sensitive: f.Secret,
				})
				about[f.Name] = []string{d.Type + ": " + f.Description}
				continue
			}
			if err := mergeField(&out[i], f, d.Type); err != nil {
				return nil, err
			}
			about[f.Name] = append(about[f.Name], d.Type+": "+f.Description)
			if out[i].desc != f.Description {
				out[i].desc = strings.Join(about[f.Name], " ")
			}
		}
	}
	return out, nil
}

func mergeField(have *field, f contract.Field, providerType string) error {
	if have.typ != f.Type || have.sensitive != f.Secret {
		return fmt.Errorf("provider %s declares field %s as a %s, secret %v; another one as a %s, secret %v",
			providerType, f.Name, f.Type, f.Secret, have.typ, have.sensitive)
	}
	if !reflect.DeepEqual(have.def, f.Default) {
		have.def = nil // each provider's own; the descriptor tells
	}
	if have.allowed == nil || f.Allowed == nil {
		have.allowed = nil
		return nil
	}
	for _, a := range f.Allowed {
		if !slices.Contains(have.allowed, a) {
			have.allowed = append(have.allowed, a)
		}
	}
	return nil
}
