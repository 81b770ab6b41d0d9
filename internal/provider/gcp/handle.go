package gcp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// version of the handle's data.
const version = 1

// accountPrefix and a credential's id are the id of its account: 30
// characters, as many as Google allows.
const accountPrefix = "pim-"

// stageDelete is a remainder: access is gone, and the account is deleted when
// every token of it has ended.
const stageDelete = "delete"

// names is the provider's part of a handle.
type names struct {
	Kind string `json:"k"`
	End  int64  `json:"e"` // unix; from here on Google itself refuses
	// Own says that Account was made for the credential.
	Own       bool       `json:"o,omitempty"`
	Account   string     `json:"a,omitempty"` // e-mail address
	Principal string     `json:"m,omitempty"` // whom roles are granted to
	Resources []resource `json:"r,omitempty"` // where
	// Known is the account's unique id, from when Google has confirmed it.
	Known string `json:"u,omitempty"`
	// Given says that a token was asked for, or a key handed over.
	Given bool   `json:"g,omitempty"`
	Key   string `json:"y,omitempty"` // id of the key, once known
	Stage string `json:"s,omitempty"` // of a remainder
	Due   int64  `json:"d,omitempty"` // unix; when the remainder is due
}

func (n names) end() time.Time { return time.Unix(n.End, 0).UTC() }

// Plan implements contract.Provider. Every name can be known beforehand but
// the ids that Google gives to accounts and keys; none is shared: bindings of
// several credentials of one person stand beside each other.
func (p *Provider) Plan(_ context.Context, in contract.Input) (domain.Handle, error) {
	if p.target.Place == "" {
		return domain.Handle{}, refused("plan", "no_place", "the target has no pinned place yet")
	}
	_, n, err := p.planned(in)
	if err != nil {
		return domain.Handle{}, err
	}
	return with(domain.Handle{
		Provider: Type, V: version, Target: p.target.Name, Place: p.target.Place, Credential: in.Credential,
	}, n)
}

// planned reads the role that an issue is for and names what it will make.
func (p *Provider) planned(in contract.Input) (role, names, error) {
	r, report := p.config.readRole(in.Fields)
	if !report.OK() {
		return r, names{}, badRole("plan", report)
	}
	if !domain.ValidID(string(in.Credential)) {
		return r, names{}, badHandle("plan", "names no credential")
	}
	n := names{Kind: r.kind, End: in.NotAfter.Unix(), Account: r.existing}
	switch {
	case r.kind == kindBinding:
		principal, err := checkPrincipal(in.Principal)
		if err != nil {
			return r, n, err
		}
		n.Principal, n.Resources = principal, r.resources
	case r.own():
		n.Own, n.Account, n.Resources = true, p.ownAccount(in.Credential), r.resources
		n.Principal = memberAccount + ":" + n.Account
	}
	return r, n, nil
}

// ownAccount is the address of a credential's own account. Projects of old
// organizations are written back to front in it.
func (p *Provider) ownAccount(id domain.CredentialID) string {
	project := p.config.project
	if org, name, ok := strings.Cut(project, ":"); ok {
		project = name + "." + org
	}
	return accountPrefix + string(id) + "@" + project + ".iam.gserviceaccount.com"
}

func with(h domain.Handle, n names) (domain.Handle, error) {
	raw, err := json.Marshal(n)
	if err != nil {
		return domain.Handle{}, fmt.Errorf("encode handle data: %w", err)
	}
	h.Data = raw
	return h, nil
}

// read checks that a handle is one of ours and decodes its data.
func (p *Provider) read(op string, h domain.Handle) (names, error) {
	var n names
	switch {
	case h.Provider != Type || h.Target != p.target.Name:
		return n, badHandle(op, "is of another target")
	case h.V != version:
		return n, badHandle(op, "was written by a newer version of the plugin")
	case !domain.ValidID(string(h.Credential)):
		return n, badHandle(op, "names no credential")
	}
	dec := json.NewDecoder(bytes.NewReader(h.Data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&n); err != nil || !n.sane(h.Credential) {
		return n, badHandle(op, "is not readable")
	}
	return n, nil
}

// sane holds a handle to the forms that its parts have, since they become
// parts of paths.
func (n names) sane(id domain.CredentialID) bool {
	if !slices.Contains([]string{kindToken, kindKey, kindBinding}, n.Kind) || n.End == 0 || len(n.Resources) > maxResources {
		return false
	}
	for _, r := range n.Resources {
		if _, ok := r.kind(); !ok {
			return false
		}
	}
	if n.Key != "" && !keyIDForm.MatchString(n.Key) {
		return false
	}
	switch {
	case n.Kind == kindBinding:
		_, err := checkPrincipal(n.Principal)
		return err == nil
	case n.Own: // in which project shows when the place is proved
		return strings.HasPrefix(n.Account, accountPrefix+string(id)+"@") && accountForm.MatchString(n.Account) &&
			n.Principal == memberAccount+":"+n.Account
	}
	return accountForm.MatchString(n.Account)
}

// job is one issue on its way.
type job struct {
	in     contract.Input
	role   role
	names  names
	handle domain.Handle
	save   func(domain.Handle) error
}

// job puts input and handle together, which must say the same.
func (p *Provider) job(in contract.Input, h domain.Handle, have names, save func(domain.Handle) error) (*job, error) {
	if in.Credential != h.Credential {
		return nil, badHandle("issue", "is of another credential")
	}
	r, want, err := p.planned(in)
	if err != nil {
		return nil, err
	}
	if have.Stage != "" {
		return nil, badHandle("issue", "was ended already")
	}
	bare := have
	bare.Known, bare.Given, bare.Key = "", false, ""
	if !sameNames(bare, want) {
		return nil, badHandle("issue", "was planned for other fields")
	}
	return &job{in: in, role: r, names: have, handle: h, save: save}, nil
}

func sameNames(a, b names) bool {
	same := slices.Equal(a.Resources, b.Resources)
	a.Resources, b.Resources = nil, nil
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return same && errX == nil && errY == nil && bytes.Equal(x, y)
}

// note checkpoints what was learnt, if it is anything new.
func (j *job) note(change func(*names)) error {
	n := j.names
	change(&n)
	if sameNames(n, j.names) {
		return nil
	}
	h, err := with(j.handle, n)
	if err != nil {
		return err
	}
	if err := j.save(h); err != nil {
		return err
	}
	j.names, j.handle = n, h
	return nil
}

// describe is how things at Google name what they are for; List reads it.
func (j *job) describe(target string) string {
	return fmt.Sprintf("pim target %s credential %s request %s", target, j.in.Credential, j.in.Request)
}
