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
	w := renderer{b: make([]byte, 0, 1024), canonical: true}
	w.text(`{"mount":`, s.Mount)
	w.text(`,"namespace":`, s.Namespace)
	w.text(`,"request":`, string(s.Request))
	w.text(`,"kind":`, s.Kind)
	w.text(`,"person":`, string(s.Person))
	w.text(`,"requester":`, s.Requester)
	w.text(`,"role":`, s.Role)
	w.text(`,"role_revision":`, s.RoleRevision)
	w.text(`,"target":`, s.Target)
	w.text(`,"target_revision":`, s.TargetRevision)
	w.text(`,"principal":`, s.Principal)
	if len(s.Params) > 0 {
		w.valueOK(`,"params":`, s.Params, true)
	} else {
		w.raw(`,"params":{}`)
	}
	w.number(`,"ttl":`, int64(s.TTL))
	w.text(`,"start":`, s.Start)
	w.valueOK(`,"series":`, s.Series, s.Series != nil)
	w.numberOK(`,"extension":`, int64(s.Extension))
	w.raw("}")
	return hashOf(w.b, w.err)
}
