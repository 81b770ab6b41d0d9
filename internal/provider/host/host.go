// Package host is the provider for the host's own API: it lets pim hand out
// what any engine of Vault or OpenBao leases, and tokens of the host itself.
//
// Every credential gets an orphan service token of its own. Its time to live is
// the access window, so access ends without us; its accessor is on record
// before the token is used; whatever it makes dies with it. The engine's own
// login may come and go meanwhile.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// All calls of one Issue or one Revoke together take at most ten seconds: a
// nested call during a step-down of the host blocks its whole timeout, and the
// failover waits for it.
const (
	issueBudget  = 8 * time.Second
	undoBudget   = 2 * time.Second // after a failed issue
	revokeBudget = 10 * time.Second
	leaseBudget  = 6 * time.Second // of that, for the child lease
)

const handleVersion = 1

// Provider speaks to one host.
type Provider struct {
	env    contract.Env
	target contract.Target
	client *client
	logins logins
}

var _ contract.Provider = (*Provider)(nil)

func open(env contract.Env, t contract.Target) (*Provider, error) {
	t.Fields = t.Fields.WithDefaults(targetFields())
	if r := checkTarget(env, t); !r.OK() {
		return nil, refuse("open", "bad_target", "the target's field "+r.Problems[0].Field+" is not valid")
	}
	c, err := newClient(env, t)
	if err != nil {
		return nil, fmt.Errorf("open host target: %w", err)
	}
	return &Provider{env: env, target: t, client: c}, nil
}

// handleData is the host's own part of a handle.
type handleData struct {
	Kind     string `json:"kind"`
	Accessor string `json:"accessor,omitempty"` // of the credential's own token
	Lease    string `json:"lease,omitempty"`    // id of the child lease

	SSH *sshData `json:"ssh,omitempty"`
	PKI *pkiData `json:"pki,omitempty"`
}

func withData(h domain.Handle, d handleData) (domain.Handle, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return domain.Handle{}, fmt.Errorf("encode handle data: %w", err)
	}
	h.Data = raw
	return h, nil
}

// read decodes a handle of this target. Doubt is an error.
func (p *Provider) read(h domain.Handle) (handleData, kind, error) {
	var d handleData
	if h.Provider != Type || h.V != handleVersion || h.Target != p.target.Name {
		return d, kind{}, refuse("read handle", "bad_handle", "the handle is not of this target, or of a newer version")
	}
	if err := json.Unmarshal(h.Data, &d); err != nil {
		return d, kind{}, refuse("read handle", "bad_handle", "the handle is not readable")
	}
	k, ok := kindOf(d.Kind)
	if !ok {
		return d, kind{}, refuse("read handle", "bad_handle", "the handle is of an unknown credential type")
	}
	return d, k, nil
}

// Place implements contract.Provider: the host's cluster id (sys/health, which
// needs no login), and the namespace where one is set, since accessors and
// leases are of a namespace.
func (p *Provider) Place(ctx context.Context) (string, error) {
	const op = "prove place"
	a, err := p.client.do(ctx, call{
		op: op, method: http.MethodGet, path: "sys/health", query: "standbyok=true&perfstandbyok=true", outside: true,
	})
	if err != nil {
		return "", err
	}
	if !a.Initialized || a.Sealed || a.ClusterID == "" {
		return "", &contract.Error{Op: op, Code: "not_ready", Public: "the host is sealed or does not tell its cluster id"}
	}
	if ns := p.client.namespace; ns != "" {
		return a.ClusterID + "/" + ns, nil
	}
	return a.ClusterID, nil
}

// prove asks the host which place it is and refuses any other than wanted and
// than the one the target is pinned to.
func (p *Provider) prove(ctx context.Context, op, wanted string) error {
	place, err := p.Place(ctx)
	if err != nil {
		return err
	}
	if place != wanted || place != p.target.Place {
		return contract.PlaceError(op)
	}
	return nil
}

// Plan implements contract.Provider. The host gives all names itself, so the
// plan names only whose they will be.
func (p *Provider) Plan(_ context.Context, in contract.Input) (domain.Handle, error) {
	role := normalize(in.Fields)
	if p.target.Place == "" {
		return domain.Handle{}, errors.New("plan: the target has no pinned place")
	}
	k, ok := kindOf(role.String("credential_type"))
	if !ok {
		return domain.Handle{}, refuse("plan", "bad_role", "the role has neither path nor token_policies")
	}
	data := handleData{Kind: k.name}
	if k.begin != nil {
		if err := k.begin(in, role, false, &data); err != nil {
			return domain.Handle{}, err
		}
	}
	return withData(domain.Handle{
		Provider: Type, V: handleVersion, Target: p.target.Name, Place: p.target.Place, Credential: in.Credential,
	}, data)
}

