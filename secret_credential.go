package pim

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// secretType is stored in every lease. It can never change: the host finds the
// code that revokes a lease by it.
const secretType = "pim_credential" //nolint:gosec // a name, no credential

// The lease's internal data: strings only, since numbers lose precision on
// their way through the host. The keys can never change either.
const (
	leaseVersion    = "v"
	leaseRequest    = "request_id"
	leaseCredential = "credential_id" //nolint:gosec // a name, no credential
	leaseNonce      = "nonce"
	leaseHandle     = "handle"
)

func (b *backend) credentialSecret() *framework.Secret {
	return &framework.Secret{
		Type:   secretType,
		Fields: map[string]*framework.FieldSchema{},
		Revoke: b.revokeLease,
	}
}

// leaseOf makes the lease of an answer. It is never renewable: a new read
// gives a new credential, and the window stays the window.
func (b *backend) leaseOf(a *access.Answer) (*lease, error) {
	handle, err := a.Lease.Handle.Encode()
	if err != nil {
		return nil, err
	}
	return &lease{secret: b.secret, ttl: a.TTL.Truncate(time.Second), internal: map[string]string{
		leaseVersion: "1", leaseRequest: string(a.Lease.Request), leaseCredential: string(a.Lease.Credential),
		leaseNonce: a.Lease.Nonce, leaseHandle: handle,
	}}, nil
}

// revokeLease is called by the host at the end of a lease, and again after an
// error. It needs nothing but the lease's own data.
func (b *backend) revokeLease(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	if req.Secret == nil {
		return nil, errors.New("the host sent no lease")
	}
	d, err := decodeLease(req.Secret.InternalData)
	if err != nil {
		return nil, err
	}
	return nil, b.access.LeaseEnded(ctx, d)
}

// decodeLease reads a lease's internal data. Anything missing is an error, so
// that the lease stays and somebody looks.
func decodeLease(internal map[string]any) (access.LeaseData, error) {
	text := func(key string) string { s, _ := internal[key].(string); return s }
	var d access.LeaseData
	if text(leaseVersion) != "1" {
		return d, errors.New("the lease was made by another version of this plugin")
	}
	var errs [3]error
	d.Request, errs[0] = domain.ParseRequestID(text(leaseRequest))
	d.Credential, errs[1] = domain.ParseCredentialID(text(leaseCredential))
	d.Handle, errs[2] = domain.DecodeHandle(text(leaseHandle))
	d.Nonce = text(leaseNonce)
	if err := errors.Join(errs[:]...); err != nil {
		return d, errors.New("the lease's data is incomplete")
	}
	return d, nil
}
