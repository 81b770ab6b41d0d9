package gcp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
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
		return domain.Handle{}, contract.Refused("plan", "no_place", "the target has no pinned place yet")
	}
	_, n, err := p.planned(in)
	if err != nil {
		return domain.Handle{}, err
	}
	return remote.WithData(p.blank(in.Credential), n)
}

// blank is a handle of this target that names nothing yet.
func (p *Provider) blank(id domain.CredentialID) domain.Handle {
	return domain.Handle{Provider: Type, V: version, Target: p.target.Name, Place: p.target.Place, Credential: id}
}

// planned reads the role that an issue is for and names what it will make.
func (p *Provider) planned(in contract.Input) (role, names, error) {
	r, report := p.config.readRole(in.Fields)
	if !report.OK() {
		return r, names{}, contract.BadRole("plan", report)
	}
	if !domain.ValidID(string(in.Credential)) {
		return r, names{}, contract.BadHandle("plan", "names no credential")
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

// read checks that a handle is one of ours and decodes its data.
func (p *Provider) read(op string, h domain.Handle) (names, error) {
	own := p.blank("")
	return remote.ReadData(op, own, h, func(n names) bool { return n.sane(h.Credential) })
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
		return nil, contract.BadHandle("issue", "is of another credential")
	}
	r, want, err := p.planned(in)
	if err != nil {
		return nil, err
	}
	if have.Stage != "" {
		return nil, contract.BadHandle("issue", "was ended already")
	}
	bare := have
	bare.Known, bare.Given, bare.Key = "", false, ""
	if !remote.SameData(bare, want) {
		return nil, contract.BadHandle("issue", "was planned for other fields")
	}
	return &job{in: in, role: r, names: have, handle: h, save: save}, nil
}

// note checkpoints what was learnt, if it is anything new.
func (j *job) note(change func(*names)) (err error) {
	j.handle, j.names, err = remote.Note(j.handle, j.names, change, j.save)
	return err
}

// describe is how things at Google name what they are for; List reads it.
func (j *job) describe(target string) string {
	return fmt.Sprintf("pim target %s credential %s request %s", target, j.in.Credential, j.in.Request)
}