// Issue implements contract.Provider. What an earlier Issue with this handle
// made is ended first, so that one handle gives one access.
func (p *Provider) Issue(
	ctx context.Context, in contract.Input, h domain.Handle, checkpoint func(domain.Handle) error,
) (contract.Issued, error) {
	none := contract.Issued{}
	old, k, err := p.read(h)
	if err != nil {
		return none, err
	}
	role := normalize(in.Fields)
	if in.Credential != h.Credential || role.String("credential_type") != k.name {
		return none, refuse("issue", "bad_handle", "the handle is of another credential")
	}
	ttl := int64(in.NotAfter.Sub(p.env.Clock.Now()) / time.Second)
	if ttl < 1 {
		return none, refuse("issue", "window_ending", "less than a second of the window is left")
	}
	data := handleData{Kind: k.name, SSH: old.SSH, PKI: old.PKI}
	if k.begin != nil {
		if err := k.begin(in, role, true, &data); err != nil {
			return none, err
		}
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, issueBudget)
	defer cancel()
	if err := p.prove(ctx, "issue", h.Place); err != nil {
		return none, err
	}
	if err := p.end(ctx, k, old); err != nil {
		return none, err
	}
	token, err := p.createToken(ctx, in, role, k.policies(role), ttl)
	if err != nil {
		return none, err
	}
	data.Accessor = token.accessor
	d := &delivery{in: in, role: role, token: token, handle: h, checkpoint: checkpoint, data: data}
	out, err := p.deliver(ctx, k, d, ttl)
	if err != nil {
		p.undo(whole, k, d.data)
		return none, err
	}
	return out, nil
}

// deliver records the new token, has it approved, and lets the kind do the
// rest.
func (p *Provider) deliver(ctx context.Context, k kind, d *delivery, ttl int64) (contract.Issued, error) {
	if err := d.record(); err != nil {
		return contract.Issued{}, err
	}
	if err := p.approve(ctx, &d.token, d.in.Credential, k.policies(d.role), ttl); err != nil {
		return contract.Issued{}, err
	}
	data, notAfter, err := k.deliver(ctx, p, d)
	if err != nil {
		return contract.Issued{}, err
	}
	return contract.Issued{Handle: d.handle, Data: data, NotAfter: notAfter}, nil
}

// undo ends what a failed issue made, as far as the host lets us now. What is
// on record is ended by Revoke in any case; what is not on record was never
// used, is known to nobody and ends by its ttl.
func (p *Provider) undo(ctx context.Context, k kind, d handleData) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoBudget)
	defer cancel()
	if err := p.end(ctx, k, d); err != nil && p.env.Log != nil {
		p.env.Log.Warn("a failed issue could not be undone at once", "target", p.target.Name, "error", err)
	}
}

// Revoke implements contract.Provider.
func (p *Provider) Revoke(ctx context.Context, h domain.Handle) (contract.Ended, error) {
	d, k, err := p.read(h)
	if err != nil {
		return contract.Ended{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeBudget)
	defer cancel()
	if err := p.prove(ctx, "revoke", h.Place); err != nil {
		return contract.Ended{}, err
	}
	if err := p.end(ctx, k, d); err != nil {
		return contract.Ended{}, err
	}
	if k.rest == nil {
		return contract.Gone(), nil
	}
	left, again := k.rest(d, p.env.Clock.Now())
	if again.IsZero() {
		return contract.Gone(), nil
	}
	out := contract.Ended{AccessGone: true, Again: again}
	out.Rest, err = withData(h, left)
	return out, err
}

// end ends everything that a handle names: the child lease first and
// synchronously, so that an error of its engine is our error, then the token,
// always, so that it makes nothing more, then what else its kind made. The place
// must have been proved.
func (p *Provider) end(ctx context.Context, k kind, d handleData) error {
	var errs []error
	if d.Lease != "" {
		errs = append(errs, p.destroyLease(ctx, d.Lease))
	}
	if d.Accessor != "" {
		errs = append(errs, p.destroyToken(ctx, d.Accessor))
	}
	if k.end != nil {
		errs = append(errs, k.end(ctx, p, d))
	}
	return errors.Join(errs...)
}

// isAbsent tells whether the host said that there is no such lease.
func isAbsent(err error) bool { return errors.Is(err, errAbsent) }

// Close implements contract.Provider. The login is forgotten; it ends by its
// own ttl.
func (p *Provider) Close() error {
	p.logins.mu.Lock()
	p.logins.current = nil
	p.logins.mu.Unlock()
	p.client.close()
	return nil
}
