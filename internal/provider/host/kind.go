package host

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// The credential types.
const (
	kindLease = "lease"
	kindToken = "token"
	kindSSH   = "ssh"
	kindPKI   = "pki"
)

// kind is one credential type: everything that is not common to all of them.
// Each has a file of its own and a line in kinds.
type kind struct {
	name string
	// fields are the role fields that belong to this kind, besides the common
	// credential_type and token_role.
	fields []string
	// validate reports what is wrong with a role's fields, offline.
	validate func(r *contract.Report, role contract.Values, params []string)
	// revocation is what a role of this kind promises.
	revocation func(role contract.Values) domain.Revocation
	// policies are the ones that the credential's own token asks for; nil
	// leaves them to the token role.
	policies func(role contract.Values) []string
	// deliver makes the credential with the token that was made for it, and
	// records in the handle what it makes, before anything is handed out.
	deliver func(ctx context.Context, p *Provider, d *delivery) (secret.Map, time.Time, error)
	// grants are the policy lines that the login needs for a role, besides
	// those that every role needs.
	grants func(role contract.Values) []grant
	// childGrants are the lines that the policies of the token role need.
	childGrants func(role contract.Values) []grant

	// The rest is for kinds that make something besides lease and token; all of
	// it may be nil.

	// begin writes into the handle what can be known before anything is asked
	// for, and refuses what could never be issued. It runs at plan, where
	// asking is false, and again at issue on what the handle held before.
	begin func(in contract.Input, role contract.Values, asking bool, d *handleData) error
	// end ends what the handle names. The place has been proved.
	end func(ctx context.Context, p *Provider, d handleData) error
	// rest is what is left once everything was ended at now, and until when; a
	// zero time means nothing.
	rest func(d handleData, now time.Time) (handleData, time.Time)
	// probe asks the host whether the role can work.
	probe func(ctx context.Context, p *Provider, r *contract.Report, role contract.Values)
	// params reports what is wrong with a request's parameters.
	params func(r *contract.Report, role contract.Values, params map[string]string)
}

func kinds() []kind { return []kind{leaseKind(), tokenKind(), sshKind(), pkiKind()} }

func kindNames() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

func kindOf(name string) (kind, bool) {
	for _, k := range kinds() {
		if k.name == name {
			return k, true
		}
	}
	return kind{}, false
}

// delivery is one issue on its way: the token is made, recorded and approved.
type delivery struct {
	in         contract.Input
	role       contract.Values
	token      ownToken
	handle     domain.Handle
	data       handleData
	checkpoint func(domain.Handle) error
}

// record checkpoints the handle with its present data.
func (d *delivery) record() error {
	h, err := withData(d.handle, d.data)
	if err != nil {
		return err
	}
	if err := d.checkpoint(h); err != nil {
		return err
	}
	d.handle = h
	return nil
}
