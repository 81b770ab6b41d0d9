package azure

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// version of the handle's data.
const version = 1

// namePrefix and a credential's id are the unique name of its application, and
// the name of its password.
const namePrefix = "pim-"

// stagePurge is a remainder: access is gone, and the deleted objects are to be
// purged.
const stagePurge = "purge"

// names is the provider's part of a handle.
type names struct {
	Kind  string       `json:"k"`
	End   int64        `json:"e"` // unix; when the secret ends by itself
	Roles []assignment `json:"r,omitempty"`
	Group []string     `json:"g,omitempty"`
	// Object is the object id of the application: learnt, or the existing one.
	Object string `json:"o,omitempty"`
	Client string `json:"a,omitempty"` // its client id, learnt
	// Principal is the requester's own account, or the service principal once
	// it is known.
	Principal string `json:"m,omitempty"`
	Key       string `json:"y,omitempty"` // id of the password, once known
	Purge     bool   `json:"p,omitempty"`
	// Timed says that Azure itself ends the role assignment: the name in Roles
	// is that of the request for it.
	Timed bool `json:"h,omitempty"`
	// Given says that a membership was about to be made by us, or that a
	// request for a timed assignment was taken; Foreign that a membership was there before
	// and is not ours.
	Given   bool   `json:"v,omitempty"`
	Foreign bool   `json:"f,omitempty"`
	Stage   string `json:"s,omitempty"` // of a remainder
	Due     int64  `json:"d,omitempty"` // unix; when the remainder is due
}

// guid makes a name in the form of a GUID that is the same for the same parts
// and nobody else's.
func guid(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8, as RFC 9562 has it
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Plan implements contract.Provider. Objects of the directory get their ids
// from Entra; their unique names and the assignments' can be known beforehand.
func (p *Provider) Plan(_ context.Context, in contract.Input) (domain.Handle, error) {
	if p.target.Place == "" {
		return domain.Handle{}, contract.Refused("plan", "no_place", "the target has no pinned place yet")
	}
	_, n, shared, err := p.planned(in)
	if err != nil {
		return domain.Handle{}, err
	}
	h := p.blank(in.Credential)
	h.Shared = shared
	return remote.WithData(h, n)
}

// blank is a handle of this target that names nothing yet.
func (p *Provider) blank(id domain.CredentialID) domain.Handle {
	return domain.Handle{Provider: Type, V: version, Target: p.target.Name, Place: p.target.Place, Credential: id}
}

// planned reads the role that an issue is for and names what it will make.
func (p *Provider) planned(in contract.Input) (r role, n names, shared string, err error) {
	r, report := p.config.readRole(in.Fields)
	if !report.OK() {
		return r, n, "", contract.BadRole("plan", report)
	}
	if !domain.ValidID(string(in.Credential)) {
		return r, n, "", contract.BadHandle("plan", "names no credential")
	}
	n = names{Kind: r.kind, End: in.NotAfter.Unix(), Object: r.object, Group: r.groups, Purge: r.purge}
	own := r.kind == kindAssignment || r.kind == kindMember
	if own && !principalForm.MatchString(in.Principal) {
		return r, n, "", contract.Refused("plan", "bad_principal", "there is no account at Entra to elevate")
	}
	seed := string(in.Credential)
	switch r.kind {
	case kindAssignment:
		n.Principal = in.Principal
		seed = in.Principal
		shared = guid(kindAssignment, in.Principal, r.grants[0].role, strings.ToLower(r.grants[0].scope))
		if n.Timed = r.timed; r.timed { // a request's name cannot be used again
			seed = string(in.Credential)
			shared = timedKey(in.Principal, r.grants[0].role, r.grants[0].scope)
		}
	case kindMember:
		n.Principal = in.Principal
		shared = guid(kindMember, in.Principal, r.groups[0])
	}
	for _, g := range r.grants {
		n.Roles = append(n.Roles, assignment{
			Scope: g.scope, Role: g.role, Name: guid(p.target.Place, p.target.Tag(), seed, g.role, strings.ToLower(g.scope)),
		})
	}
	return r, n, shared, nil
}

// timedKey is the shared key of an account's timed assignment.
func timedKey(who, role, scope string) string {
	return guid("timed "+kindAssignment, who, role, strings.ToLower(scope))
}

// read checks that a handle is one of ours and decodes its data.
func (p *Provider) read(op string, h domain.Handle) (names, error) {
	return remote.ReadData(op, p.blank(""), h, names.sane)
}

// sane holds a handle to the forms that its parts have, since they become
// parts of paths.
func (n names) sane() bool {
	if !slices.Contains([]string{kindPrincipal, kindPassword, kindAssignment, kindMember}, n.Kind) || n.End == 0 {
		return false
	}
	for _, id := range []string{n.Object, n.Client, n.Key} {
		if id != "" && !guidForm.MatchString(id) {
			return false
		}
	}
	for _, a := range n.Roles {
		if !scopeForm.MatchString(a.Scope) || !guidForm.MatchString(a.Role) || !guidForm.MatchString(a.Name) {
			return false
		}
	}
	if slices.ContainsFunc(n.Group, func(g string) bool { return !guidForm.MatchString(g) }) {
		return false
	}
	own := n.Kind == kindAssignment || n.Kind == kindMember
	return (n.Principal == "" && !own) || principalForm.MatchString(n.Principal)
}

// job is one issue on its way.
type job struct {
	in     contract.Input
	role   role
	names  names
	handle domain.Handle
	save   func(domain.Handle) error
}

// job reads input and handle, which must say the same.
func (p *Provider) job(in contract.Input, h domain.Handle, save func(domain.Handle) error) (*job, error) {
	have, err := p.read("issue", h)
	if err != nil {
		return nil, err
	}
	if in.Credential != h.Credential {
		return nil, contract.BadHandle("issue", "is of another credential")
	}
	if h.Place != p.target.Place {
		return nil, contract.PlaceError("issue")
	}
	if have.Stage != "" {
		return nil, contract.BadHandle("issue", "was ended already")
	}
	r, want, shared, err := p.planned(in)
	if err != nil {
		return nil, err
	}
	bare := have
	bare.Client, bare.Key, bare.Given, bare.Foreign = "", "", false, false
	bare.Object, bare.Principal = want.Object, want.Principal
	if !remote.SameData(bare, want) || h.Shared != shared || (want.Object != "" && have.Object != want.Object) ||
		(want.Principal != "" && have.Principal != want.Principal) {
		return nil, contract.BadHandle("issue", "was planned for other fields")
	}
	return &job{in: in, role: r, names: have, handle: h, save: save}, nil
}

// note checkpoints what was learnt, if it is anything new.
func (j *job) note(change func(*names)) (err error) {
	j.handle, j.names, err = remote.Note(j.handle, j.names, change, j.save)
	return err
}

func (j *job) end() time.Time { return time.Unix(j.names.End, 0).UTC() }

// pending is the answer that the credential is not usable yet.
func (j *job) pending() contract.Issued {
	return contract.Issued{Handle: j.handle, PollAfter: pollAfter}
}
