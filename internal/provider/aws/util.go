package aws

import (
	"maps"
	"regexp"
	"slices"
)

var accountForm = regexp.MustCompile(`^[0-9]{12}$`)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func contains(list []string, s string) bool { return slices.Contains(list, s) }
