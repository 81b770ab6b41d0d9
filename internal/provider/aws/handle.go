package aws

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Type is the target type: stored for ever.
const Type = "aws"

const handleVersion = 1

// The credential types.
const (
	kindRole       = "assumed_role"
	kindUser       = "iam_user"
	kindFederation = "federation_token"
	kindCenter     = "identity_center"
)

// The stages of a remainder.
const (
	stageRecheck = "recheck" // the deny is looked at once more
	stagePrune   = "prune"   // the deny is taken out
)

// handleData is the provider's own part of a handle.
type handleData struct {
	Kind  string `json:"k"`
	End   int64  `json:"e"`           // unix; from here on the credential's own policy denies everything
	Stage string `json:"g,omitempty"` // of a remainder
	Again int64  `json:"a,omitempty"` // unix; when the remainder is due
	Since int64  `json:"i,omitempty"` // unix; when the deny was first asked for: the session is older

	Role  string   `json:"r,omitempty"` // name of the assumed role, with its ARN made from the place
	ARN   string   `json:"n,omitempty"` // of the assumed role, or of the federating user
	Chain []string `json:"c,omitempty"` // ARNs of the roles that the session may go on to
	// Unrevocable says that the role declared expiry_only: ending it early
	// does nothing.
	Unrevocable bool `json:"u,omitempty"`

	Path string `json:"h,omitempty"` // of an IAM user
	Key  string `json:"y,omitempty"` // access key id of an IAM user

	Assignment *assignment `json:"s,omitempty"`
	Made       bool        `json:"m,omitempty"` // an assignment that is about to be made, or was, by us
	Rail       string      `json:"l,omitempty"` // id of the service control policy that ends sessions
	SetName    string      `json:"t,omitempty"` // name of the permission set
	Lasts      int64       `json:"x,omitempty"` // seconds that a role session under the permission set can last
}

func (d handleData) end() time.Time   { return time.Unix(d.End, 0).UTC() }
func (d handleData) again() time.Time { return time.Unix(d.Again, 0).UTC() }

// with returns h with d as its data.
func with(h domain.Handle, d handleData) (domain.Handle, error) {
	raw, err := encodeJSON(d)
	if err != nil {
		return domain.Handle{}, fmt.Errorf("encode handle data: %w", err)
	}
	h.Data = raw
	return h, nil
}

// read checks that a handle is one that this target's provider made.
func (p *Provider) read(h domain.Handle) (handleData, error) {
	var d handleData
	if h.Provider != Type || h.V != handleVersion || h.Target != p.target.Name {
		return d, contract.Refused("read handle", "bad_handle", "the handle is not of this target")
	}
	in := json.NewDecoder(bytes.NewReader(h.Data))
	in.DisallowUnknownFields()
	if err := in.Decode(&d); err != nil || d.End == 0 {
		return d, contract.Refused("read handle", "bad_handle", "the handle is not readable")
	}
	switch d.Kind {
	case kindRole, kindUser, kindFederation, kindCenter:
		return d, nil
	}
	return d, contract.Refused("read handle", "bad_handle", "the handle is of an unknown kind")
}

// sessionName is the one name that everything of a credential has at AWS.
func sessionName(id domain.CredentialID) string { return sessionPrefix + string(id) }
