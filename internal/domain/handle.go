package domain

import (
	"encoding/json"
	"errors"
	"fmt"
)

// MaxHandleBytes bounds an encoded handle: it travels in every lease.
const MaxHandleBytes = 4096

// Handle names all that one credential may have made at its target. It is all
// that a revocation needs besides the target: role, request and process may be
// gone. It never holds a secret.
type Handle struct {
	Provider   string          `json:"p"`           // target type: stored for ever
	V          int             `json:"v"`           // version of Data, set by the provider
	Target     string          `json:"t"`           // name of the target
	Place      string          `json:"l"`           // the place the target was when this was planned
	Credential CredentialID    `json:"c"`           // whose handle it is
	Shared     string          `json:"s,omitempty"` // key of an object that several credentials share; see claim records
	Data       json.RawMessage `json:"d,omitempty"` // the provider's own part
}

// Encode renders the handle for a lease or a record.
func (h Handle) Encode() (string, error) {
	w := renderer{b: make([]byte, 0, 256)}
	w.handle(&h)
	if w.err != nil {
		return "", fmt.Errorf("encode handle: %w", w.err)
	}
	if len(w.b) > MaxHandleBytes {
		return "", fmt.Errorf("handle of %d bytes is larger than %d", len(w.b), MaxHandleBytes)
	}
	return string(w.b), nil
}

// DecodeHandle reads what Encode wrote. Anything incomplete is an error: a
// revocation must never run on half a name.
func DecodeHandle(s string) (Handle, error) {
	var h Handle
	if len(s) > MaxHandleBytes {
		return h, errors.New("handle too large")
	}
	if err := json.Unmarshal([]byte(s), &h); err != nil {
		return Handle{}, errors.New("handle is not readable")
	}
	if h.Provider == "" || h.Target == "" || h.Credential == "" {
		return Handle{}, errors.New("handle is incomplete")
	}
	if _, err := ParseCredentialID(string(h.Credential)); err != nil {
		return Handle{}, errors.New("handle names no credential")
	}
	return h, nil
}
