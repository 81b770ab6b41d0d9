package domain

import (
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Entity is a person or workload as the host knows it at this moment.
type Entity struct {
	ID       string
	Name     string
	Disabled bool
	Metadata map[string]string
	Aliases  []Alias
	Groups   []Group
}

// Alias is one login of an entity, in this mount's namespace.
type Alias struct {
	MountAccessor string
	MountType     string
	Name          string
}

// Group is a group the entity is in, inherited ones included.
type Group struct{ ID, Name string }

// Person is the value under which entities count as one human being or one
// workload.
type Person string

// PersonOf tells which person an entity is. With a person key, entities with
// the same value (trimmed, NFC, lower-cased) are one person; without the value
// there is no person and ok is false. Without a person key each entity is its
// own person.
func PersonOf(e Entity, personKey string) (p Person, ok bool) {
	if personKey == "" {
		return Person("entity:" + e.ID), e.ID != ""
	}
	value := norm.NFC.String(strings.TrimSpace(e.Metadata[personKey]))
	value = norm.NFC.String(strings.ToLower(value)) // a lower-cased letter may compose with its mark
	if value == "" {
		return "", false
	}
	return Person(personKey + ":" + value), true
}

// Was tells whether an entity would have been this person when the person was
// stored, whatever names persons now.
func (p Person) Was(e Entity) bool {
	key, _, _ := strings.Cut(string(p), ":")
	was, ok := PersonOf(e, key)
	return ok && was == p
}

// humanMounts are the auth methods whose logins are people. Every other type
// is a machine, unknown ones too.
var humanMounts = map[string]bool{
	"userpass": true, "ldap": true, "okta": true, "github": true, "radius": true, "kerberos": true, "saml": true,
}

// IsMachine tells whether an entity may never decide: any alias of a mount
// that is not for people, or of a jwt or oidc mount whose accessor is not in
// humanAccessors.
func IsMachine(e Entity, humanAccessors []string) bool {
	for _, a := range e.Aliases {
		switch {
		case humanMounts[a.MountType]:
		case (a.MountType == "jwt" || a.MountType == "oidc") && slices.Contains(humanAccessors, a.MountAccessor):
		default:
			return true
		}
	}
	return false
}
