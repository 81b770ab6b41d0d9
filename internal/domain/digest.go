package domain

// Sealed is exactly what a decision is about. Its digest is sealed when the
// request is filed, and recomputed at every decision and at every read of a
// credential. A shortened ttl is outside: it only ever lowers.
type Sealed struct {
	Mount          string            `json:"mount"`     // uuid of the mount
	Namespace      string            `json:"namespace"` // "" where the host does not tell; the mount's uuid is unique over namespaces
	Request        RequestID         `json:"request"`
	Kind           string            `json:"kind"`
	Person         Person            `json:"person"`
	Requester      string            `json:"requester"` // entity id
	Role           string            `json:"role"`
	RoleRevision   string            `json:"role_revision"`
	Target         string            `json:"target"`
	TargetRevision string            `json:"target_revision"`
	Principal      string            `json:"principal"`
	Params         map[string]string `json:"params"`
	TTL            Seconds           `json:"ttl"`
	Start          string            `json:"start"` // RFC 3339 UTC, or ""
	Series         *Series           `json:"series,omitempty"`
	Extension      int               `json:"extension,omitempty"` // which ask for more time it is; the first is 1
}

// Digest is the SHA-256 of the canonical JSON, in hex.
func (s Sealed) Digest() string {
	if s.Params == nil {
		s.Params = map[string]string{}
	}
	return canonicalHash(s)
}
